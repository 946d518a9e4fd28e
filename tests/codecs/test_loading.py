import pytest
import torch

from codecbook.codecs.loading import keep_signal_alive, load_from_hub
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import seeded


@pytest.mark.parametrize("normalise", [torch.nn.utils.parametrizations.weight_norm, None])
def test_rescaled_convolutions_put_out_unit_deviation(normalise):
    layers = [torch.nn.Conv1d(1, 8, 3), torch.nn.ELU(), torch.nn.ConvTranspose1d(8, 4, 4, 2)]
    with seeded(0):
        network = torch.nn.Sequential(*(normalise(x) if normalise and hasattr(x, "weight") else x for x in layers))
        probe = torch.randn(1, 1, 500)
        keep_signal_alive(network, network, probe)
    assert float(network(probe).detach().std()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("cached", [True, False])
def test_weights_of_another_model_are_not_called_missing(monkeypatch, cached):
    def load(place, local_files_only):
        if local_files_only and not cached:
            raise OSError("not cached")
        raise UnsupportedInput("of another model")

    monkeypatch.setattr("codecbook.models.hub.fetch_repository", lambda *what: None)
    with pytest.raises(UnsupportedInput, match="of another model"):
        load_from_hub("mimi", "kyutai/mimi", load, [], 0, None)
