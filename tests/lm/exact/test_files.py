"""Saving and loading: what comes back, and what damage is noticed."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.lm.exact.files import load_exact, save_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.model_files import load_lm, save_lm


@pytest.mark.parametrize("kind", ["in_frame", "none", "rotary"])
def test_a_model_comes_back(kind: str, tmp_path: Path, make_integer_model) -> None:
    model = make_integer_model(kind)
    assert save_exact(tmp_path, model, {"from": "a test"}) == model.sha256
    again = load_exact(tmp_path)
    assert again.sha256 == model.sha256
    assert again.config == model.config
    for name, array in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    assert json.loads((tmp_path / "config.json").read_text())["provenance"] == {"from": "a test"}


def test_a_model_is_not_replaced_by_accident(tmp_path: Path, make_integer_model) -> None:
    save_exact(tmp_path, make_integer_model("none"))
    other = make_integer_model("none", seed=1)
    with pytest.raises(CodecbookError, match="overwrite"):
        save_exact(tmp_path, other)
    save_exact(tmp_path, other, overwrite=True)
    assert load_exact(tmp_path).sha256 == other.sha256


def test_a_model_without_a_certificate_is_not_saved(tmp_path: Path, make_integer_model) -> None:
    model = make_integer_model("none")
    with pytest.raises(UnsupportedInput, match="epsilon below 1"):
        save_exact(tmp_path, ExactLM(model.config, {**model.arrays, "epsilon": np.zeros(1, dtype=np.int64)}))
    assert not list(tmp_path.iterdir())


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        if key in config["arguments"]:
            config["arguments"][key] = value
        else:
            config[key] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sha256": "0" * 64}, CorruptInput, "sha256"),
        ({"identity": "0" * 64}, CorruptInput, "identity"),
        ({"identity": 5}, CorruptInput, "identity"),
        ({"format": 2}, UnsupportedInput, "format 2"),
        ({"window_frames": 7}, CorruptInput, "as configured"),
        ({"window_frames": "six"}, CorruptInput, "describes no model"),
        ({"layers": 0}, CorruptInput, "describes no model"),
        ({"arguments": {"dim": 3}}, CorruptInput, "arguments"),
        ({"architecture": "tiny_gpt"}, UnsupportedInput, "float model"),
    ],
)
def test_an_altered_configuration(changes: dict, error: type, message: str, tmp_path: Path, make_integer_model) -> None:
    save_exact(tmp_path, make_integer_model("in_frame"))
    _edit(tmp_path, **changes)
    with pytest.raises(error, match=message):
        load_exact(tmp_path)


def test_damaged_arrays(tmp_path: Path, make_integer_model) -> None:
    save_exact(tmp_path, make_integer_model("in_frame"))
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for length in (0, 4, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptInput, match="truncated or damaged"):
            load_exact(tmp_path)
    for place in (len(data) - 1, len(data) - 3000, len(data) // 2):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(CorruptInput, match="sha256"):
            load_exact(tmp_path)
    tensors = safetensors.torch.load(data)
    path.write_bytes(safetensors.torch.save(tensors | {"epsilon": torch.ones(1, dtype=torch.bfloat16)}))
    with pytest.raises(CorruptInput, match="other numbers"):
        load_exact(tmp_path)
    path.unlink()
    with pytest.raises(MissingWeights):
        load_exact(tmp_path)


def test_float_and_exact_models_are_told_apart(tmp_path: Path, make_integer_model, make_float_model) -> None:
    save_exact(tmp_path / "exact", make_integer_model("none"))
    save_lm(tmp_path / "float", make_float_model("none"), {})
    with pytest.raises(UnsupportedInput, match="export it"):
        load_exact(tmp_path / "float")
    with pytest.raises(UnsupportedInput, match="architecture='exact' is unknown"):
        load_lm(tmp_path / "exact")
