import json
from pathlib import Path

import numpy as np
import pytest
import torch

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import save_exact
from codecbook.lm.model_files import load_lm, save_lm
from codecbook.lm.models import build_lm
from codecbook.lm.score import token_bits

SHAPE = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16}


@pytest.fixture(params=["tiny_gpt", "rvq_transformer"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    sizes = [5] if request.param == "tiny_gpt" else [5, 5]
    torch.manual_seed(0)
    model = build_lm(request.param, {**SHAPE, "codebook_sizes": sizes})
    save_lm(tmp_path / "model", model, {"codec": "encodec_24khz", "bits_per_token": 6.1})
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was_stored(folder: Path, tmp_path: Path) -> None:
    loaded = load_lm(folder)
    assert loaded.config["provenance"] == {"codec": "encodec_24khz", "bits_per_token": 6.1}
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    # float16 in the file, float32 in use: saving what was loaded changes nothing
    assert save_lm(tmp_path / "again", loaded.model, {}) == loaded.sha256 == load_lm(tmp_path / "again").sha256
    codes = np.zeros((4, loaded.model.num_codebooks), dtype=np.int64)
    bits = token_bits(loaded.model, codes)
    assert np.array_equal(bits, token_bits(load_lm(tmp_path / "again").model, codes))


def test_tables_of_positions_are_stored_as_they_are(tmp_path: Path) -> None:
    model = build_lm("tiny_gpt", {**SHAPE, "codebook_sizes": [5]})
    save_lm(tmp_path, model, {})
    assert model.rotation is not None
    loaded = load_lm(tmp_path).model
    assert loaded.rotation is not None
    assert torch.equal(model.rotation.get_buffer("sine"), loaded.rotation.get_buffer("sine"))


def test_a_model_is_not_overwritten_unasked(folder: Path) -> None:
    model = load_lm(folder).model
    with pytest.raises(CodecbookError, match="overwrite=True"):
        save_lm(folder, model, {})
    save_lm(folder, model, {}, overwrite=True)


def test_missing_and_damaged_files_are_refused(folder: Path) -> None:
    parameters, config = folder / "model.safetensors", folder / "config.json"
    good_parameters, good_config = parameters.read_bytes(), json.loads(config.read_text())

    parameters.write_bytes(good_parameters[:-3])
    with pytest.raises(CorruptInput, match="truncated"):
        load_lm(folder)
    parameters.write_bytes(good_parameters[:-1] + bytes([good_parameters[-1] ^ 1]))
    with pytest.raises(CorruptInput, match="SHA-256"):
        load_lm(folder)
    parameters.write_bytes(good_parameters)

    config.write_text("{")
    with pytest.raises(CorruptInput, match="no JSON"):
        load_lm(folder)
    config.write_text(json.dumps({**good_config, "sha256": 3}))
    with pytest.raises(CorruptInput, match="'sha256'"):
        load_lm(folder)
    config.write_text(json.dumps({**good_config, "format": 2}))
    with pytest.raises(UnsupportedInput, match="format 2"):
        load_lm(folder)
    config.write_text(json.dumps({**good_config, "architecture": "lstm"}))
    with pytest.raises(UnsupportedInput, match="lstm"):
        load_lm(folder)
    config.write_text(json.dumps({**good_config, "arguments": {**good_config["arguments"], "hidden": 32}}))
    with pytest.raises(UnsupportedInput, match="shape"):
        load_lm(folder)
    config.unlink()
    with pytest.raises(MissingWeights, match=r"config\.json"):
        load_lm(folder)


def test_floats_that_are_not_stored_are_made_from_the_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_lm("rvq_transformer", {**SHAPE, "codebook_sizes": [5, 5]}).eval()
    codes = np.random.default_rng(0).integers(0, 5, (40, 2))
    exact = export_exact(model, [codes])
    save_lm(tmp_path, model, {"codec": "x"})
    save_exact(tmp_path / "exact", exact)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CorruptInput, match="SHA-256"):
        load_lm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "sha256": exact.arrays_sha256}))
    loaded = load_lm(tmp_path)
    assert (loaded.sha256, loaded.config["provenance"]) == (exact.arrays_sha256, {"codec": "x"})
    assert np.abs(token_bits(loaded.model, codes) - token_bits(model, codes)).max() < 0.02
    (tmp_path / "exact" / "model.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"model\.safetensors"):
        load_lm(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_what_float16_cannot_hold_is_not_saved(value: float, tmp_path: Path) -> None:
    model = build_lm("rvq_transformer", {**SHAPE, "codebook_sizes": [5]})
    with torch.no_grad():
        model.norm.weight[3] = value
    with pytest.raises(CorruptInput, match=r"norm\.weight is not finite"):
        save_lm(tmp_path, model, {})
    assert not list(tmp_path.iterdir())
