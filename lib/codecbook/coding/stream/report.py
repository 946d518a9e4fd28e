"""What there is to say of a stream: looked at (`inspect`), or checked to its last code (`verify`)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from codecbook.coding.stream import models as stream_models
from codecbook.coding.stream.header import StreamHeader
from codecbook.coding.stream.locate import StreamLike
from codecbook.coding.stream.models import LMLike
from codecbook.coding.stream.reader import Damage, StreamReader

Progress = Callable[[float, float | None], None]
"""Takes the seconds of audio that are done, and of all where that is known."""


@dataclass(frozen=True)
class StreamReport:
    """What was done with a file."""

    path: Path | None  # of the file that was written, or looked at
    num_bytes: int  # of the stream
    duration_s: float  # of the audio
    header: StreamHeader
    segments: tuple[tuple[int, int, int], ...]  # offset, end, rows of each segment that was found
    damage: tuple[Damage, ...]  # of a stream that was looked at alone, what is known without decoding it
    notes: tuple[str, ...]  # what is wrong with parts that are there twice

    @property
    def bitrate_kbps(self) -> float:
        """Bits of the whole stream per second of audio, in kbps."""
        return self.num_bytes * 8 / 1000 / self.duration_s if self.duration_s else 0.0


def inspect(stream: StreamLike) -> StreamReport:
    """Say what a stream is, without its weights; headers are checked, payloads are not.

    Segments that are missing, or whose headers are damaged, are in the report's ``damage``.

    Raises:
        CorruptInput: No stream, or no copy of its header can be read.
        UnsupportedInput: A later version.
    """
    with StreamReader(stream) as reader:
        damage = tuple(part.damage for part in reader.outline() if part.damage)
        return report_of(reader, Path(stream) if isinstance(stream, str | Path) else None, damage)


def verify(stream: StreamLike, *, lm: LMLike = "default", on_progress: Progress | None = None) -> StreamReport:
    """Decode all codes of a stream and make every check; no audio, no codec.

    `lm` is the language model, where it is not found by name; `on_progress` is called after each segment.

    Raises:
        CorruptInput: No stream, or no copy of its header can be read.
        UnsupportedInput: A later version, or another language model.
        MissingWeights: The language model is not here.
    """
    with StreamReader(stream) as reader:
        reader.model = stream_models.lm_of(reader.header, lm)
        damage: list[Damage] = []
        note, longest = (), reader.header.codec_segment_frames
        for segment in reader.segments():
            damage += [segment.damage] if segment.damage else []
            frames = segment.content.codec_segment_frames if segment.content else ()
            if frames and frames[0] > longest:
                note = (
                    f"Segment {segment.index} begins with a longer segment of the codec than the one before it; times "
                    "from there on are wrong.",
                )
            longest = frames[-1] if frames else longest
            if on_progress is not None:
                end_s = reader.header.start_of_row(segment.first_row + segment.num_rows)
                on_progress(end_s, reader.header.duration_s)
        report = report_of(reader, Path(stream) if isinstance(stream, str | Path) else None, tuple(damage))
        return replace(report, notes=(*report.notes, *note))


def report_of(reader: StreamReader, path: Path | None, damage: tuple[Damage, ...]) -> StreamReport:
    """Return the report on a stream that is open."""
    return StreamReport(
        path=path,
        num_bytes=reader.num_bytes,
        duration_s=reader.header.duration_s,
        header=reader.header,
        segments=tuple(reader.segment_bytes()),
        damage=damage,
        notes=reader.notes,
    )
