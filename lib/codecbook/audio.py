"""Clips: load, check, convert, measure the loudness of, and save audio.

A `Clip` is a float32 array ``[C, S]`` with its sampling rate. Resampling is done by soxr at its highest
quality (linear phase, as the codecs' training pipelines use); files are written by libsndfile, and read as
`codecbook.audio_files` does.
"""

import errno
import logging
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from codecbook.audio_files import AudioFile
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import new_file, write_error
from codecbook.paths import path_as_text

_WRITE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# libsndfile's Vorbis encoder keeps a whole call's samples on the stack: a minute at a time is safe, ten crash
_WRITE_BLOCK_SAMPLES = 65536
_SYSTEM_ERROR = 2  # of libsndfile: SF_ERR_SYSTEM
_MAX_RATE_RATIO = 256
_CANCELLED = 1e-4  # of the channels' energy, 40 dB below them
_LOUDNESS_BLOCK_S = 0.4
_LOUDNESS_MIN_RATE_HZ = 4000  # the shelf of the K weighting lies at 1.7 kHz

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A waveform."""

    samples: np.ndarray  # float32 [C, S], full scale = 1.0; `load` and `clip_from_array` see that all are finite
    sample_rate_hz: int  # samples per second and channel
    name: str = ""  # in tables; the file's stem when it was loaded
    domain: str = ""  # "speech", "music"; empty where unknown
    note: str = ""  # what was done to the samples that a reader of tables should know; mostly empty

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise UnsupportedInput(
                f"Give float32 [C, S]; received {self.samples.dtype} {list(self.samples.shape)}: use clip_from_array."
            )
        object.__setattr__(self, "sample_rate_hz", _checked_rate_hz(self.sample_rate_hz))

    @property
    def num_channels(self) -> int:
        """Number of channels, ``C``."""
        return self.samples.shape[0]

    @property
    def num_samples(self) -> int:
        """Number of samples per channel, ``S``."""
        return self.samples.shape[1]

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate_hz

    @property
    def peak(self) -> float:
        """Largest magnitude of any sample, full scale = 1.0."""
        return float(np.abs(self.samples).max(initial=0.0))


def _checked_rate_hz(sample_rate_hz: int) -> int:
    try:
        rate_hz = operator.index(sample_rate_hz)
    except TypeError:
        rate_hz = 0
    if rate_hz <= 0:
        raise UnsupportedInput(f"sample_rate_hz must be a positive whole number; received {sample_rate_hz!r}.")
    return rate_hz


def _refuse_not_finite(samples: np.ndarray, name: str) -> None:
    finite = np.isfinite(samples)
    if finite.all():
        return
    channel, at = (int(i) for i in np.argwhere(~finite)[0])
    raise CorruptInput(
        f"Clip {name!r} has {int((~finite).sum())} sample(s) not finite, first at {at} of channel {channel}; repair it."
    )


def _float_from_pcm(array: np.ndarray) -> np.ndarray:
    """Scale PCM integers to full scale 1.0: signed types by their lowest value, 8-bit unsigned around 128."""
    if array.dtype == np.uint8:
        return (array.astype(np.float64) - 128.0) / 128.0
    if np.issubdtype(array.dtype, np.signedinteger):
        return array.astype(np.float64) / -float(np.iinfo(array.dtype).min)
    if np.issubdtype(array.dtype, np.floating):
        return array
    raise UnsupportedInput(f"{array.dtype} is no float, signed PCM or 8-bit unsigned PCM audio; convert it to float32.")


def clip_from_array(samples: np.ndarray, sample_rate_hz: int, name: str = "", domain: str = "") -> Clip:
    """Make a clip from an array ``[S]`` or ``[C, S]`` of floats (full scale 1.0) or PCM integers.

    Floats have any width, integers are int8 to int64 (full scale is the type's lowest value) or uint8 (around 128).

    Raises:
        CorruptInput: A sample is not finite, or beyond the range of float32.
        UnsupportedInput: Another type or number of axes, an array that looks like ``[S, C]``, or a bad rate.
    """
    array = _float_from_pcm(np.asarray(samples))
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise UnsupportedInput(f"Audio must have the axes [C, S] or [S]; received shape {list(array.shape)}.")
    if array.shape[0] > 32 and array.shape[0] > array.shape[1]:
        raise UnsupportedInput(f"Clip {name!r}, {list(array.shape)}, has more channels than samples; pass array.T.")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
        array = np.ascontiguousarray(array, dtype=np.float32)
    _refuse_not_finite(array, name)
    return Clip(array, sample_rate_hz, name, domain)


def load(path: str | Path, sample_rate_hz: int | None = None, mono: bool = False) -> Clip:
    """Read an audio file.

    See `codecbook.audio_files` for files that were joined or written to a pipe, and for float samples of 16-bit range.

    Args:
        path: wav, flac, ogg, opus, mp3, aiff and more, of any rate, channels and sample format. Its stem, written by
            `codecbook.paths.path_as_text`, becomes the clip's name.
        sample_rate_hz: Resample to this rate; None keeps the file's own.
        mono: Average the channels.

    Raises:
        MissingInput: No such file.
        CorruptInput: Unreadable, truncated, without samples, or with samples that are not finite.
        UnsupportedInput: A folder or a device, too long for the memory, or a rate that is none or too far off.
    """
    with AudioFile(path) as file:
        blocks = [block.T for block in file.blocks()]
        rate_hz, note = file.sample_rate_hz, file.note
    if not blocks:
        raise CorruptInput(f"{path_as_text(path)} holds no samples; record or export it again.")
    try:
        samples = np.concatenate(blocks, axis=1)
    except MemoryError as error:
        raise UnsupportedInput(
            f"{path_as_text(path)} does not fit into memory ({sum(map(np.size, blocks))} samples); cut it."
        ) from error
    del blocks
    clip = replace(clip_from_array(samples, rate_hz, name=path_as_text(Path(path).stem)), note=note)
    return convert(clip, sample_rate_hz=sample_rate_hz, channels=1 if mono else None)


def convert(clip: Clip, sample_rate_hz: int | None = None, channels: int | None = None) -> Clip:
    """Resample a clip and change its number of channels; None keeps what it has.

    Mono to stereo duplicates; anything to mono averages; other changes are refused, because which channel goes where is
    a decision for the caller. ``S > 0`` samples become ``S out / in``, rounded, at least one. Raises UnsupportedInput:
    a change of channels with no obvious meaning (say, 5 to 2), a rate that is not positive, or one more than 256 times
    higher or lower than the clip's.
    """
    target_hz = clip.sample_rate_hz if sample_rate_hz is None else _checked_rate_hz(sample_rate_hz)
    samples = clip.samples if channels is None else _with_channels(clip, channels)
    if target_hz != clip.sample_rate_hz:
        samples = _resample(samples, clip.sample_rate_hz, target_hz)
    return replace(clip, samples=samples, sample_rate_hz=target_hz)


def _with_channels(clip: Clip, channels: int) -> np.ndarray:
    if channels == clip.num_channels:
        return clip.samples
    if channels == 1:
        mix = Mix()
        samples = mix(clip.samples)
        mix.warn_if_cancelled(clip.name)
        return samples
    if clip.num_channels == 1 and channels == 2:
        return np.repeat(clip.samples, 2, axis=0)
    raise UnsupportedInput(f"Clip {clip.name!r} has {clip.num_channels} channels, not {channels}; choose or mix them.")


class Mix:
    """The average of channels, block by block, with a warning where they cancel each other."""

    def __init__(self) -> None:
        self._energy = self._mixed_energy = 0.0

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return float32 ``[1, S]`` for ``[C, S]``."""
        mixed = samples.mean(axis=0, keepdims=True, dtype=np.float64)
        self._energy += float(np.square(samples, dtype=np.float64).sum()) / len(samples)
        self._mixed_energy += float(np.square(mixed).sum())
        return mixed.astype(np.float32)

    def warn_if_cancelled(self, name: str) -> None:
        """Say in the log that next to nothing is left of a clip, as of stereo with one channel upside down."""
        if self._mixed_energy < _CANCELLED * self._energy:
            _log.warning(
                "%s: the channels cancel each other, and their average is next to silence; turn the sign of one, or "
                "pass one channel alone",
                name or "a clip",
            )


def check_rates(from_hz: int, to_hz: int) -> None:
    """Raise UnsupportedInput: one of two rates is more than 256 times the other."""
    if max(from_hz, to_hz) > _MAX_RATE_RATIO * min(from_hz, to_hz):
        raise UnsupportedInput(
            f"Cannot resample {from_hz} Hz to {to_hz} Hz, more than a factor of {_MAX_RATE_RATIO}; are both in Hz?"
        )


def _resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    check_rates(from_hz, to_hz)
    resampled = soxr.resample(samples.T, from_hz, to_hz, quality="VHQ").T
    if resampled.shape[1] == 0 < samples.shape[1]:
        # soxr rounds a clip shorter than half an output sample away; keep the signal's mean instead of nothing
        resampled = samples.mean(axis=1, keepdims=True)
    return np.ascontiguousarray(resampled, dtype=np.float32)


def write_format(path: str | Path) -> tuple[str, str]:
    """Return libsndfile's names of the format and the kind of samples in which `save` writes a file, by its suffix."""
    path = Path(path)
    if path.suffix.lower() not in _WRITE_FORMATS:
        raise UnsupportedInput(f"Cannot write {path.name}: choose one of {', '.join(_WRITE_FORMATS)}.")
    return _WRITE_FORMATS[path.suffix.lower()]


def save(clip: Clip, path: str | Path, overwrite: bool = False) -> Path:
    """Write a clip as wav or flac (16-bit PCM), ogg or mp3, by the path's suffix.

    The file appears under its name only when it is complete. Samples beyond full scale are clipped, and counted in
    a warning of the logger ``codecbook.audio``. Samples that came from a 16-bit file return to it unchanged.

    Raises:
        UnsupportedInput: The suffix is none of these, or its format cannot hold the clip's rate or channels.
        CorruptInput, CodecbookError: A sample is not finite; the file exists and `overwrite` is False.
        OSError: The file system does not take it: the disk is full, for one.
    """
    _refuse_not_finite(clip.samples, clip.name)
    save_pieces([clip.samples], clip.sample_rate_hz, clip.num_channels, path, overwrite)
    return Path(path)


def save_pieces(
    pieces: Iterable[np.ndarray], sample_rate_hz: int, channels: int, path: str | Path, overwrite: bool = False
) -> int:
    """Write audio that comes in pieces ``[C, S]`` as `save` writes a clip; return how many samples there were."""
    path = Path(path)
    file_format, subtype = write_format(path)
    count = beyond = 0
    with new_file(path, overwrite) as partial:
        try:
            with soundfile.SoundFile(partial, "w", sample_rate_hz, channels, subtype, format=file_format) as file:
                for piece in pieces:
                    beyond += int(np.count_nonzero(np.abs(piece) > 1.0))
                    samples = np.clip(piece.T, -1.0, 1.0)
                    for start in range(0, len(samples), _WRITE_BLOCK_SAMPLES):
                        file.write(samples[start : start + _WRITE_BLOCK_SAMPLES])
                    count += len(samples)
        except soundfile.LibsndfileError as error:
            # libsndfile does not tell a full disk from a limit of the format
            if cause := write_error(partial):
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            if error.code == _SYSTEM_ERROR:
                message = "It could not be written at first, and can be now: try again"
                raise OSError(errno.EIO, message, str(path)) from error
            raise UnsupportedInput(
                f"{path.name} takes no {channels} channels at {sample_rate_hz} Hz ({error.error_string}); write wav."
            ) from error
    if beyond:
        _log.warning(
            "%d of %d samples beyond full scale are clipped in %s", beyond, count * channels, path_as_text(path)
        )
    return count


def loudness_lufs(clip: Clip) -> float:
    """Return the integrated loudness in LUFS (ITU-R BS.1770-4), of up to five channels.

    A clip shorter than the standard's block of 0.4 s is measured as one block. The result is -inf where no block
    passes the standard's gate at -70 LUFS, as in silence. A clip below 4 kHz, where the standard's weighting is not
    defined, is resampled first.
    """
    if clip.num_channels > 5:
        raise UnsupportedInput(f"Loudness is defined for up to 5 channels; received {clip.num_channels}. Convert it.")
    if clip.num_samples < 2:
        return float("-inf")
    if clip.sample_rate_hz < _LOUDNESS_MIN_RATE_HZ:
        clip = convert(clip, -(-_LOUDNESS_MIN_RATE_HZ // clip.sample_rate_hz) * clip.sample_rate_hz)
    import pyloudnorm  # here, because it brings all of scipy.signal along: 65 MB that decoders need not have

    # one step below the duration: pyloudnorm compares it to the block in floats, and refuses by a rounding error
    block_s = min(_LOUDNESS_BLOCK_S, math.nextafter(clip.duration_s, 0.0))
    meter = pyloudnorm.Meter(clip.sample_rate_hz, block_size=block_s)
    return float(meter.integrated_loudness(clip.samples.T.astype(np.float64)))


def rms(clip: Clip) -> float:
    """Return the root mean square over all channels and samples, full scale = 1.0; 0 without samples."""
    if clip.samples.size == 0:
        return 0.0
    return float(np.sqrt(np.mean(np.square(clip.samples, dtype=np.float64))))


def triangular_filters(edges_hz: np.ndarray, num_bins: int, sample_rate_hz: int) -> np.ndarray:
    """Return filters of unit peak, float64 ``[num_bins, M]``, that begin, peak and end at ``M + 2`` edges in a row.

    The bins are those of a spectrum from 0 Hz to half the sampling rate.
    """
    bins_hz = np.linspace(0, sample_rate_hz / 2, num_bins)[:, None]
    widths_hz = np.diff(edges_hz)
    rising, falling = (bins_hz - edges_hz[:-2]) / widths_hz[:-1], (edges_hz[2:] - bins_hz) / widths_hz[1:]
    return np.maximum(0, np.minimum(rising, falling))
