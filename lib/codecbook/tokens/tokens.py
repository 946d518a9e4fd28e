"""`Tokens`: what a codec's encoder says of a clip, one array of codes per codebook; and its `TokenFormat`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput


def same_digest(first: str, second: str) -> bool:
    """Say whether two SHA-256 in hex are the same as far as both are known; streams keep the beginning alone."""
    return first.startswith(second) if len(second) < len(first) else second.startswith(first)


@dataclass(frozen=True)
class TokenFormat:
    """What is known of tokens beside the clip that they are of; see `Tokens` for all attributes."""

    codebook_sizes: tuple[int, ...]
    frame_rates_hz: tuple[float, ...]
    codec: str = ""
    weights: str = ""
    sample_rate_hz: int = 0
    channels: int = 0
    bandwidth_kbps: float | None = None
    source_bitrate_kbps: float | None = None
    mid_codebooks: int | None = None
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        for k, (size, rate) in enumerate(zip(self.codebook_sizes, self.frame_rates_hz, strict=True)):
            if int(size) != size or size < 1:
                raise UnsupportedInput(f"Codebook {k} has size {size}; give its number of codes, 1 or more.")
            if not (isfinite(rate) and rate > 0):
                raise UnsupportedInput(f"Codebook {k} has a frame rate of {rate} Hz; give one above 0.")
        object.__setattr__(self, "codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        object.__setattr__(self, "frame_rates_hz", tuple(float(rate) for rate in self.frame_rates_hz))
        if not self.codebook_sizes:
            raise UnsupportedInput("A format needs at least one codebook; received none.")
        if self.sample_rate_hz < 0 or self.channels < 0:
            raise UnsupportedInput(f"sample_rate_hz={self.sample_rate_hz} or channels={self.channels} is negative.")
        for name in ("bandwidth_kbps", "source_bitrate_kbps"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise UnsupportedInput(f"{name} is {value}; give kbit/s above 0, or None where it is unknown.")
        if self.mid_codebooks is not None and (self.channels != 2 or not 1 <= self.mid_codebooks <= self.num_codebooks):
            raise UnsupportedInput(
                f"mid_codebooks={self.mid_codebooks} with channels={self.channels} and {self.num_codebooks} "
                f"codebooks; mid and side need channels=2 and mid_codebooks from 1 to {self.num_codebooks}."
            )

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.codebook_sizes)

    def tokens(self, codes: Sequence[np.ndarray], **of_clip: Any) -> "Tokens":
        """Return tokens of this format: codes per codebook, and what `Tokens` knows of a clip."""
        return Tokens(tuple(codes), **vars(self), **of_clip)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Codes of one clip, validated when made; equal where all codes and all that is known about them are equal.

    Codebooks may run at different rates (SNAC), so there is one array per codebook. A codec that works in
    independent segments (EnCodec 48 kHz: 1 s, normalised, overlapping by 1 %) lays its segments end to end and
    says in `segment_frames` and `scales` how to take them apart again.

    Attributes:
        codes: int64 ``[T_k]`` per codebook, ``0 <= code < V_k``; read-only copies of what was given.
        codebook_sizes: ``V_k`` per codebook.
        frame_rates_hz: Frames per second of each codebook.
        codec: Registry name of the codec (``"encodec_24khz"``), empty where unknown.
        weights: Which weights made the codes, as `codecbook.codecs.Weights` prints it; empty where unknown.
        weights_sha256: Their SHA-256, hex; empty where unknown. It decides whether a codec can decode the codes.
        sample_rate_hz: Sampling rate of the coded audio, 0 where unknown.
        channels: Channels of the coded audio, 0 where unknown.
        num_samples: Length of the coded audio in samples per channel, None where unknown.
        bandwidth_kbps: Nominal bitrate that was asked for, None where unknown.
        segment_frames: Frames in each segment, the sum being ``T``; empty for a codec without segments.
        scales: One gain per segment, rounded to float32, for codecs that normalise; empty otherwise.
        source_bitrate_kbps: Bitrate of the recording that was coded (192 for such an mp3), None where unknown.
        mid_codebooks: Of stereo coded as mid and side, each with its own codebooks: how many of these, from the
            first, code mid; the rest code side. None for mono, and where codebooks see both channels at once.
    """

    # two Tokens are compared by their arrays' contents, for which there is no cheap hash
    __hash__ = None  # type: ignore[assignment]

    codes: tuple[np.ndarray, ...]
    codebook_sizes: tuple[int, ...]
    frame_rates_hz: tuple[float, ...]
    codec: str = ""
    weights: str = ""
    sample_rate_hz: int = 0
    channels: int = 0
    num_samples: int | None = None
    bandwidth_kbps: float | None = None
    segment_frames: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    source_bitrate_kbps: float | None = None
    mid_codebooks: int | None = None
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        count = len(self.codes)
        if count == 0:
            raise UnsupportedInput("Tokens need at least one codebook; received none.")
        if not len(self.codebook_sizes) == len(self.frame_rates_hz) == count:
            raise UnsupportedInput(
                f"Codes of {count} codebooks have {len(self.codebook_sizes)} codebook sizes and "
                f"{len(self.frame_rates_hz)} frame rates; give one of each for every codebook."
            )
        known = self.format
        object.__setattr__(self, "codebook_sizes", known.codebook_sizes)
        object.__setattr__(self, "frame_rates_hz", known.frame_rates_hz)
        codes = tuple(_checked_codes(k, self.codes[k], size) for k, size in enumerate(self.codebook_sizes))
        object.__setattr__(self, "codes", codes)
        if (self.num_samples or 0) < 0:
            raise UnsupportedInput(f"num_samples={self.num_samples} must not be negative; leave out what is unknown.")
        self._check_segments()

    @property
    def format(self) -> TokenFormat:
        """All that is not of this clip alone."""
        return TokenFormat(**{field.name: getattr(self, field.name) for field in fields(TokenFormat)})

    def _check_segments(self) -> None:
        num_frames = len(self.codes[0])
        object.__setattr__(self, "segment_frames", tuple(int(n) for n in self.segment_frames))
        with np.errstate(over="ignore"):  # a scale beyond float32 becomes infinite, and is refused below
            scales = np.asarray(self.scales, dtype=np.float64).astype(np.float32)
        object.__setattr__(self, "scales", tuple(scales.tolist()))
        if self.segment_frames and (min(self.segment_frames) < 1 or sum(self.segment_frames) != num_frames):
            raise CorruptInput(
                f"Segments of {sum(self.segment_frames)} frames in all, the shortest of "
                f"{min(self.segment_frames)}, do not cover the {num_frames} frames of codebook 0; the tokens are "
                "incomplete."
            )
        if self.scales and len(self.scales) != max(1, len(self.segment_frames)):
            raise CorruptInput(f"{len(self.scales)} scales for {max(1, len(self.segment_frames))} segments.")
        if not all(isfinite(scale) for scale in self.scales):
            raise CorruptInput(f"Scales {self.scales} are not all finite float32 numbers; encode the clip again.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        return self.same_codes(other) and all(
            getattr(self, f.name) == getattr(other, f.name) for f in fields(self) if f.name != "codes"
        )

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.codes)

    @property
    def num_tokens(self) -> int:
        """Number of codes over all codebooks."""
        return sum(len(codes) for codes in self.codes)

    @property
    def duration_s(self) -> float:
        """Duration in seconds: of the audio where its length is known, else of the codes."""
        if self.num_samples is not None and self.sample_rate_hz:
            return self.num_samples / self.sample_rate_hz
        return len(self.codes[0]) / self.frame_rates_hz[0]

    @property
    def bits(self) -> float:
        """Size of the raw codes in bits: the sum of ``T_k log2 V_k``."""
        return float(sum(len(self.codes[k]) * np.log2(size) for k, size in enumerate(self.codebook_sizes)))

    def to_frames(self) -> np.ndarray:
        """Return the codes as int64 ``[T, K]``, frames first.

        Raises UnsupportedInput: the codebooks run at different rates.
        """
        if len({len(codes) for codes in self.codes}) != 1:
            raise UnsupportedInput(
                f"Codebooks of {[len(codes) for codes in self.codes]} codes have no common frames; see tokens.layout."
            )
        return np.stack(self.codes, axis=1)

    def leading(self, num_codebooks: int) -> "Tokens":
        """Return the tokens of the first `num_codebooks` codebooks alone.

        Of mid and side, side is cut first; `bandwidth_kbps` is dropped where it no longer holds. Raises
        UnsupportedInput: there are fewer, or `num_codebooks` is below 1.
        """
        if not 1 <= num_codebooks <= self.num_codebooks:
            raise UnsupportedInput(f"num_codebooks={num_codebooks}, not 1 to {self.num_codebooks}, as tokens have.")
        return replace(
            self,
            codes=self.codes[:num_codebooks],
            codebook_sizes=self.codebook_sizes[:num_codebooks],
            frame_rates_hz=self.frame_rates_hz[:num_codebooks],
            bandwidth_kbps=self.bandwidth_kbps if num_codebooks == self.num_codebooks else None,
            mid_codebooks=None if self.mid_codebooks is None else min(self.mid_codebooks, num_codebooks),
        )

    def same_codes(self, other: "Tokens") -> bool:
        """Say whether both hold exactly the same codes of the same codebook sizes."""
        return self.codebook_sizes == other.codebook_sizes and all(
            np.array_equal(a, b) for a, b in zip(self.codes, other.codes, strict=True)
        )


def _checked_codes(k: int, codes: np.ndarray, codebook_size: int) -> np.ndarray:
    """Return the codes of codebook `k` as contiguous int64 ``[T]``, or raise as `Tokens` says."""
    array = np.asarray(codes)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UnsupportedInput(f"Codes of codebook {k} must be integers [T], not {array.dtype} {list(array.shape)}.")
    # compared before the cast: an unsigned value above 2^63 would turn negative, and so would its message
    if array.size and (array.min() < 0 or array.max() >= codebook_size):
        at = int(np.flatnonzero((array < 0) | (array >= codebook_size))[0])
        raise CorruptInput(
            f"Code {array[at]} at index {at} of codebook {k} is outside 0..{codebook_size - 1}; make or fetch it again."
        )
    own = np.array(array, dtype=np.int64, order="C")  # a copy: what the caller does to its array is not ours
    own.flags.writeable = False
    return own


def tokens_from_frames(
    frames: np.ndarray, codebook_sizes: Sequence[int] | int, frame_rate_hz: float, **metadata
) -> Tokens:
    """Make `Tokens` from integer frames ``[T, K]`` of one common rate, with further fields of `Tokens` as `metadata`.

    `codebook_sizes` is ``V`` per codebook, or one for all.

    Raises:
        UnsupportedInput: Another number of axes, no integers, or metadata that `Tokens` refuses.
        CorruptInput: A code outside its codebook.
    """
    array = np.asarray(frames)
    if array.ndim != 2:
        raise UnsupportedInput(f"Frames must have the axes [T, K]; received shape {list(array.shape)}.")
    count = array.shape[1]
    sizes = (codebook_sizes,) * count if isinstance(codebook_sizes, int | np.integer) else tuple(codebook_sizes)
    return Tokens(
        codes=tuple(array[:, k] for k in range(count)),
        codebook_sizes=sizes,
        frame_rates_hz=(float(frame_rate_hz),) * count,
        **metadata,
    )


def require_positive(name: str, value: float) -> None:
    """Raise UnsupportedInput unless a setting is an integer of 1 or more."""
    if int(value) != value or value < 1:
        raise UnsupportedInput(f"{name}={value}; give an integer of 1 or more.")


def checked_codes(codes: np.ndarray, codebook_sizes: Sequence[int], source: str) -> np.ndarray:
    """Return codes ``[..., K]`` as int64, after checking them; `source` is named in errors.

    Raises:
        UnsupportedInput: Another number of codebooks, or no integers.
        CorruptInput: A code outside its codebook.
    """
    codes = np.asarray(codes)
    K = len(codebook_sizes)
    if not np.issubdtype(codes.dtype, np.integer) or codes.ndim < 2 or codes.shape[-1] != K:
        raise UnsupportedInput(f"{source}: codes are {codes.dtype} {list(codes.shape)}, not integers [..., {K}].")
    outside = (codes < 0) | (codes >= np.asarray(codebook_sizes))
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise CorruptInput(
            f"{source}: code {codes[at]} at {list(at)} is outside 0..{codebook_sizes[at[-1]] - 1}; fetch it again."
        )
    return codes.astype(np.int64, copy=False)
