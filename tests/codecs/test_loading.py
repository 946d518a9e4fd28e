import pytest
import torch

from codecbook.codecs.loading import keep_signal_alive
from codecbook.models.weights import seeded


@pytest.mark.parametrize("normalise", [torch.nn.utils.parametrizations.weight_norm, None])
def test_rescaled_convolutions_put_out_unit_deviation(normalise):
    layers = [torch.nn.Conv1d(1, 8, 3), torch.nn.ELU(), torch.nn.ConvTranspose1d(8, 4, 4, 2)]
    with seeded(0):
        network = torch.nn.Sequential(*(normalise(x) if normalise and hasattr(x, "weight") else x for x in layers))
        probe = torch.randn(1, 1, 500)
        keep_signal_alive(network, network, probe)
    assert float(network(probe).detach().std()) == pytest.approx(1.0, abs=1e-3)
