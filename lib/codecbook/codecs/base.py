"""What every codec adapter offers, and the checks that all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecbook.audio import Clip
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.tokens import Tokens


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are from; printed in every table and figure that used them.

    Attributes:
        kind: ``"bundled"`` (trained by this project's own code), ``"pretrained"`` or ``"random"``.
        source: File, hub repository or seed.
        sha256: SHA-256 over the parameters, hex; equal weights have equal hashes whatever file they came from.
    """

    kind: str
    source: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.source}"


class Codec(ABC):
    """A neural audio codec behind one interface.

    Subclasses set the attributes and implement `_encode_batch` and `_decode`; checks are done here, once.

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

    @abstractmethod
    def _encode_batch(self, clips: Sequence[Clip], num_codebooks: int) -> list[Tokens]:
        """Encode checked clips with the leading `num_codebooks`; each clip's tokens must not depend on the others."""

    @abstractmethod
    def _decode(self, tokens: Tokens) -> np.ndarray:
        """Decode checked tokens to float32 ``[C, S]``, trimmed to ``tokens.num_samples`` where it is known."""

    def num_codebooks_at(self, bandwidth_kbps: float | None) -> int:
        """Return how many codebooks a bandwidth uses; None means all.

        Raises:
            UnsupportedInput: The codec does not offer this bandwidth.
        """
        if bandwidth_kbps is None:
            return len(self.codebook_sizes)
        nearest = min(self.bandwidths_kbps, key=lambda offered: abs(offered - bandwidth_kbps))
        if abs(nearest - bandwidth_kbps) > 0.005 * nearest:
            raise UnsupportedInput(
                f"{self.name} has no bandwidth of {bandwidth_kbps} kbps; choose one of "
                f"{', '.join(f'{b:g}' for b in self.bandwidths_kbps)}."
            )
        budget = nearest * 1000 * 1.005
        rates = np.cumsum(
            [
                rate * np.log2(size)
                for rate, size in zip(self.frame_rates_hz, self.codebook_sizes, strict=True)
            ]
        )
        return max(1, int(np.searchsorted(rates, budget, side="right")))

    def encode(self, clip: Clip, bandwidth_kbps: float | None = None) -> Tokens:
        """Encode one clip.

        Args:
            clip: At this codec's sampling rate and channels (`codecbook.audio.convert` makes it so).
            bandwidth_kbps: One of `bandwidths_kbps`; None uses all codebooks.

        Raises:
            UnsupportedInput: Wrong rate, channels or bandwidth.
            CorruptInput: No samples, or samples that are not finite.
        """
        return self.encode_batch([clip], bandwidth_kbps)[0]

    def encode_batch(self, clips: Sequence[Clip], bandwidth_kbps: float | None = None) -> list[Tokens]:
        """Encode several clips of any lengths at once; see `encode`."""
        for clip in clips:
            self._check_clip(clip)
        num_codebooks = self.num_codebooks_at(bandwidth_kbps)
        return self._encode_batch(clips, num_codebooks) if clips else []

    def decode(self, tokens: Tokens, num_codebooks: int | None = None) -> Clip:
        """Decode tokens, or only their leading codebooks.

        Args:
            tokens: Of this codec.
            num_codebooks: How many leading codebooks to use; None uses all that `tokens` has.

        Raises:
            UnsupportedInput: Tokens of another codec, or a codec without a decoder.
        """
        if not self.decodes:
            raise UnsupportedInput(
                f"{self.name} is a tokenizer without a decoder; use another codec to listen."
            )
        if num_codebooks is not None:
            tokens = tokens.leading(num_codebooks)
        self._check_tokens(tokens)
        samples = self._decode(tokens)
        return Clip(
            np.ascontiguousarray(samples, dtype=np.float32),
            self.sample_rate_hz,
            name=tokens.codec or self.name,
        )

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

    def _check_tokens(self, tokens: Tokens) -> None:
        if tokens.codec and tokens.codec != self.name:
            raise UnsupportedInput(
                f"These tokens are of {tokens.codec}, not of {self.name}; load that codec."
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
        if not all(len(codes) for codes in tokens.codes):
            raise CorruptInput("A codebook holds no codes; there is nothing to decode.")
