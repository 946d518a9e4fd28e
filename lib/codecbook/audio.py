"""Clips: load, check, convert, measure the loudness of, and save audio.

A `Clip` is a float32 array ``[C, S]`` with its sampling rate. Resampling is done by soxr at its highest
quality (linear phase, as the codecs' training pipelines use), files are read and written by libsndfile
(wav, flac, ogg, mp3, aiff and more).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyloudnorm
import soundfile
import soxr

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
_WRITE_SUBTYPE = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": None}


@dataclass(frozen=True)
class Clip:
    """A waveform.

    Attributes:
        samples: float32 ``[C, S]``, finite, full scale = 1.0.
        sample_rate_hz: Samples per second and channel.
        name: What to call the clip in tables; the file's stem when it was loaded.
        domain: What it contains (``"speech"``, ``"music"``), or empty where unknown.
    """

    samples: np.ndarray
    sample_rate_hz: int
    name: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise UnsupportedInput(
                f"Clip.samples must be float32 [channels, samples]; received {self.samples.dtype} "
                f"{list(self.samples.shape)}. Use clip_from_array(...) to convert."
            )
        if self.sample_rate_hz <= 0:
            raise UnsupportedInput(f"sample_rate_hz must be positive; received {self.sample_rate_hz}.")

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


def clip_from_array(samples: np.ndarray, sample_rate_hz: int, name: str = "", domain: str = "") -> Clip:
    """Make a clip from an array ``[S]`` or ``[C, S]`` of floats (full scale 1.0) or PCM integers.

    Raises:
        CorruptInput: A sample is not finite.
        UnsupportedInput: Another number of axes, or an array that looks like ``[S, C]``.
    """
    array = np.asarray(samples)
    if np.issubdtype(array.dtype, np.signedinteger):
        array = array.astype(np.float64) / -float(np.iinfo(array.dtype).min)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise UnsupportedInput(f"Audio must have the axes [C, S] or [S]; received shape {list(array.shape)}.")
    if array.shape[0] > 32 and array.shape[0] > array.shape[1]:
        raise UnsupportedInput(
            f"Audio of shape {list(array.shape)} has more channels than samples; is it [S, C]? Pass array.T."
        )
    if not np.isfinite(array).all():
        first = int(np.argwhere(~np.isfinite(array))[0, 1])
        raise CorruptInput(
            f"Audio {name or '(unnamed)'} has a sample that is not finite (first at index {first}); repair or "
            "cut the recording."
        )
    return Clip(np.ascontiguousarray(array, dtype=np.float32), int(sample_rate_hz), name, domain)


def load(path: str | Path, sample_rate_hz: int | None = None, mono: bool = False) -> Clip:
    """Read an audio file.

    Args:
        path: wav, flac, ogg, opus, mp3 or aiff, any rate, any number of channels.
        sample_rate_hz: Resample to this rate; None keeps the file's own.
        mono: Average the channels.

    Returns:
        A clip named after the file's stem.

    Raises:
        CorruptInput: No such file, unreadable, without samples, or with samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CorruptInput(f"There is no audio file at {path}; check the path.")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise CorruptInput(
            f"{path} could not be read as audio ({error}); expected one of {', '.join(AUDIO_SUFFIXES)}, "
            "complete and unprotected."
        ) from error
    if samples.shape[0] == 0:
        raise CorruptInput(f"{path} holds no samples; record or export it again.")
    clip = clip_from_array(samples.T, rate_hz, name=path.stem)
    return convert(clip, sample_rate_hz=sample_rate_hz, channels=1 if mono else None)


def convert(clip: Clip, sample_rate_hz: int | None = None, channels: int | None = None) -> Clip:
    """Resample a clip and change its number of channels.

    Mono to stereo duplicates; anything to mono averages; other changes are refused, because which channel
    goes where is a decision for the caller.

    Raises:
        UnsupportedInput: A change of channels with no obvious meaning (say, 5 to 2).
    """
    samples = clip.samples
    if channels is not None and channels != clip.num_channels:
        if channels == 1:
            samples = samples.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        elif clip.num_channels == 1:
            samples = np.repeat(samples, channels, axis=0)
        else:
            raise UnsupportedInput(
                f"Clip {clip.name!r} has {clip.num_channels} channels and {channels} are needed; choose or mix "
                "channels first, or pass mono=True to load()."
            )
    if sample_rate_hz is not None and sample_rate_hz != clip.sample_rate_hz:
        samples = np.ascontiguousarray(
            soxr.resample(samples.T, clip.sample_rate_hz, sample_rate_hz, quality="VHQ").T, dtype=np.float32
        )
        if samples.shape[1] == 0:
            # soxr rounds a clip shorter than one output sample away; keep the signal's mean instead of nothing
            samples = clip.samples.mean(axis=1, keepdims=True)[: samples.shape[0]]
    return replace(clip, samples=samples, sample_rate_hz=sample_rate_hz or clip.sample_rate_hz)


def save(clip: Clip, path: str | Path, overwrite: bool = False) -> Path:
    """Write a clip as wav or flac (16-bit PCM), ogg or mp3, by the path's suffix; samples beyond 1.0 are clipped.

    Raises:
        UnsupportedInput: The suffix is none of these.
        CodecbookError: The file exists and `overwrite` is False.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITE_SUBTYPE:
        raise UnsupportedInput(f"Cannot write {path.name}: choose one of {', '.join(_WRITE_SUBTYPE)}.")
    if path.exists() and not overwrite:
        raise CodecbookError(f"{path} exists; pass overwrite=True, or choose another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    clipped = np.clip(clip.samples.T, -1.0, 1.0)
    soundfile.write(path, clipped, clip.sample_rate_hz, subtype=_WRITE_SUBTYPE[suffix])
    return path


def loudness_lufs(clip: Clip) -> float:
    """Return the integrated loudness in LUFS (ITU-R BS.1770-4), -inf for silence.

    Clips shorter than the standard's 0.4 s block are measured as one block.
    """
    block_s = min(0.4, clip.duration_s)
    meter = pyloudnorm.Meter(clip.sample_rate_hz, block_size=block_s)
    if clip.num_samples < 2 or not np.any(clip.samples):
        return float("-inf")
    return float(meter.integrated_loudness(clip.samples[:5].T.astype(np.float64)))


def rms(clip: Clip) -> float:
    """Return the root mean square over all channels and samples, full scale = 1.0."""
    return float(np.sqrt(np.mean(np.square(clip.samples, dtype=np.float64))))
