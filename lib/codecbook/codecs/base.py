"""What every codec adapter offers, and the checks that all of them share."""

import hashlib
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.exact import resample
from codecbook.errors import CodecbookWarning, CorruptInput, UnsupportedInput
from codecbook.models.store import Weights as Weights
from codecbook.tokens.tokens import TokenFormat, Tokens, same_digest

# nominal bitrates are quoted with two digits (1.1 for 1.0995 kbps), so a bandwidth is met within half a percent
_BANDWIDTH_TOLERANCE = 0.005
_MIN_CHUNK_S = 1.0

Mend = Callable[[np.ndarray, int], np.ndarray]
"""Takes latents float32 ``[D, T]`` and the number of their first frame; returns what is decoded in their place."""


@dataclass(frozen=True)
class Encoded:
    """Codes of a clip or a part of it as an adapter returns them; fields as of `Tokens`."""

    codes: Sequence[np.ndarray]  # integers [T_k] per codebook
    segment_frames: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()


class Codec(ABC):
    """A neural audio codec behind one interface.

    Subclasses set the attributes and implement `_encode` and `_decode`, both piece by piece where the network allows,
    so that memory does not grow with a clip; checks are done here, once.

    Clips are encoded one by one. Batching them on a CPU changes the last bits of most latent values (and so can
    change a token), pads or regroups clips of different lengths, and was measured to save no time; a clip's
    tokens must not depend on its neighbours.
    """

    name: str  # in the registry
    weights: Weights
    sample_rate_hz: int  # in and out
    channels: int  # in and out
    codebook_sizes: tuple[int, ...]  # ``V_k`` of every codebook that the codec has
    frame_rates_hz: tuple[float, ...]  # of every codebook
    bandwidths_kbps: tuple[float, ...]  # nominal bitrates on offer, ascending, each of some leading codebooks
    device: str = "cpu"  # torch's
    decodes: bool = True  # False for a tokenizer without a decoder (semantic units)
    # what goes through at once, in either direction; inf where every token depends on the whole clip. Pieces of another
    # length change the last bits of the audio
    chunk_s: float = math.inf
    # how chunks are joined: "state" (the network's is carried over), "context" (they overlap by the receptive field),
    # "segments" (the codec's own) or "none"
    seams: str = "none"
    exact_sha256: str = ""  # of the integers of an exact codec, hex
    module: Any = None  # the network, in evaluation mode, or None where there is none in torch
    _preferred_kbps: float = 6.0

    @abstractmethod
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        """Encode a sample or more with the leading `num_codebooks`, `chunk_s` at a time."""

    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        """Decode checked tokens to pieces ``[C, S]``, in all as long as the network makes them."""
        raise UnsupportedInput(f"{self.name} is a tokenizer without a decoder; use another codec to listen.")

    def latents(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return what the decoder takes, float32 ``[D, T]``, of codes ``[T_k]`` of leading codebooks, frame by frame.

        Codebooks that are left out are zero vectors. Rates that differ: `T` counts frames of the fastest codebook.
        """
        raise UnsupportedInput(f"{self.name} has no decoder, and so no latents; use another codec.")

    @property
    def default_bandwidth_kbps(self) -> float:
        """What a stream takes where none is asked for: 6 kbps where that is offered, else all codebooks."""
        return self._preferred_kbps if self._preferred_kbps in self.bandwidths_kbps else self.bandwidths_kbps[-1]

    def num_codebooks_at(self, bandwidth_kbps: float | None) -> int:
        """Return how many codebooks a bandwidth uses, None being all; refuse one that is not offered."""
        if bandwidth_kbps is None:
            return len(self.codebook_sizes)
        if not isinstance(bandwidth_kbps, Real) or isinstance(bandwidth_kbps, bool):
            raise UnsupportedInput(f"bandwidth_kbps={bandwidth_kbps!r} is no number; give one, or None for all.")
        nearest = min(self.bandwidths_kbps, key=lambda offered: abs(offered - bandwidth_kbps))
        if not abs(nearest - bandwidth_kbps) <= _BANDWIDTH_TOLERANCE * nearest:
            raise UnsupportedInput(
                f"{self.name} has no bandwidth of {bandwidth_kbps} kbps; choose one of "
                f"{', '.join(f'{b:.4g}' for b in self.bandwidths_kbps)}."
            )
        budget = nearest * (1 + _BANDWIDTH_TOLERANCE)
        return max(1, sum(self.bitrate_kbps(k + 1) <= budget for k in range(len(self.codebook_sizes))))

    def bitrate_kbps(self, num_codebooks: int) -> float:
        """Return the bitrate of the raw codes of the leading `num_codebooks`, in kbps."""
        rates = zip(self.frame_rates_hz[:num_codebooks], self.codebook_sizes[:num_codebooks], strict=True)
        return sum(rate * math.log2(size) for rate, size in rates) / 1000

    def convert(self, clip: Clip) -> Clip:
        """Return a clip at this codec's rate and channels, as `codecbook.audio.convert`; where exact, in integers."""
        convert = resample.convert if self.exact_sha256 else audio.convert
        return convert(clip, self.sample_rate_hz, self.channels)

    def encode(
        self,
        clip: "SoundLike",
        bandwidth_kbps: float | None = None,
        *,
        num_codebooks: int | None = None,
        chunk_s: float | None = None,
        sample_rate_hz: int | None = None,
    ) -> Tokens:
        """Encode one clip.

        Args:
            clip: At this codec's sampling rate and channels (`convert` makes it so): a clip, or an array or tensor
                ``[S]`` or ``[C, S]``. Or the path of a recording, which is converted.
            bandwidth_kbps: One of `bandwidths_kbps`; None uses all codebooks.
            num_codebooks: How many leading codebooks to use, instead of a bandwidth.
            chunk_s: Seconds of audio at a time, 1 or more; None takes the codec's own `chunk_s`.
            sample_rate_hz: Of an array or tensor.

        Raises:
            UnsupportedInput: Wrong rate, channels, bandwidth or number of codebooks, or chunks that the codec cannot
            take. CorruptInput: No samples, or samples that are not finite.
        """
        sound = as_clip(clip, sample_rate_hz)
        if isinstance(clip, str | os.PathLike):
            sound = self.convert(sound)
        label = f"Clip {sound.name!r}"
        if sound.sample_rate_hz != self.sample_rate_hz or sound.num_channels != self.channels:
            raise UnsupportedInput(
                f"{label} has {sound.num_channels} channel(s) at {sound.sample_rate_hz} Hz, but {self.name} takes "
                f"{self.channels} at {self.sample_rate_hz} Hz; its convert(clip) makes it so."
            )
        if sound.num_samples == 0:
            raise CorruptInput(f"{label} holds no samples; leave it out.")
        if not np.isfinite(sound.samples).all():
            raise CorruptInput(f"{label} has samples that are not finite; repair or cut the recording.")
        return self.encode_blocks([sound.samples], bandwidth_kbps, num_codebooks, chunk_s)

    def encode_blocks(
        self,
        blocks: Iterable[np.ndarray],
        bandwidth_kbps: float | None = None,
        num_codebooks: int | None = None,
        chunk_s: float | None = None,
    ) -> Tokens:
        """Encode audio as it comes to the tokens of `encode`, whose other arguments it has; what is kept are codes.

        `blocks` are float32 ``[C, S]`` at the codec's rate and channels, of any lengths; a sample or more in all.
        """
        queue = BlockQueue(blocks, self.channels)
        parts = list(self.encode_pieces(queue, bandwidth_kbps, num_codebooks, chunk_s))
        return self.joined(parts, queue.num_samples, bandwidth_kbps)

    def joined(self, parts: Sequence[Encoded], num_samples: int, bandwidth_kbps: float | None = None) -> Tokens:
        """Return what `encode_pieces` yielded as the tokens of a clip."""
        codes = [np.concatenate(levels) for levels in zip(*(part.codes for part in parts), strict=True)]
        return self.token_format(len(codes), bandwidth_kbps).tokens(
            codes,
            num_samples=num_samples,
            segment_frames=tuple(frames for part in parts for frames in part.segment_frames),
            scales=tuple(scale for part in parts for scale in part.scales),
        )

    def encode_pieces(
        self,
        queue: BlockQueue,
        bandwidth_kbps: float | None = None,
        num_codebooks: int | None = None,
        chunk_s: float | None = None,
    ) -> Iterator[Encoded]:
        """Yield the codes of `encode_blocks` piece by piece; with segments of a codec's own, whole segments."""
        for piece in self._encode(queue, *self.checked_settings(bandwidth_kbps, num_codebooks, chunk_s)):
            # whoever keeps the codes of a long recording shall not keep with them what a network computed them in
            yield replace(piece, codes=[np.array(level) for level in piece.codes])

    def decode(self, tokens: Tokens, num_codebooks: int | None = None) -> Clip:
        """Decode tokens, or only their leading codebooks, to ``tokens.num_samples``, or to all that the network makes.

        Tokens of another codec or of other weights, or a codec without a decoder, raise UnsupportedInput; fewer codes
        than the audio's length asks for CorruptInput.
        """
        if num_codebooks is not None:
            tokens = tokens.leading(_checked_count(num_codebooks))
        samples = np.concatenate(list(self.decode_pieces(tokens)), axis=1)
        return Clip(samples, self.sample_rate_hz, name=self.name)

    def decode_pieces(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        """Yield the samples of `decode` in pieces, float32 ``[C, S]``; refuses as it does.

        `mend` is called with the latents of each piece before they are decoded (`codecbook.coding.conceal`).
        """
        if self.decodes:
            self.check_tokens(tokens)
        missing = tokens.num_samples
        for piece in self._decode(tokens, mend):
            if missing is not None:
                piece = piece[:, :missing]
                missing -= piece.shape[1]
            yield np.ascontiguousarray(piece, dtype=np.float32)
        if missing:
            # some networks end up to a frame early; the check of the number of codes bounds what is filled in
            yield np.zeros((self.channels, missing), dtype=np.float32)

    def sound_sha256(self, pieces: Iterable[np.ndarray]) -> str:
        """Return the SHA-256 of what an exact codec has decoded, hex, which holds on every machine."""
        digest = hashlib.sha256(f"{self.exact_sha256}\n".encode())
        for piece in pieces:
            digest.update(np.rint(piece.T * 2.0**20).astype("<i4").tobytes())  # samples are multiples of 2^-20
        return digest.hexdigest()

    def token_format(self, num_codebooks: int, bandwidth_kbps: float | None = None) -> TokenFormat:
        """Return what tokens of this codec say of themselves, whatever the clip."""
        if bandwidth_kbps is None and num_codebooks == len(self.codebook_sizes):
            bandwidth_kbps = self.bandwidths_kbps[-1]
        return TokenFormat(
            self.codebook_sizes[:num_codebooks], self.frame_rates_hz[:num_codebooks], self.name, str(self.weights),
            self.sample_rate_hz, self.channels, bandwidth_kbps, weights_sha256=self.weights.sha256,
        )  # fmt: skip

    def checked_settings(
        self, bandwidth_kbps: float | None, num_codebooks: int | None, chunk_s: float | None
    ) -> tuple[int, float]:
        """Return the number of codebooks and the seconds at a time that settings of `encode` stand for, or refuse."""
        if num_codebooks is None:
            count = self.num_codebooks_at(bandwidth_kbps)
        elif bandwidth_kbps is not None:
            raise UnsupportedInput(f"bandwidth_kbps={bandwidth_kbps} and num_codebooks={num_codebooks}; leave one out.")
        else:
            count, most = _checked_count(num_codebooks), len(self.codebook_sizes)
            if not 1 <= count <= most:
                raise UnsupportedInput(f"num_codebooks={count}, but {self.name} has {most}; choose 1 to {most}.")
        if chunk_s is None:
            return count, self.chunk_s
        if self.chunk_s == math.inf:
            raise UnsupportedInput(f"Tokens of {self.name} depend on the whole clip; leave chunk_s={chunk_s} out.")
        if not (math.isfinite(chunk_s) and chunk_s >= _MIN_CHUNK_S):
            raise UnsupportedInput(f"chunk_s={chunk_s} is no length of a chunk; give {_MIN_CHUNK_S:g} s or more.")
        return count, chunk_s

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse tokens as `decode` does; warn (`CodecbookWarning`) where the weights that made them are not known.

        Codes of other weights decode to noise without any error.
        """
        count, own, are_same = tokens.num_codebooks, str(self.weights), _same_weights(tokens, self.weights)
        if tokens.codec and tokens.codec != self.name:
            raise UnsupportedInput(f"These tokens are of {tokens.codec}, not of {self.name}; load that codec.")
        if are_same is False:
            raise UnsupportedInput(
                f"These tokens were made with the weights {tokens.weights!r}{_short(tokens.weights_sha256)}, and this "
                f"{self.name} has {own!r}{_short(self.weights.sha256)}, with which they decode to noise; load the "
                "codec with the weights that made them."
            )
        if tokens.mid_codebooks is not None:
            raise UnsupportedInput(f"Tokens code mid and side apart, which {self.name} does not; decode each apart.")
        if count > len(self.codebook_sizes):
            raise UnsupportedInput(
                f"Tokens have {count} codebooks, {self.name} has {len(self.codebook_sizes)}; use tokens.leading(...)."
            )
        sizes, rates = self.codebook_sizes[:count], self.frame_rates_hz[:count]
        if tokens.codebook_sizes != sizes or not np.allclose(tokens.frame_rates_hz, rates, rtol=1e-3, atol=0.0):
            raise UnsupportedInput(
                f"Codebooks of {tokens.codebook_sizes} at {tokens.frame_rates_hz} Hz are not {self.name}'s, {sizes} at "
                f"{rates}; load the tokens' own codec."
            )
        for k, (codes, rate_hz) in enumerate(zip(tokens.codes, rates, strict=True)):
            if len(codes) == 0:
                raise CorruptInput(f"Codebook {k} holds no codes; there is nothing to decode.")
            needed = (tokens.num_samples or 0) / self.sample_rate_hz * rate_hz
            if len(codes) < math.floor(needed) - 1:
                raise CorruptInput(
                    f"Codebook {k} holds {len(codes)} codes, but {tokens.num_samples} samples of {self.name} need "
                    f"about {math.ceil(needed)}; the tokens are cut short, or their num_samples is wrong."
                )
        if are_same is None:
            warnings.warn(
                f"Which weights made these tokens is not known for sure ({tokens.weights or 'no name'}); with others "
                f"than those of this {self.name}, {own}, they decode to noise.",
                CodecbookWarning,
                stacklevel=4,  # who called `decode`
            )


def _same_weights(tokens: Tokens, weights: Weights) -> bool | None:
    """Say whether weights are those that made tokens; None where that is not known.

    Their hashes decide. Without, one name is taken for the same weights, and another kind or seed for others; another
    path or address may still lead to the same ones.
    """
    if tokens.weights_sha256 and weights.sha256:
        return same_digest(tokens.weights_sha256, weights.sha256)
    if tokens.weights == str(weights):
        return True
    kind = tokens.weights.partition(": ")[0]
    is_other = kind in ("bundled", "pretrained", "random") and (kind != weights.kind or kind == "random")
    return False if is_other else None


def _short(sha256: str) -> str:
    return f" (SHA-256 {sha256[:12]}...)" if sha256 else ""


def _checked_count(num_codebooks: int) -> int:
    """Return a number of codebooks as a plain integer; True is no number here, and neither is '6'."""
    if isinstance(num_codebooks, bool) or not isinstance(num_codebooks, Integral):
        raise UnsupportedInput(f"num_codebooks={num_codebooks!r} is no whole number; give one from 1 on.")
    return int(num_codebooks)


SoundLike = Clip | str | os.PathLike[str] | Any
"""A clip, an array or tensor whose rate is given beside it, or the path of a recording."""


def as_clip(sound: SoundLike, sample_rate_hz: int | None = None) -> Clip:
    """Return as a clip what is one, an array or tensor ``[S]`` or ``[C, S]`` with its rate, or the path of a recording.

    Raises:
        UnsupportedInput: Something else, an array without a rate, or a rate beside what has its own.
        CodecbookError: As `codecbook.audio.load` and `codecbook.audio.clip_from_array`.
    """
    if isinstance(sound, Clip | str | os.PathLike):
        clip = sound if isinstance(sound, Clip) else audio.load(os.fspath(sound))
        if sample_rate_hz not in (None, clip.sample_rate_hz):
            raise UnsupportedInput(
                f"sample_rate_hz={sample_rate_hz} was given for a recording at {clip.sample_rate_hz} Hz; leave it out."
            )
        return clip
    if not hasattr(sound, "__array__"):
        raise UnsupportedInput(f"Sound is a clip, array, tensor, or path of a recording, not {type(sound).__name__}.")
    if sample_rate_hz is None:
        raise UnsupportedInput("An array does not say its rate; pass sample_rate_hz=, or use audio.clip_from_array.")
    detach = getattr(sound, "detach", None)
    return audio.clip_from_array(np.asarray(detach().cpu() if detach else sound), sample_rate_hz)
