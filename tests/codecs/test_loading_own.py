import json

import pytest
import safetensors.torch
import torch

from codecbook.codecs.build import random_seeded
from codecbook.codecs.loading import load_model, save_model
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput

ARGUMENTS = {"hidden_dim": 8, "num_filters": 2, "num_codebooks": 2, "codebook_size": 16, "bandwidth_kbps": 0.6}


@pytest.fixture
def saved(tmp_path):
    module = random_seeded("encodec", ARGUMENTS, seed=0)
    save_model(tmp_path / "model", module, "encodec", ARGUMENTS, {"data": "none"})
    return tmp_path / "model", module


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip_is_exact_to_float16(saved):
    folder, module = saved
    loaded, config = load_model(folder)
    assert config["provenance"] == {"data": "none"}
    assert not loaded.training
    theirs = loaded.state_dict()
    for name, value in module.state_dict().items():
        if not name.endswith(("embed_avg", "cluster_size")):
            assert theirs[name].dtype == torch.float32
            assert torch.equal(theirs[name], value.half().float()), name


def test_a_loaded_model_is_saved_as_the_same_bytes(saved, tmp_path):
    folder, _ = saved
    module, config = load_model(folder)
    sha256 = save_model(tmp_path / "again", module, "encodec", ARGUMENTS, {})
    assert sha256 == config["sha256"]
    assert (tmp_path / "again/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_parameters(saved, keep):
    folder, _ = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptInput, match="truncated"):
        load_model(folder)


def test_altered_parameters(saved):
    folder, _ = saved
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptInput, match="SHA-256"):
        load_model(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "fsq", "arguments": {"hidden_dim": 8, "num_filters": 2}},
        {"arguments": ARGUMENTS | {"num_codebooks": 4}},
        {"arguments": ARGUMENTS | {"num_codebooks": 1, "bandwidth_kbps": 0.3}},
        {"arguments": ARGUMENTS | {"codebook_size": 32, "bandwidth_kbps": 0.75}},
        {"arguments": ARGUMENTS | {"unknown": 1}},
        {"architecture": "unheard_of"},
        {"format": 2},
    ],
)
def test_configuration_of_another_model(saved, changes):
    folder, _ = saved
    edit_config(folder, **changes)
    with pytest.raises(UnsupportedInput):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "1"}', "\0\xff"])
def test_damaged_configuration(saved, text):
    folder, _ = saved
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CorruptInput):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(saved, name):
    folder, _ = saved
    (folder / name).unlink()
    with pytest.raises(MissingWeights, match=r"codecbook\.codecs\.train"):
        load_model(folder)


def test_a_model_is_not_overwritten_unless_asked(saved):
    folder, _ = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = random_seeded("encodec", ARGUMENTS, seed=1)
    with pytest.raises(CodecbookError, match="overwrite=True"):
        save_model(folder, other, "encodec", ARGUMENTS, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(folder, other, "encodec", ARGUMENTS, {}, overwrite=True)
    assert load_model(folder)[1]["sha256"] != json.loads(before["config.json"])["sha256"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_parameters_beyond_float16_are_refused_before_anything_is_written(tmp_path, value):
    module = random_seeded("encodec", ARGUMENTS, seed=0)
    with torch.no_grad():
        next(module.parameters()).flatten()[0] = value
    with pytest.raises(CorruptInput, match="not finite"):
        save_model(tmp_path / "model", module, "encodec", ARGUMENTS, {})
    assert not (tmp_path / "model").exists()


def test_a_module_that_its_arguments_do_not_build_is_refused(tmp_path):
    module = random_seeded("encodec", ARGUMENTS | {"num_codebooks": 4}, seed=0)
    with pytest.raises(UnsupportedInput):
        save_model(tmp_path / "model", module, "encodec", ARGUMENTS, {})


def test_parameters_are_stored_as_float16(saved):
    tensors = safetensors.torch.load_file(saved[0] / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
