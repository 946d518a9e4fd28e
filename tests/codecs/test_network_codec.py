import numpy as np
import pytest
import torch
from torch import nn

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.network_codec import NetworkCodec
from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens


class Halves(NetworkCodec):
    """Two codebooks at 400 Hz for audio at 800 Hz; nothing is learned."""

    channels = 1

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        super().__init__("halves", module, Weights("random", "seed 0"), device)
        self.sample_rate_hz, self.hop_length = 800, 2
        self._set_codebooks(16, 2)

    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        return Encoded([np.zeros(samples.shape[1] // 2, dtype=np.int64)] * num_codebooks)

    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        return np.zeros((1, 2 * len(tokens.codes[0])), dtype=np.float32)


def test_a_network_is_put_on_its_device_ready_to_use():
    module = nn.Dropout().train()
    codec = Halves(module)
    assert codec.module is module
    assert not module.training
    assert (codec.name, codec.device, str(codec.weights)) == ("halves", "cpu", "random: seed 0")
    assert next(Halves(nn.Linear(1, 1), "meta").module.parameters()).device == torch.device("meta")


def test_codebooks_share_a_rate_and_each_number_of_them_is_a_bandwidth():
    codec = Halves(nn.Identity())
    assert codec.codebook_sizes == (16, 16)
    assert codec.frame_rates_hz == (400.0, 400.0)
    assert codec.bandwidths_kbps == (1.6, 3.2)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UnsupportedInput, match="The device 'cuda:99' cannot be used here"):
        Halves(nn.Identity(), "cuda:99")
