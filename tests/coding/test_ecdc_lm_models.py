from pathlib import Path

import pytest
import torch

from codecbook.codecs import load_codec
from codecbook.codecs.build import build
from codecbook.coding.ecdc.lm import load_upstream_lm, network_of
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput


def small(name: str = "encodec_24khz"):
    return build(4, 16, hidden_dim=8, bandwidth_kbps=1.2, num_filters=2, name=name)


def test_adapters_and_models_are_taken() -> None:
    model = small()
    assert network_of(model) is model
    codec = load_codec("encodec_24khz")
    assert network_of(codec) is codec.module
    with pytest.raises(UnsupportedInput, match="Linear"):
        network_of(torch.nn.Linear(1, 1))


def test_built_and_loaded(tmp_path: Path) -> None:
    model = small()
    lm = load_upstream_lm(model, "random:4")
    assert (lm.n_q, lm.card, lm.dim, len(lm.transformer.layers)) == (4, 16, 200, 5)
    assert lm.transformer.past_context == 262
    assert not lm.training
    file = tmp_path / "encodec_lm_24khz-1608e3c0.th"
    torch.save(lm.state_dict(), file)
    for source in (file, tmp_path):
        loaded = load_upstream_lm(model, source)
        assert all(torch.equal(a, b) for a, b in zip(lm.parameters(), loaded.parameters(), strict=True))
    assert not torch.equal(load_upstream_lm(model, "random:5").emb[0].weight, lm.emb[0].weight)


def test_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    with pytest.raises(MissingWeights, match="language model of encodec_24khz"):
        load_upstream_lm(model, tmp_path)
    (tmp_path / "bad.th").write_bytes(b"no weights")
    with pytest.raises(CorruptInput, match="could not be read"):
        load_upstream_lm(model, tmp_path / "bad.th")
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "other.th")
    with pytest.raises(UnsupportedInput, match="another model"):
        load_upstream_lm(model, tmp_path / "other.th")
    with pytest.raises(UnsupportedInput, match="for 'mine'"):
        load_upstream_lm(small("mine"))

    def offline(url):
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("codecbook.models.hub._refuse_unanswered", offline)
    with pytest.raises(MissingWeights, match="no route"):
        load_upstream_lm(model)
