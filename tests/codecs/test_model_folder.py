"""What all model folders share: two files, written in order, and read with checks that name the remedy."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from codecbook.codecs.model_folder import (
    check_finite,
    check_sha256,
    read_config,
    read_tensors,
    refuse_existing,
    write_model,
)
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput

CONFIG = {"architecture": "none", "arguments": {"levels": [4, 4]}, "sha256": "ab" * 32, "provenance": {}}
TEXT = """{
  "format": 1,
  "architecture": "none",
  "arguments": {
    "levels": [
      4,
      4
    ]
  },
  "sha256": "abababababababababababababababababababababababababababababababab",
  "provenance": {}
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "model", safetensors.torch.save({"weight": torch.arange(3.0)}), CONFIG)
    return tmp_path / "model"


def test_the_files_are_written_and_read(folder: Path) -> None:
    assert (folder / "config.json").read_text() == TEXT
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert read_config(folder, "model", "a command") == {"format": 1, **CONFIG}
    tensors = read_tensors(folder)
    assert list(tensors) == ["weight"]
    assert torch.equal(tensors["weight"], torch.arange(3.0))


def test_the_parameters_are_written_first(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CodecbookError, match=r"config\.json is a folder"):
        write_model(tmp_path, b"parameters", CONFIG)
    assert (tmp_path / "model.safetensors").read_bytes() == b"parameters"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_half_a_model_is_not_overwritten_unasked_either(name: str, folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != name:
            path.unlink()
    message = f"{folder} holds {name} already; pass overwrite=True, or choose another folder."
    with pytest.raises(CodecbookError, match=f"^{re.escape(message)}$"):
        refuse_existing(folder, overwrite=False)
    refuse_existing(folder, overwrite=True)
    refuse_existing(folder / "none", overwrite=False)
    with pytest.raises(CodecbookError, match="exists; pass overwrite=True"):
        write_model(folder, b"", CONFIG)


def test_what_is_missing_says_how_to_make_it(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    message = (
        f"{folder} holds no toy (config.json and model.safetensors are needed); check the path, or train one with "
        "'make toy'."
    )
    with pytest.raises(MissingWeights, match=f"^{re.escape(message)}$"):
        read_config(folder, "toy", "'make toy'")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"{", CorruptInput, "is no JSON text"),
        (b"\xff", CorruptInput, "is no JSON text"),
        (b"[]", CorruptInput, "has no int 'format'"),
        (TEXT.replace("1", '"1"', 1).encode(), CorruptInput, "has no int 'format'"),
        (TEXT.replace("sha256", "sha1").encode(), CorruptInput, "has no str 'sha256'"),
        (TEXT.replace("1", "2", 1).encode(), UnsupportedInput, "has format 2, this version reads 1; update"),
    ],
)
def test_a_damaged_configuration(content: bytes, error: type, message: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(error, match=message):
        read_config(folder, "model", "a command")


def test_damaged_parameters(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptInput, match="is truncated or damaged"):
        read_tensors(folder)
    check_sha256(folder, "ab" * 32, CONFIG)
    message = r"SHA-256 cdcdcdcdcdcdcdcd\.\.\., config\.json says abababababababab\.\.\.; one of the files"
    with pytest.raises(CorruptInput, match=message):
        check_sha256(folder, "cd" * 32, CONFIG)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_what_float16_cannot_hold(value: float) -> None:
    check_finite({"codes": torch.tensor([1 << 40]), "weight": torch.tensor([65504.0]).half()})
    with pytest.raises(CorruptInput, match="Parameter weight is not finite as float16"):
        check_finite({"codes": torch.tensor([1]), "weight": torch.tensor([0.0, value]).half()})


def test_a_configuration_is_read_where_there_is_no_torch(
    folder: Path, numpy_alone: Callable[..., str]
) -> None:
    code = """
from pathlib import Path

from codecbook.lm.model_config import read_config

print(read_config(Path(sys.argv[1]))["sha256"])
"""
    assert numpy_alone(code, str(folder)).strip() == "ab" * 32
