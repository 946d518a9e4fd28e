from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from codecbook.codecs import networks
from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.networks import NetworkCodec, fold_weight_norm, keep_signal_alive
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import seeded


class Halves(NetworkCodec):
    """Two codebooks at 400 Hz for audio at 800 Hz; nothing is learned."""

    channels = 1

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        super().__init__("halves", module, Weights("random", "seed 0"), device)
        self.sample_rate_hz, self.hop_length = 800, 2
        self._set_codebooks(16, 2)

    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float | None) -> Iterator[Encoded]:
        yield Encoded([np.zeros(queue.rest().shape[1] // 2, dtype=np.int64)] * num_codebooks)


def test_a_network_is_put_on_its_device_ready_to_use(monkeypatch):
    module = nn.Dropout().train()
    codec = Halves(module)
    assert codec.module is module
    assert not module.training
    assert (codec.name, codec.device, str(codec.weights)) == ("halves", "cpu", "random: seed 0")
    monkeypatch.setattr(networks, "checked_device", str)  # which refuses this one, as it gives no numbers
    assert next(Halves(nn.Linear(1, 1), "meta").module.parameters()).device == torch.device("meta")


def test_codebooks_share_a_rate_and_each_number_of_them_is_a_bandwidth():
    codec = Halves(nn.Identity())
    assert codec.codebook_sizes == (16, 16)
    assert codec.frame_rates_hz == (400.0, 400.0)
    assert codec.bandwidths_kbps == (1.6, 3.2)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UnsupportedInput, match="The device 'cuda:99' cannot be used here"):
        Halves(nn.Identity(), "cuda:99")


@pytest.mark.parametrize("normalise", [torch.nn.utils.parametrizations.weight_norm, None])
def test_rescaled_convolutions_put_out_unit_deviation(normalise):
    layers = [torch.nn.Conv1d(1, 8, 3), torch.nn.ELU(), torch.nn.ConvTranspose1d(8, 4, 4, 2)]
    with seeded(0):
        network = torch.nn.Sequential(*(normalise(x) if normalise and hasattr(x, "weight") else x for x in layers))
        probe = torch.randn(1, 1, 500)
        keep_signal_alive(network, network, probe)
    assert float(network(probe).detach().std()) == pytest.approx(1.0, abs=1e-3)


def test_folding_weight_norm_changes_no_bit():
    with seeded(0):
        network = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(2, 8, 5)))
    x = torch.randn(1, 2, 100)
    before = network(x)
    fold_weight_norm(network)
    assert torch.equal(network(x), before)
    assert set(network.state_dict()) == {"0.weight", "0.bias"}
