"""Audio as it comes: recordings read piece by piece, and blocks taken in other lengths than they have."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr

from codecbook import audio
from codecbook.audio_files import AudioFile
from codecbook.codecs.exact import resample
from codecbook.codecs.exact.resample import ExactResampler
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.paths import path_as_text

_WHOLE_SAMPLES = 1 << 20  # a file this short is read at once, with all that `audio.load` knows of odd ones


class AudioBlocks:
    """What `audio.load` and `audio.convert` give of a file, as float32 blocks ``[C, S]``; iterate over it once.

    With `exact`, another rate is resampled in integers, as `codecbook.codecs.exact.resample` does.

    Attributes:
        source_channels: Of the file, once a block has come.
        source_samples: Samples per channel of the file that have been read.
    """

    def __init__(self, path: str | Path, sample_rate_hz: int, channels: int, exact: bool = False) -> None:
        self._path = Path(path)
        self._exact = exact
        self._sample_rate_hz = sample_rate_hz
        self._channels = channels
        self._source_rate_hz = self.source_channels = self.source_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        with AudioFile(self._path) as file:
            self._source_rate_hz, self.source_channels = file.sample_rate_hz, file.channels
            if file.promised_samples is None or file.promised_samples > _WHOLE_SAMPLES:
                yield from self._streamed(file)
                return
        clip = audio.load(self._path)
        self.source_samples = clip.num_samples
        convert = resample.convert if self._exact else audio.convert
        yield convert(clip, self._sample_rate_hz, self._channels).samples

    @property
    def source_duration_s(self) -> float:
        """Seconds of the file that have been read."""
        return self.source_samples / self._source_rate_hz

    def _streamed(self, file: AudioFile) -> Iterator[np.ndarray]:
        converter, mix, name = None, audio.Mix(), path_as_text(self._path.stem)
        for samples in file.blocks():
            clip = audio.clip_from_array(samples.T, file.sample_rate_hz, name)
            if converter is None and clip.sample_rate_hz != self._sample_rate_hz:
                converter = self._converter(clip.sample_rate_hz)
            self.source_samples += clip.num_samples
            is_mixed = self._channels == 1 < clip.num_channels
            block = mix(clip.samples) if is_mixed else audio.convert(clip, channels=self._channels).samples
            if converter is not None:
                block = converter.resample_chunk(np.ascontiguousarray(block.T)).reshape(-1, self._channels).T
            yield np.ascontiguousarray(block)
        if not self.source_samples:
            raise CorruptInput(f"{path_as_text(self._path)} holds no samples; record or export it again.")
        if converter is not None:
            rest = converter.resample_chunk(np.zeros((0, self._channels), dtype=np.float32), last=True)
            yield np.ascontiguousarray(rest.reshape(-1, self._channels).T)
        mix.warn_if_cancelled(name)

    def _converter(self, from_hz: int) -> ExactResampler | soxr.ResampleStream:
        audio.check_rates(from_hz, self._sample_rate_hz)
        rates_and_channels = from_hz, self._sample_rate_hz, self._channels
        if self._exact:
            return ExactResampler(*rates_and_channels)
        return soxr.ResampleStream(*rates_and_channels, dtype="float32", quality="VHQ")


class BlockQueue:
    """Blocks ``[C, T]`` of audio or of codes, to be taken in other lengths; read no further than is asked for.

    Attributes:
        num_samples: ``T`` of all that have come.
    """

    def __init__(self, blocks: Iterable[np.ndarray], channels: int) -> None:
        self._blocks = iter(blocks)
        self._channels = channels
        self._held = np.zeros((channels, 0), dtype=np.float32)
        self.num_samples = 0

    def has(self, count: int) -> bool:
        """Read on until `count` samples are held; say whether there are that many."""
        held, parts = self._held.shape[1], [self._held] if self._held.size else []
        while held < count and (block := next(self._blocks, None)) is not None:
            if block.ndim != 2 or block.shape[0] != self._channels:
                raise UnsupportedInput(f"A block is {list(block.shape)}, not [{self._channels}, S]; convert the audio.")
            parts.append(block)
            held += block.shape[1]
            self.num_samples += block.shape[1]
        if parts:
            self._held = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return held >= count

    def peek(self, count: int) -> np.ndarray:
        """Return the next `count` samples, or what is left."""
        self.has(count)
        return self._held[:, :count]

    def drop(self, count: int) -> None:
        """Leave out the next `count` samples."""
        self._held = self._held[:, count:]

    def rest(self) -> np.ndarray:
        """Take all that is left."""
        samples = self.peek(1 << 62)
        self.drop(1 << 62)
        return samples

    def pieces(self, chunk: int) -> Iterator[np.ndarray]:
        """Take pieces of `chunk` samples, the last one being up to twice as long.

        No piece is shorter than `chunk` unless all there is is: networks pad at the ends by reflection, which needs
        some samples, and short matrix products may be summed in another order than long ones.
        """
        while self.has(2 * chunk):
            yield self.peek(chunk)
            self.drop(chunk)
        yield self.rest()

    def pieces_in_context(self, chunk: int, align: int, context: int) -> Iterator[tuple[np.ndarray, int, int]]:
        """Take pieces with what is around them, for a network that looks ahead and pads to a multiple of `align`.

        Outputs near a cut depend on zeros that the network pads with; so `context` on either side, the receptive field
        or more, is run along, and its outputs are dropped. All lengths are multiples of `align`; the last piece, once
        it is padded, is up to twice as long as `chunk`.

        Yields:
            Samples ``[C, T]``; where in them the piece begins; where it ends, which of the last one is after padding.
        """
        start = 0
        while self.has(start + 2 * chunk - align + 1):
            end = start + chunk
            yield self.peek(end + context), start, end
            self.drop(max(0, end - context))
            start = min(end, context)
        samples = self.rest()
        yield samples, start, samples.shape[1] + -samples.shape[1] % align


def counted(
    pieces: Iterable[np.ndarray],
    sample_rate_hz: int,
    total_s: float | None,
    on_progress: Callable[[float, float | None], None],
) -> Iterator[np.ndarray]:
    """Yield pieces ``[C, S]``, and after each tell the seconds so far, and `total_s`."""
    count = 0
    for piece in pieces:
        yield piece
        count += piece.shape[1]
        on_progress(count / sample_rate_hz, total_s)


def promised_duration_s(path: str | Path) -> float | None:
    """Return how long a recording says that it is; None where it says nothing, or cannot be read."""
    try:
        with AudioFile(path) as file:
            return None if file.promised_samples is None else file.promised_samples / file.sample_rate_hz
    except (CodecbookError, OSError):  # the reader will say what is wrong with it
        return None
