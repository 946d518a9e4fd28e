"""A codec with one codebook: a SEANet around a finite scalar quantiser."""

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

if TYPE_CHECKING:
    from vector_quantize_pytorch import FSQ


class FsqCodec(nn.Module):
    """A SEANet around one finite scalar quantiser (Mentzer et al. 2023): one token a frame.

    Attributes:
        sample_rate_hz: Sampling rate of the mono audio in and out.
        hop_length: Samples a frame.
        codebook_size: Number of codes, the product of the levels.
    """

    def __init__(self, encoder: Any, quantizer: "FSQ", decoder: Any, sample_rate_hz: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.sample_rate_hz = sample_rate_hz
        self.hop_length = int(encoder.hop_length)
        self.codebook_size = int(cast(Tensor, quantizer._levels).prod())

    def encode(self, waveform: Tensor) -> Tensor:
        """Turn float32 ``[B, 1, S]`` into codes, int64 ``[B, T]`` with ``T = ceil(S / hop_length)``."""
        return self.quantizer(self.encoder(waveform).transpose(1, 2))[1].long()

    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes ``[B, T]`` into float32 ``[B, 1, T * hop_length]``."""
        return self.decoder(self.quantizer.indices_to_codes(codes).transpose(1, 2))
