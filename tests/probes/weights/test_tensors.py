import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from codecbook.codecs.base import Codec
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput
from codecbook.probes.weights.tensors import (
    CODEBOOKS,
    ModelFile,
    TensorInfo,
    effective,
    folded_name,
    matrix_shape,
    role_of,
    stacks,
)

ROLES = {
    ("quantizer.vq.layers.0._codebook.embed", (1024, 64)): "codebook",
    ("quantizer.quantizers.0.codebook.weight", (4096, 8)): "codebook",
    ("model.embed_tokens.weight", (32000, 2048)): "embedding",
    ("transformer.wte.weight", (50257, 768)): "embedding",
    ("embedding.weight", (1025, 256)): "embedding",
    ("model.layers.0.self_attn.q_proj.weight", (64, 64)): "attention",
    ("model.layers.0.self_attn.o_proj.weight", (64, 64)): "attention",
    ("blocks.0.attention.query_key_value.weight", (192, 64)): "attention",
    ("model.layers.0.mlp.gate_proj.weight", (128, 64)): "mlp",
    ("model.layers.0.mlp.down_proj.weight", (64, 128)): "mlp",
    ("h.0.mlp.c_fc.weight", (64, 256)): "mlp",
    ("lm_head.weight", (32000, 64)): "head",
    ("head_weight", (8, 1024, 192)): "head",
    ("encoder.model.0.conv.conv.weight", (16, 1, 7)): "convolution",
    ("encoder.model.0.conv.conv.weight_v", (16, 1, 7)): "convolution",
    ("encoder.model.0.conv.conv.bias", (16,)): "bias",
    ("layers.0.norm1.weight", (64,)): "norm",
    ("model.layers.0.input_layernorm.weight", (64,)): "norm",
    ("transformer.ln_f.weight", (64,)): "norm",
    ("weights", (5, 5)): "matrix",
    ("gamma", (5,)): "vector",
    ("scale", ()): "vector",
}


@pytest.mark.parametrize(("name", "shape"), ROLES)
def test_roles(name: str, shape: tuple[int, ...]) -> None:
    role = ROLES[name, shape]
    assert role_of(name, shape) == role
    regime = {"codebook": "index", "embedding": "index", "norm": "kept", "bias": "kept", "vector": "kept"}
    assert TensorInfo(name, "F16", shape, role).regime == regime.get(role, "argmax")


@pytest.mark.parametrize(
    ("shape", "role", "matrix"),
    [((16, 3, 7), "convolution", (16, 21)), ((8, 1024, 192), "head", (8192, 192)), ((5, 4), "mlp", (5, 4)),
     ((7,), "bias", (1, 7)), ((), "vector", (1, 1)), ((0, 5), "mlp", (1, 0)), ((5, 0), "mlp", (1, 0))],
)  # fmt: skip
def test_matrices(shape: tuple[int, ...], role: str, matrix: tuple[int, int]) -> None:
    assert matrix_shape(shape, role) == matrix


def test_a_folded_weight_has_the_name_of_its_parts() -> None:
    for part in ("weight_g", "weight_v", "parametrizations.weight.original0", "parametrizations.weight.original1"):
        assert folded_name(f"a.conv.{part}") == "a.conv.weight"
    assert folded_name("a.conv.weight") is None
    assert folded_name("weight_g") is None


def test_codebooks_are_stored_together_where_they_fit() -> None:
    tables = {f"{n}.codebook.embed": torch.zeros(8, 4) for n in range(2)}
    other = {"w.weight": torch.zeros(3, 3)}
    assert list(stacks(tables | other)) == [(CODEBOOKS, list(tables)), ("w.weight", ["w.weight"])]
    for odd in (torch.zeros(8, 5), torch.zeros(8, 4).half()):
        alone = {**tables, "x.codebook.embed": odd}
        assert list(stacks(alone)) == [(name, [name]) for name in alone]


def test_a_file_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    weight = torch.randn(4, 3).half()
    tensors = {"b": weight.clone(), "a": weight, "c": weight.float(), "n": torch.tensor(3), "m": torch.tensor(3)}
    save_file(tensors, tmp_path / "x.safetensors")
    file = ModelFile(tmp_path / "x.safetensors")
    assert {name: (info.dtype, info.shape, info.count) for name, info in file.tensors.items()} == {
        "a": ("F16", (4, 3), 12), "b": ("F16", (4, 3), 12), "c": ("F32", (4, 3), 12), "m": ("I64", (), 1),
        "n": ("I64", (), 1),
    }  # fmt: skip
    assert torch.equal(file.read("a"), weight)
    assert file.tied() == {"b": "a"}
    assert file.config == {}


def test_zeros_of_other_signs_are_not_tied(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3), "b": -torch.zeros(3)}, tmp_path / "x.safetensors")
    assert ModelFile(tmp_path / "x.safetensors").tied() == {}


def test_weights_in_use_are_those_of_the_loaded_model(codec: Codec) -> None:
    found = effective(codec.module)
    assert "encoder.model.0.conv.conv.weight" in found
    assert not [name for name in found if name.endswith(("weight_g", "embed_avg", "cluster_size", "inited"))]


def header(content: object, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


W = {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": b"", "short": b"\1\0", "no header": bytes(8), "cut": header({"w": W}, bytes(7)),
    "longer": header({"w": W}, bytes(9)), "enormous header": struct.pack("<Q", 1 << 62) + b"{}",
    "no JSON": header(b"{]"), "a list": header([]), "no offsets": header({"w": {"dtype": "F16", "shape": [2, 2]}}),
    "outside": header({"w": {**W, "data_offsets": [0, 1 << 40]}}, bytes(8)),
    "backwards": header({"w": {**W, "data_offsets": [8, 0]}}, bytes(8)),
    "wider than it is": header({"w": {**W, "shape": [1 << 40, 1 << 40]}}, bytes(8)),
    "negative": header({"w": {**W, "shape": [-2, -2]}}, bytes(8)), "unknown type": header({"w": {**W, "dtype": "F7"}}),
    "overlapping": header({"w": W, "v": W}, bytes(8)),
    "a hole": header({"w": {**W, "data_offsets": [4, 12]}}, bytes(12)),
    "text": b"once upon a time there was no model at all", "deep": header(b"[" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(CorruptInput, match=r"no safetensors file, or damaged"):
        ModelFile(path)


def test_files_without_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="no weights at"):
        ModelFile(tmp_path)
    with pytest.raises(MissingWeights, match="no weights at"):
        ModelFile(tmp_path / "none.safetensors")
    for tensors in ({}, {"a": torch.zeros(0, 5)}):
        save_file(tensors, tmp_path / "x.safetensors")
        with pytest.raises(UnsupportedInput, match="no tensors with values"):
            ModelFile(tmp_path / "x.safetensors")
