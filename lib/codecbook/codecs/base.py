"""What every codec adapter offers, and the checks that all of them share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbook.audio import Clip
from codecbook.codecs.provenance import Weights as Weights
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.tokens import Tokens

# nominal bitrates are quoted with two digits (1.1 for 1.0995 kbps), so a bandwidth is met within half a percent
_BANDWIDTH_TOLERANCE = 0.005
MIN_CHUNK_S = 1.0


@dataclass(frozen=True)
class Encoded:
    """Codes of one clip as an adapter returns them, before they become `Tokens`.

    Attributes:
        codes: Integers ``[T_k]`` per codebook.
        segment_frames: As in `Tokens`.
        scales: As in `Tokens`.
    """

    codes: Sequence[np.ndarray]
    segment_frames: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()


class Codec(ABC):
    """A neural audio codec behind one interface.

    Subclasses set the attributes and implement `_encode_samples` and `_decode_tokens`; checks are done here, once.

    Clips are encoded one by one. Batching them on a CPU changes the last bits of most latent values (and so can
    change a token), pads or regroups clips of different lengths, and was measured to save no time; a clip's
    tokens must not depend on its neighbours.

    Attributes:
        name: Registry name.
        weights: Where the weights are from.
        sample_rate_hz: Sampling rate in and out.
        channels: Channels in and out.
        codebook_sizes: ``V_k`` of every codebook that the codec has.
        frame_rates_hz: Frames per second of every codebook.
        bandwidths_kbps: Nominal bitrates on offer, ascending; the codec uses its leading codebooks for each.
        device: Torch device that it runs on.
        decodes: False for a tokenizer without a decoder (semantic units).
        chunk_s: Seconds of audio that go through the network at once, so that memory for activations does not grow
            with a clip; None for a codec whose every token depends on the whole clip.
        seams: How chunks are joined: ``"state"`` (the network's state is carried over), ``"context"`` (chunks overlap
            by the receptive field), ``"segments"`` (the codec's own), or ``"none"``.
        module: The network, in evaluation mode, or None where there is none in torch.
    """

    name: str
    weights: Weights
    sample_rate_hz: int
    channels: int
    codebook_sizes: tuple[int, ...]
    frame_rates_hz: tuple[float, ...]
    bandwidths_kbps: tuple[float, ...]
    device: str = "cpu"
    decodes: bool = True
    chunk_s: float | None = None
    seams: str = "none"
    module: Any = None

    @abstractmethod
    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        """Encode float32 ``[C, S]``, ``S >= 1``, with the leading `num_codebooks`, `chunk_s` at a time."""

    @abstractmethod
    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        """Decode checked tokens to float32 ``[C, S]``, as long as the network makes it."""

    def num_codebooks_at(self, bandwidth_kbps: float | None) -> int:
        """Return how many codebooks a bandwidth uses; None means all.

        Raises:
            UnsupportedInput: The codec does not offer this bandwidth.
        """
        if bandwidth_kbps is None:
            return len(self.codebook_sizes)
        nearest = min(self.bandwidths_kbps, key=lambda offered: abs(offered - bandwidth_kbps))
        if not abs(nearest - bandwidth_kbps) <= _BANDWIDTH_TOLERANCE * nearest:
            raise UnsupportedInput(
                f"{self.name} has no bandwidth of {bandwidth_kbps} kbps; choose one of "
                f"{', '.join(f'{b:.4g}' for b in self.bandwidths_kbps)}."
            )
        budget = nearest * (1 + _BANDWIDTH_TOLERANCE)
        rates = [self.bitrate_kbps(k + 1) for k in range(len(self.codebook_sizes))]
        return max(1, int(np.searchsorted(rates, budget, side="right")))

    def bitrate_kbps(self, num_codebooks: int) -> float:
        """Return the bitrate of the raw codes of the leading `num_codebooks`, in kbps."""
        rates = zip(self.frame_rates_hz[:num_codebooks], self.codebook_sizes[:num_codebooks], strict=True)
        return sum(rate * math.log2(size) for rate, size in rates) / 1000

    def encode(
        self,
        clip: Clip,
        bandwidth_kbps: float | None = None,
        *,
        num_codebooks: int | None = None,
        chunk_s: float | None = None,
    ) -> Tokens:
        """Encode one clip.

        Args:
            clip: At this codec's sampling rate and channels (`codecbook.audio.convert` makes it so).
            bandwidth_kbps: One of `bandwidths_kbps`; None uses all codebooks.
            num_codebooks: How many leading codebooks to use, instead of a bandwidth.
            chunk_s: Seconds of audio at a time, 1 or more; None takes the codec's own `chunk_s`.

        Raises:
            UnsupportedInput: Wrong rate, channels, bandwidth or number of codebooks; both of these; or chunks for
                a codec that cannot take them.
            CorruptInput: No samples, or samples that are not finite.
        """
        return self.encode_batch([clip], bandwidth_kbps, num_codebooks=num_codebooks, chunk_s=chunk_s)[0]

    def encode_batch(
        self,
        clips: Sequence[Clip],
        bandwidth_kbps: float | None = None,
        *,
        num_codebooks: int | None = None,
        chunk_s: float | None = None,
    ) -> list[Tokens]:
        """Encode several clips of any lengths; see `encode`. All are checked before the first is encoded."""
        for clip in clips:
            self._check_clip(clip)
        count = self._checked_count(bandwidth_kbps, num_codebooks)
        chunk_s = self._checked_chunk_s(chunk_s)
        nominal_kbps = bandwidth_kbps
        if nominal_kbps is None and count == len(self.codebook_sizes):
            nominal_kbps = self.bandwidths_kbps[-1]
        return [
            self._tokens(clip, self._encode_samples(clip.samples, count, chunk_s), nominal_kbps)
            for clip in clips
        ]

    def decode(self, tokens: Tokens, num_codebooks: int | None = None) -> Clip:
        """Decode tokens, or only their leading codebooks.

        Args:
            tokens: Of this codec.
            num_codebooks: How many leading codebooks to use; None uses all that `tokens` has.

        Returns:
            A clip of ``tokens.num_samples`` where that is known, else of all that the network makes.

        Raises:
            UnsupportedInput: Tokens of another codec, or a codec without a decoder.
            CorruptInput: Fewer codes than the audio's length asks for.
        """
        if not self.decodes:
            raise UnsupportedInput(
                f"{self.name} is a tokenizer without a decoder; use another codec to listen."
            )
        if num_codebooks is not None:
            tokens = tokens.leading(num_codebooks)
        self.check_tokens(tokens)
        samples = self._decode_tokens(tokens)
        if tokens.num_samples is not None:
            # some networks end up to a frame early; the check of the number of codes bounds what is filled in
            short = max(0, tokens.num_samples - samples.shape[1])
            samples = np.pad(samples[:, : tokens.num_samples], ((0, 0), (0, short)))
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        return Clip(samples, self.sample_rate_hz, name=self.name)

    def _tokens(self, clip: Clip, encoded: Encoded, bandwidth_kbps: float | None) -> Tokens:
        count = len(encoded.codes)
        return Tokens(
            codes=tuple(encoded.codes),
            codebook_sizes=self.codebook_sizes[:count],
            frame_rates_hz=self.frame_rates_hz[:count],
            codec=self.name,
            weights=str(self.weights),
            sample_rate_hz=self.sample_rate_hz,
            channels=self.channels,
            num_samples=clip.num_samples,
            bandwidth_kbps=bandwidth_kbps,
            segment_frames=encoded.segment_frames,
            scales=encoded.scales,
        )

    def _checked_count(self, bandwidth_kbps: float | None, num_codebooks: int | None) -> int:
        if num_codebooks is None:
            return self.num_codebooks_at(bandwidth_kbps)
        if bandwidth_kbps is not None:
            raise UnsupportedInput(
                f"Both bandwidth_kbps={bandwidth_kbps} and num_codebooks={num_codebooks} were given; leave one out."
            )
        if not 1 <= num_codebooks <= len(self.codebook_sizes):
            raise UnsupportedInput(
                f"num_codebooks={num_codebooks}, but {self.name} has {len(self.codebook_sizes)}; choose 1 to "
                f"{len(self.codebook_sizes)}."
            )
        return num_codebooks

    def _checked_chunk_s(self, chunk_s: float | None) -> float | None:
        if chunk_s is None:
            return self.chunk_s
        if self.chunk_s is None:
            raise UnsupportedInput(
                f"Every token of {self.name} depends on the whole clip, so chunk_s={chunk_s} cannot be kept to; "
                "leave it out, and cut long recordings."
            )
        if not (math.isfinite(chunk_s) and chunk_s >= MIN_CHUNK_S):
            raise UnsupportedInput(f"chunk_s is {chunk_s}; give {MIN_CHUNK_S:g} s or more.")
        return chunk_s

    def _check_clip(self, clip: Clip) -> None:
        label = f"Clip {clip.name!r}"
        if clip.sample_rate_hz != self.sample_rate_hz or clip.num_channels != self.channels:
            raise UnsupportedInput(
                f"{label} has {clip.num_channels} channel(s) at {clip.sample_rate_hz} Hz, but {self.name} takes "
                f"{self.channels} at {self.sample_rate_hz} Hz; use codecbook.audio.convert(clip, "
                f"sample_rate_hz={self.sample_rate_hz}, channels={self.channels})."
            )
        if clip.num_samples == 0:
            raise CorruptInput(f"{label} holds no samples; leave it out.")
        if not np.isfinite(clip.samples).all():
            raise CorruptInput(f"{label} has samples that are not finite; repair or cut the recording.")

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse tokens that this codec cannot decode.

        Raises:
            UnsupportedInput: They are of another codec.
            CorruptInput: Fewer codes than the audio's length asks for.
        """
        if tokens.codec and tokens.codec != self.name:
            raise UnsupportedInput(
                f"These tokens are of {tokens.codec}, not of {self.name}; load that codec."
            )
        if tokens.mid_codebooks is not None:
            raise UnsupportedInput(
                f"These tokens code mid and side apart, which {self.name} does not; decode each on its own."
            )
        if tokens.num_codebooks > len(self.codebook_sizes):
            raise UnsupportedInput(
                f"Tokens have {tokens.num_codebooks} codebooks, {self.name} has {len(self.codebook_sizes)}; use "
                "tokens.leading(...)."
            )
        expected = self.codebook_sizes[: tokens.num_codebooks]
        if tokens.codebook_sizes != expected:
            raise UnsupportedInput(
                f"Tokens have codebook sizes {tokens.codebook_sizes}, {self.name} has {expected}; they are of "
                "another codec."
            )
        rates = self.frame_rates_hz[: tokens.num_codebooks]
        if not np.allclose(tokens.frame_rates_hz, rates, rtol=1e-3, atol=0.0):
            raise UnsupportedInput(
                f"Tokens have frame rates {tokens.frame_rates_hz} Hz, {self.name} has {rates} Hz; they are of "
                "another codec."
            )
        for k, codes in enumerate(tokens.codes):
            self._check_length(k, len(codes), tokens.num_samples)

    def _check_length(self, k: int, num_codes: int, num_samples: int | None) -> None:
        if num_codes == 0:
            raise CorruptInput(f"Codebook {k} holds no codes; there is nothing to decode.")
        needed = 0.0 if num_samples is None else num_samples / self.sample_rate_hz * self.frame_rates_hz[k]
        if num_codes < math.floor(needed) - 1:
            raise CorruptInput(
                f"Codebook {k} holds {num_codes} codes, but {num_samples} samples of {self.name} need about "
                f"{math.ceil(needed)}; the tokens are cut short, or their num_samples is wrong."
            )


def checked_device(device: str) -> str:
    """Return a torch device that is really there.

    Raises:
        UnsupportedInput: No such device on this machine.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedInput(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); choose cpu, or check the "
            "driver and torch's build."
        ) from error
    return device


__all__ = ["MIN_CHUNK_S", "Codec", "Encoded", "Weights", "checked_device"]
