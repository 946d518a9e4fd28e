"""What those codecs share whose networks run in torch."""

from typing import Any

from codecbook.codecs.base import Codec, Weights, checked_device


class NetworkCodec(Codec):
    """A codec whose network runs in torch, on any of its devices.

    Args:
        name: Registry name.
        module: The network; it is moved to the device and set to evaluation mode in place.
        weights: Where its weights are from.
        device: Torch device.

    Raises:
        UnsupportedInput: No such device on this machine.

    Attributes:
        hop_length: Samples for which one frame stands.
        decode_chunk_s: Seconds of tokens that go through the decoder at once, set by codecs that decode in pieces;
            pieces of another length change the last bits of the audio.
    """

    hop_length: int
    decode_chunk_s: float

    def __init__(self, name: str, module: Any, weights: Weights, device: str = "cpu") -> None:
        self.name = name
        self.weights = weights
        self.device = checked_device(device)
        self.module = module.to(device).eval()

    def _set_codebooks(self, codebook_size: int, num_codebooks: int) -> None:
        """Give all codebooks one size and one code a frame, and offer a bandwidth for each number of them.

        The sampling rate and `hop_length` are set before.
        """
        self.codebook_sizes = (codebook_size,) * num_codebooks
        self.frame_rates_hz = (self.sample_rate_hz / self.hop_length,) * num_codebooks
        self.bandwidths_kbps = tuple(self.bitrate_kbps(k + 1) for k in range(num_codebooks))
