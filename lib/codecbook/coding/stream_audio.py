"""Audio on its way into a stream and out of it, piece by piece."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs import Codec
from codecbook.coding.stream_damage import Damage
from codecbook.coding.stream_header import StreamHeader
from codecbook.errors import CorruptInput
from codecbook.files import new_file, refuse_existing_file

_READ_SAMPLES = 1 << 18
_WRITE_SAMPLES = 1 << 16
_WHOLE_SAMPLES = 1 << 20  # a file this short is read at once, with all that `audio.load` knows of odd ones
_log = logging.getLogger(__name__)


def audio_blocks(path: str | Path, sample_rate_hz: int, channels: int) -> Iterator[np.ndarray]:
    """Read a recording piece by piece, at a codec's rate and channels: what `audio.load` and `audio.convert` give.

    Args:
        path: As for `codecbook.audio.load`.
        sample_rate_hz: Of the codec.
        channels: Of the codec.

    Yields:
        float32 ``[C, S]``.

    Raises:
        CorruptInput: As `codecbook.audio.load`.
        UnsupportedInput: As `codecbook.audio.convert`.
    """
    try:
        with soundfile.SoundFile(path) as file:
            promised, rate_hz = file.frames, file.samplerate
    except (RuntimeError, TypeError, OSError):
        promised, rate_hz = 0, sample_rate_hz
    if promised <= _WHOLE_SAMPLES:
        yield audio.convert(audio.load(path), sample_rate_hz, channels).samples
        return
    probe = Clip(np.zeros((channels, 1024), dtype=np.float32), rate_hz)
    audio.convert(probe, sample_rate_hz)  # refuses rates that lie too far apart
    converter = None
    if rate_hz != sample_rate_hz:
        converter = soxr.ResampleStream(rate_hz, sample_rate_hz, channels, dtype="float32", quality="VHQ")
    for samples, is_last in _with_end(_file_blocks(Path(path), promised)):
        block = audio.convert(
            audio.clip_from_array(samples.T, rate_hz, Path(path).stem), channels=channels
        ).samples
        if converter is not None:
            block = converter.resample_chunk(np.ascontiguousarray(block.T), last=is_last)
            block = block.reshape(-1, channels).T
        yield np.ascontiguousarray(block, dtype=np.float32)


def _file_blocks(path: Path, promised: int) -> Iterator[np.ndarray]:
    count = 0
    try:
        with soundfile.SoundFile(path) as file:
            while len(samples := file.read(_READ_SAMPLES, dtype="float32", always_2d=True)):
                count += len(samples)
                yield samples
    except RuntimeError as error:
        raise CorruptInput(f"{path} could not be read as audio ({error}); copy it again.") from error
    if promised - count > audio.HEADER_SLACK_SAMPLES:
        raise CorruptInput(
            f"{path} is truncated: {promised} samples are promised, {count} can be read; copy it again."
        )


def _with_end(blocks: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    held = next(blocks, None)
    for block in blocks:
        assert held is not None
        yield held, False
        held = block
    if held is not None:
        yield held, True


def silent_ranges(header: StreamHeader, damage: Iterable[Damage], codec: Codec) -> list[tuple[int, int]]:
    """Return the samples that damaged segments stand for, as half-open ranges in order."""
    rate_hz = codec.sample_rate_hz
    ranges = []
    for part in damage:
        end_row = part.first_row + part.num_rows
        # to the end of the audio, whose last samples may be a little after the last row's
        end = 1 << 62 if end_row >= header.num_rows else round(header.start_of_row(end_row) * rate_hz)
        ranges.append((round(header.start_of_row(part.first_row) * rate_hz), end))
    return ranges


def silence(pieces: Iterable[np.ndarray], ranges: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Put zeros where codes are lost.

    Args:
        pieces: float32 ``[C, S]``, in order.
        ranges: Half-open, in samples.
    """
    place = 0
    for piece in pieces:
        end = place + piece.shape[1]
        hit = [(max(a, place) - place, min(b, end) - place) for a, b in ranges if a < end and b > place]
        if hit:
            piece = piece.copy()
            for a, b in hit:
                piece[:, a:b] = 0.0
        yield piece
        place = end


def check_target(path: str | Path, overwrite: bool = False) -> None:
    """Refuse before any long work what `write_audio` would refuse after it.

    Raises:
        UnsupportedInput: A name of no audio format.
        CodecbookError: The file exists and `overwrite` is False, or a folder is in its place.
    """
    audio.write_format(path)
    refuse_existing_file(path, overwrite)


def write_audio(
    pieces: Iterable[np.ndarray],
    sample_rate_hz: int,
    channels: int,
    path: str | Path,
    overwrite: bool = False,
) -> int:
    """Write pieces of audio as `codecbook.audio.save` writes a clip.

    Returns:
        How many samples per channel were written.

    Raises:
        CodecbookError: As `codecbook.audio.save`.
        OSError: As `codecbook.audio.save`.
    """
    path = Path(path)
    file_format, subtype = audio.write_format(path)
    count = beyond = 0
    with new_file(path, overwrite) as partial:
        try:
            with soundfile.SoundFile(
                partial, "w", sample_rate_hz, channels, subtype, format=file_format
            ) as file:
                for piece in pieces:
                    beyond += int(np.count_nonzero(np.abs(piece) > 1.0))
                    samples = np.clip(piece.T, -1.0, 1.0)
                    for start in range(0, len(samples), _WRITE_SAMPLES):
                        file.write(samples[start : start + _WRITE_SAMPLES])
                    count += len(samples)
        except soundfile.LibsndfileError as error:
            raise audio.write_failure(error, partial, path, sample_rate_hz, channels) from error
    if beyond:
        _log.warning("%d samples were beyond full scale and clipped in %s", beyond, path)
    return count
