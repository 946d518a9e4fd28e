"""Export recordings as tokens: many files, long files, interrupted and resumed.

    reports = export(find_recordings(["music/**/*.mp3"]), codec, Path("tokens"))

Long recordings go through the codec in chunks. Where a codec joins them by its own state or by overlap, tokens do not
depend on the chunks, up to rounding in the last bits of a latent; so the beginning of every longer file is also
encoded in one pass, and the report states how many tokens around the first seam differ.
"""

import csv
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.codecs.recordings import Recording
from codecbook.codecs.token_files import FORMATS, is_complete, read_companion, write_with_companion
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.files import write_file
from codecbook.tokens.tokens import Tokens

# of a file that needs two chunks or more, the first two are run in one pass, and what lies half a chunk from the
# end of these is compared: that far from a cut, every network here has all that it looks ahead to
_CHECK_CHUNKS, _COMPARED_CHUNKS = 2.0, 1.5


@dataclass(frozen=True)
class FileReport:
    """What became of one recording.

    Attributes:
        source: Path of the recording.
        status: ``"exported"``, ``"skipped"`` (it was complete already) or ``"failed"``.
        error: Why it failed.
        output: Path of the tokens.
        codec: Registry name.
        weights: Where the weights are from.
        weights_sha256: Of the weights.
        sample_rate_hz: Of the coded audio.
        channels: Of the coded audio.
        duration_s: Of the recording.
        frame_rates_hz: Per codebook.
        frames: Codes per codebook.
        header_bytes: Size of the token file's description of itself.
        file_bytes: Size of the token file.
        source_bytes: Size of the recording's file.
        pcm16_bytes: Size of the recording as 16-bit PCM, at its own rate and channels.
        ratio_to_pcm16: `pcm16_bytes` over `file_bytes`.
        ratio_to_source: `source_bytes` over `file_bytes`.
        bitrate_kbps: Of the token file over the duration.
        encode_s: Time that encoding took, without reading and resampling.
        seam_tokens_checked: Tokens around the first seam that were compared with those of one pass.
        seam_tokens_differing: How many of them differ.
    """

    source: str
    status: str
    error: str = ""
    output: str = ""
    codec: str = ""
    weights: str = ""
    weights_sha256: str = ""
    sample_rate_hz: int = 0
    channels: int = 0
    duration_s: float = 0.0
    frame_rates_hz: tuple[float, ...] = ()
    frames: tuple[int, ...] = ()
    header_bytes: int = 0
    file_bytes: int = 0
    source_bytes: int = 0
    pcm16_bytes: int = 0
    ratio_to_pcm16: float = 0.0
    ratio_to_source: float = 0.0
    bitrate_kbps: float = 0.0
    encode_s: float = 0.0
    seam_tokens_checked: int = 0
    seam_tokens_differing: int = 0


def export(
    recordings: Iterable[Recording],
    codec: Codec,
    outdir: Path,
    *,
    file_format: str = "npq",
    bandwidth_kbps: float | None = None,
    num_codebooks: int | None = None,
    chunk_s: float | None = None,
    on_report: Callable[[FileReport], None] = lambda report: None,
) -> list[FileReport]:
    """Export recordings; one that fails is reported, and the others go on.

    The summary ``export.json`` and ``export.csv`` in `outdir` is written at the end, also of an export that is
    interrupted; called again, it skips what is complete and was made with the same settings.

    Args:
        recordings: Of `find_recordings`.
        codec: Recordings are resampled to its rate; stereo is averaged for a mono codec, mono doubled for stereo.
        outdir: Made if it does not exist.
        file_format: ``"npq"`` or ``"parquet"``.
        bandwidth_kbps: As in `Codec.encode`.
        num_codebooks: As in `Codec.encode`.
        chunk_s: As in `Codec.encode`.
        on_report: Called after every file.

    Raises:
        UnsupportedInput: Settings that hold for no recording: format, bandwidth, codebooks, chunks.
    """
    count = _checked_settings(codec, file_format, bandwidth_kbps, num_codebooks, chunk_s)
    settings = {
        "codec": codec.name,
        "weights": str(codec.weights),
        "weights_sha256": codec.weights.sha256,
        "num_codebooks": count,
        "bandwidth_kbps": bandwidth_kbps,
        "chunk_s": chunk_s,
    }
    reports: list[FileReport] = []
    try:
        for recording in recordings:
            reports.append(
                _export_or_fail(recording, codec, outdir / f"{recording.name}.{file_format}", settings)
            )
            on_report(reports[-1])
    finally:
        write_summary(outdir, reports)
    return reports


def _export_or_fail(recording: Recording, codec: Codec, output: Path, settings: dict[str, Any]) -> FileReport:
    try:
        return _export_one(recording.path, codec, output, settings)
    except (
        CodecbookError,
        OSError,
        MemoryError,
        RuntimeError,
    ) as error:  # torch without memory: RuntimeError
        reason = " ".join(str(error).split()) or repr(error)
        return FileReport(str(recording.path), "failed", error=reason)


def _checked_settings(
    codec: Codec,
    file_format: str,
    bandwidth_kbps: float | None,
    num_codebooks: int | None,
    chunk_s: float | None,
) -> int:
    """Return the number of codebooks, having tried all settings on an empty batch."""
    if file_format not in FORMATS:
        raise UnsupportedInput(f"file_format={file_format!r}; choose one of {', '.join(FORMATS)}.")
    codec.encode_batch([], bandwidth_kbps, num_codebooks=num_codebooks, chunk_s=chunk_s)
    count = codec.num_codebooks_at(bandwidth_kbps) if num_codebooks is None else num_codebooks
    if file_format == "npq" and len(set(codec.frame_rates_hz[:count])) > 1:
        raise UnsupportedInput(
            f"NPQ holds codebooks of one rate, and {codec.name} has several; choose parquet."
        )
    return count


def _export_one(source: Path, codec: Codec, output: Path, settings: dict[str, Any]) -> FileReport:
    stat = source.stat()
    settings = {
        **settings,
        "source": str(source),
        "source_bytes": stat.st_size,
        "source_mtime_ns": stat.st_mtime_ns,
    }
    if companion := is_complete(output, settings):
        return _report_of(companion.report, "skipped")
    original = audio.load(source)
    clip = audio.convert(original, codec.sample_rate_hz, codec.channels)
    chunk_s = settings["chunk_s"]
    start_s = time.perf_counter()
    tokens = codec.encode(clip, num_codebooks=settings["num_codebooks"], chunk_s=chunk_s)
    encode_s = time.perf_counter() - start_s
    checked, differing = check_seams(codec, clip, tokens, chunk_s)
    tokens = dataclasses.replace(
        tokens,
        bandwidth_kbps=settings["bandwidth_kbps"] or tokens.bandwidth_kbps,
        source_bitrate_kbps=stat.st_size * 8 / original.duration_s / 1000,
    )
    report = dataclasses.replace(
        _describe(codec, tokens, original, source),
        output=str(output),
        encode_s=encode_s,
        seam_tokens_checked=checked,
        seam_tokens_differing=differing,
    )
    write_with_companion(output, tokens, settings, dataclasses.asdict(report))
    written = read_companion(output)
    assert written is not None
    return _report_of(written.report, "exported")


def _describe(codec: Codec, tokens: Tokens, original: Clip, source: Path) -> FileReport:
    return FileReport(
        source=str(source),
        status="exported",
        codec=codec.name,
        weights=str(codec.weights),
        weights_sha256=codec.weights.sha256,
        sample_rate_hz=codec.sample_rate_hz,
        channels=codec.channels,
        duration_s=original.duration_s,
        frame_rates_hz=tokens.frame_rates_hz,
        frames=tuple(len(codes) for codes in tokens.codes),
        source_bytes=source.stat().st_size,
        pcm16_bytes=2 * original.num_channels * original.num_samples,
    )


def _report_of(values: dict[str, Any], status: str) -> FileReport:
    """Make a report from a companion, with what follows from the size of the token file."""
    try:
        report = FileReport(**{**values, "status": status})
    except TypeError as error:
        raise CorruptInput(
            f"The report in a companion file is damaged ({error}); remove the file."
        ) from error
    return dataclasses.replace(
        report,
        frame_rates_hz=tuple(report.frame_rates_hz),
        frames=tuple(report.frames),
        ratio_to_pcm16=report.pcm16_bytes / report.file_bytes,
        ratio_to_source=report.source_bytes / report.file_bytes,
        bitrate_kbps=report.file_bytes * 8 / report.duration_s / 1000,
    )


def check_seams(codec: Codec, clip: Clip, tokens: Tokens, chunk_s: float | None) -> tuple[int, int]:
    """Compare the tokens around a clip's first seam with those of one pass.

    Args:
        codec: That made the tokens.
        clip: The whole clip.
        tokens: Of it, made with `chunk_s`.
        chunk_s: As in `Codec.encode`.

    Returns:
        How many tokens were compared, and how many of them differ; 0 where there is no seam, or where the codec's
        own segments are the chunks.
    """
    chunk_s = chunk_s or codec.chunk_s
    if (
        codec.seams not in ("state", "context")
        or chunk_s is None
        or clip.duration_s < _CHECK_CHUNKS * chunk_s
    ):
        return 0, 0
    head_samples = round(_CHECK_CHUNKS * chunk_s * clip.sample_rate_hz)
    head = dataclasses.replace(clip, samples=clip.samples[:, :head_samples])
    whole = codec.encode(head, num_codebooks=tokens.num_codebooks, chunk_s=head.duration_s)
    checked = differing = 0
    for made, expected, rate_hz in zip(tokens.codes, whole.codes, tokens.frame_rates_hz, strict=True):
        count = int(_COMPARED_CHUNKS * chunk_s * rate_hz)
        checked += count
        differing += int(np.count_nonzero(made[:count] != expected[:count]))
    return checked, differing


def write_summary(outdir: Path, reports: Sequence[FileReport]) -> None:
    """Write ``export.json`` and ``export.csv``, one entry per recording."""
    rows = [dataclasses.asdict(report) for report in reports]
    write_file(outdir / "export.json", (json.dumps(rows, indent=2) + "\n"), overwrite=True)
    lines: list[str] = []
    writer = csv.DictWriter(_Lines(lines), [field.name for field in dataclasses.fields(FileReport)])
    writer.writeheader()
    for row in rows:
        # lists as "75;75", so that a spreadsheet shows them as text
        writer.writerow(
            {k: ";".join(f"{x:g}" for x in v) if isinstance(v, tuple) else v for k, v in row.items()}
        )
    write_file(outdir / "export.csv", "".join(lines), overwrite=True)


class _Lines:
    """The part of a text file that csv writes to."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, line: str) -> None:
        self._lines.append(line)
