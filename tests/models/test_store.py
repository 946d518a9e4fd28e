"""What all model folders share: two files, written in order, and read with checks that name the remedy."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.models.store import (
    arrays_sha256,
    check_save,
    check_shapes,
    load_tensors,
    read_config,
    refuse_existing,
    save_tensors,
    tensors_sha256,
    write_model,
)

TENSORS = {"weight": torch.arange(3.0)}
SHA256 = tensors_sha256(TENSORS)
CONFIG = {"architecture": "none", "arguments": {"levels": [4]}, "sha256": SHA256, "provenance": {}}
TEXT = f"""{{
  "format": 1,
  "architecture": "none",
  "arguments": {{
    "levels": [
      4
    ]
  }},
  "sha256": "{SHA256}",
  "provenance": {{}}
}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "model", TENSORS, "none", {"levels": [4]}, {})
    return tmp_path / "model"


def test_the_files_are_written_and_read(folder: Path) -> None:
    assert (folder / "config.json").read_text() == TEXT
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert read_config(folder, "model", "a command") == {"format": 1, **CONFIG}
    tensors = load_tensors(folder, CONFIG)
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
        refuse_existing(folder, overwrite=False, architectures=["none"])
    refuse_existing(folder, overwrite=True, architectures=["none"])
    refuse_existing(folder / "none", overwrite=False, architectures=["none"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "another architecture, 'none'"),
        ('{"model_type": "encodec"}', "another architecture, None"),
        ("null", "no JSON object"),
        ("{", "no JSON text"),
    ],
)
def test_a_configuration_of_another_kind_is_never_replaced(content: str | None, message: str, folder: Path) -> None:
    if content is not None:
        (folder / "config.json").write_text(content)
    for refuse in (lambda kinds: refuse_existing(folder, True, kinds), lambda kinds: check_save(folder, kinds)):
        with pytest.raises(CodecbookError, match=re.escape(message)):
            refuse(["units", "exact"])


def test_what_is_missing_says_how_to_make_it(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    message = f"{folder} holds no toy (config.json, model.safetensors); check the path, or run 'make toy'."
    with pytest.raises(MissingWeights, match=f"^{re.escape(message)}$"):
        read_config(folder, "toy", "'make toy'")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"{", CorruptInput, "is no JSON text"),
        (b"\xff", CorruptInput, "is no JSON text"),
        (b"[]", CorruptInput, "holds no JSON object"),
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
        load_tensors(folder, CONFIG)


def test_parameters_of_another_hash(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}))
    message = rf"SHA-256 [0-9a-f]{{16}}\.\.\., not {SHA256[:16]}\.\.\.; fetch it again"
    with pytest.raises(CorruptInput, match=message):
        load_tensors(folder, CONFIG)


@pytest.mark.parametrize("arguments", [{"layers": 2}, {"hidden_dim": 4}, {"levels": [4, 4]}, {"num_codebooks": 1e300}])
def test_a_configuration_of_a_larger_model_is_refused_before_it_is_built(tmp_path: Path, arguments: dict) -> None:
    save_tensors(tmp_path, TENSORS, "none", arguments, {})
    with pytest.raises(UnsupportedInput, match=f"claims {next(iter(arguments))}="):
        load_tensors(tmp_path, {**CONFIG, "arguments": arguments})


@pytest.mark.parametrize("shapes", [{}, {"weight": [2]}, {"bias": [3]}, {"weight": [3], "bias": [3]}])
def test_parameters_of_another_model(shapes: dict) -> None:
    check_shapes({"weight": [3]}, TENSORS, Path("folder"))
    with pytest.raises(UnsupportedInput, match=r"in folder has shape .*, not "):
        check_shapes(shapes, TENSORS, Path("folder"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_what_float16_cannot_hold(value: float, tmp_path: Path) -> None:
    with pytest.raises(CorruptInput, match="Parameter weight is not finite as float16"):
        save_tensors(
            tmp_path / "model",
            {"weight": torch.tensor([0.0, value]).half(), "codes": torch.tensor([1])},
            "none",
            {},
            {},
        )
    assert not (tmp_path / "model").exists()


def test_a_configuration_is_read_where_there_is_no_torch(folder: Path, numpy_alone: Callable[..., str]) -> None:
    code = """
from pathlib import Path

from codecbook.models.store import read_config

print(read_config(Path(sys.argv[1]), "model", "a command")["sha256"])
"""
    assert numpy_alone(code, str(folder)).strip() == SHA256


ARRAYS = {
    "b": np.arange(-6, 6, dtype=np.int32).reshape(3, 4),
    "a": np.array([-1, 2], dtype=np.int8),
    "c": np.arange(4, dtype=np.int64).reshape(2, 2).T,
    "d": np.array([0.5, -1.25], dtype=np.float16),
    "e": np.zeros((0, 3), dtype=np.int16),
}


def test_the_bytes_are_those_of_the_text() -> None:
    text = b"a:torch.int8:[2];\xff\x02" + b"c:torch.int16:[1, 2];\x01\x00\x00\x01"
    arrays = {"c": np.array([[1, 256]], dtype=np.int16), "a": np.array([-1, 2], dtype=np.int8)}
    assert arrays_sha256(arrays) == hashlib.sha256(text).hexdigest()


def test_torch_and_numpy_agree() -> None:
    tensors = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
    assert arrays_sha256(ARRAYS) == tensors_sha256(tensors)


def test_byte_order_is_no_part_of_it() -> None:
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in ARRAYS.items()}
    assert arrays_sha256(swapped) == arrays_sha256(ARRAYS)


def test_types_that_numpy_lacks_have_a_hash() -> None:
    assert tensors_sha256({"a": torch.ones(2, dtype=torch.bfloat16)}) != tensors_sha256(
        {"a": torch.ones(2, dtype=torch.float16)}
    )


def test_hash_depends_on_names_types_shapes_and_values():
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3).half()},
        {"a": torch.ones(2, 3)},
    ]
    assert len({tensors_sha256(tensors) for tensors in [base, *others]}) == 5
