import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.lm.model_files import LoadedLM
from codecbook.models import store
from codecbook.probes.weights.container import Choice, Model, account, bits_per_weight, compress, lossless_bits
from codecbook.probes.weights.frontier import one_scheme
from codecbook.probes.weights.loading import load_lm
from codecbook.probes.weights.records import MAGIC, CompressedFile
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.tensors import ModelFile

RANDOM = np.random.default_rng(0)
Choose = Callable[[str, str], Choice]
WITHOUT_LOSS = one_scheme("lossless")
INT8 = one_scheme("int8_row")


def normal(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.from_numpy(RANDOM.standard_normal(shape)).to(dtype)


def write(folder: Path, tensors: dict[str, torch.Tensor], choose: Choose = WITHOUT_LOSS) -> Path:
    save_file(tensors, folder / "model.safetensors")
    compress(Model.of_file(folder / "model.safetensors"), choose, folder / "small.cbw", overwrite=True)
    return folder / "small.cbw"


def read(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors by name, tied ones too."""
    file = CompressedFile(path)
    found = {n: t for record, tensors in file for n, t in zip(record.names, tensors, strict=False)}
    return found | {r.names[0]: found[r.names[1]] for r in file.records if r.scheme == "tied"}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def odd_tensors() -> dict[str, torch.Tensor]:
    weight = normal(8, 6)
    types = {name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")}
    return {
        "plain.weight": weight, "tied.weight": weight.clone(), "double": normal(3, 4, dtype=torch.float64),
        "bfloat": normal(30, 5, dtype=torch.bfloat16), "float": normal(30, 5, dtype=torch.float32),
        "no_float": torch.arange(12).reshape(3, 4), "bytes": torch.arange(5, dtype=torch.uint8),
        "unsigned": torch.arange(5).to(torch.uint16), "mask": torch.tensor([[True, False, True]]),
        "empty": torch.zeros(0, 7), "empty_ints": torch.zeros(4, 0, dtype=torch.int32),
        "scalar": torch.tensor(0.3), "count": torch.tensor(7), "one_row": normal(1, 9), "one_column": normal(9, 1),
        "zeros.weight": torch.zeros(9, 9), "not_finite.weight": torch.tensor([[float("nan"), -0.0, float("inf")]]),
        "conv.weight": normal(4, 3, 5), "conv.weight_g": normal(4, 1, 1), "conv.weight_v": normal(4, 3, 5),
        "complex": torch.tensor([1 + 2j]), "a.bias": torch.zeros(6), "b.bias": torch.zeros(6),
        **{name: torch.arange(6, dtype=torch.uint8).view(dtype) for name, dtype in types.items()},
    }  # fmt: skip


@pytest.mark.parametrize("choose", [WITHOUT_LOSS, INT8], ids=["lossless", "int8"])
def test_every_kind_of_tensor_comes_back(choose: Choose, tmp_path: Path) -> None:
    tensors = odd_tensors()
    found = read(write(tmp_path, tensors, choose))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        lossy = choose is INT8 and tensor.ndim > 1 and tensor.dtype in (torch.float16, torch.bfloat16, torch.float32)
        if lossy and tensor.numel() and tensor.isfinite().all() and "_g" not in name:
            assert found[name].shape == tensor.shape
            assert torch.allclose(found[name], tensor.float(), atol=0.02)
        else:
            assert same(found[name], tensor), name


def test_tied_tensors_and_references_are_stored_once(tmp_path: Path) -> None:
    weight = normal(50, 40)
    path = write(tmp_path, {"a.weight": weight, "b.weight": weight.clone(), "c.weight": normal(50, 40)})
    table = account(path).set_index("tensor")
    assert table.scheme.to_dict()["b.weight"] == "tied"
    assert list(table.bytes[["a.weight", "b.weight", "c.weight"]] > 0) == [True, False, True]


@pytest.mark.parametrize("name", SCHEMES)
def test_the_size_of_a_file_is_its_account(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, {"w.weight": normal(40, 24), "b": normal(5), "e.embed": normal(64, 8)}, one_scheme(name))
    table = account(path)
    assert table.bytes.sum() == path.stat().st_size
    assert sum(table["values"]) == 40 * 24 + 5 + 64 * 8
    assert bits_per_weight(path) == 8 * path.stat().st_size / (40 * 24 + 5 + 64 * 8)
    assert set(read(path)) == {"w.weight", "b", "e.embed"}


def test_a_file_without_floats_has_no_bits_per_weight(tmp_path: Path) -> None:
    assert np.isnan(bits_per_weight(write(tmp_path, {"n": torch.arange(3)})))


def test_codebooks_of_one_width_and_type_are_one_matrix(tmp_path: Path) -> None:
    tensors = {f"layers.{n}.codebook.embed": normal(32, 4) for n in range(3)}
    other = {"x.codebook.embed": normal(32, 4, dtype=torch.float32)}
    assert [len(r.names) for r in CompressedFile(write(tmp_path, tensors)).records] == [3]
    mixed = write(tmp_path, tensors | other)
    assert all(same(read(mixed)[name], tensor) for name, tensor in (tensors | other).items())
    wide = tensors | {"x.codebook.embed": normal(32, 5)}
    assert all(same(read(write(tmp_path, wide))[name], tensor) for name, tensor in wide.items())


def heights(path: Path) -> list[int]:
    (record,) = (r for r in CompressedFile(path).records if r.names == ["w.weight"])
    return [block[0] for block in record.blocks]


def test_matrices_are_stored_in_blocks_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"w.weight": normal(50, 12), "v": normal(700)}

    monkeypatch.setattr("codecbook.probes.weights.container._BLOCK_VALUES", 100)
    path = write(tmp_path, tensors)
    assert all(same(read(path)[name], tensor) for name, tensor in tensors.items())
    assert heights(path) == [8] * 6 + [2]
    grams = np.stack([np.eye(12), np.diag(10.0 ** np.arange(12)), np.eye(12), np.eye(12), np.eye(12)])
    told: list[dict[str, Any]] = [{"rows": np.linspace(1, 2, 50)}, {"rows": np.eye(50)}, {"gram": grams}]
    for moments in told:
        path = write(tmp_path, tensors, lambda _n, _r, own=moments: Choice("uniform", {"step": 0.05, **own}))
        error = (read(path)["w.weight"] - tensors["w.weight"].float()).abs()
        assert error.max() < 0.2
    # the second ten rows alone have columns that matter, and those have their own steps
    assert heights(path) == [8, 2] * 5
    assert error[10:20, 11].max() < 1e-4 < error[20:, 11].max()


def test_unknown_schemes_and_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput, match="no scheme 'int3'"):
        write(tmp_path, {"w.weight": normal(4, 4)}, one_scheme("int3"))
    with pytest.raises(UnsupportedInput, match=r"tensors of F4; cast them"):
        write(tmp_path, {"w": torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)})
    assert not (tmp_path / "small.cbw").exists()


def test_a_file_is_replaced_only_if_told_so(tmp_path: Path) -> None:
    path = write(tmp_path, {"w.weight": normal(4, 4)})
    with pytest.raises(CodecbookError, match="overwrite"):
        compress(Model.of_file(tmp_path / "model.safetensors"), WITHOUT_LOSS, path)


def directory(path: Path) -> tuple[bytes, Any]:
    """Return a file's blocks and its directory."""
    data = path.read_bytes()
    length, _ = struct.unpack("<II", data[-8:])
    return data[4 : -8 - length], json.loads(zlib.decompress(data[-8 - length : -8]))


def put_together(path: Path, blocks: bytes, content: Any) -> Path:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    packed = zlib.compress(text)
    path.write_bytes(MAGIC + blocks + packed + struct.pack("<II", len(packed), zlib.crc32(packed)))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path, {"w.weight": normal(6, 4), "n": torch.arange(3)})


def test_every_flipped_bit_is_refused(small: Path) -> None:
    data = small.read_bytes()
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        small.write_bytes(changed)
        with pytest.raises(CorruptInput):
            list(CompressedFile(small))


def test_cut_and_longer_files_are_refused(small: Path) -> None:
    data = small.read_bytes()
    for end in range(len(data)):
        small.write_bytes(data[:end])
        with pytest.raises(CorruptInput):
            list(CompressedFile(small))
    for other in (data + b"\0", data + data, MAGIC + data, data[:4] + b"\0" + data[4:]):
        small.write_bytes(other)
        with pytest.raises(CorruptInput):
            list(CompressedFile(small))


def altered(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return record | changes


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "wider": lambda r: altered(r, shapes=[[6, 1 << 40]]),
    "more rows": lambda r: altered(r, shapes=[[1 << 40, 4]]),
    "rows and a block of them": lambda r: altered(r, shapes=[[1 << 40, 4]], blocks=[[1 << 40, *r["blocks"][0][1:]]]),
    "a block of a gigabyte": lambda r: altered(r, shapes=[[1 << 28, 4]], blocks=[[1 << 28, *r["blocks"][0][1:]]]),
    "negative": lambda r: altered(r, shapes=[[-6, -4]]),
    "no number": lambda r: altered(r, shapes=[["6", 4]]),
    "truth": lambda r: altered(r, shapes=[[True, 24]]),
    "half": lambda r: altered(r, shapes=[[6.0, 4]]),
    "beyond 64 bits": lambda r: altered(r, shapes=[[1 << 70, 4]]),
    "empty and enormous": lambda r: altered(r, shapes=[[0, 1 << 47, 1 << 47]], blocks=[]),
    "many axes": lambda r: altered(r, shapes=[[6, 4] + 100 * [1]]),
    "no shape": lambda r: altered(r, shapes=[]),
    "no name": lambda r: altered(r, names=[]),
    "two names": lambda r: altered(r, names=["a", "b"]),
    "widths that differ": lambda r: altered(r, names=["a", "c"], shapes=[[3, 4], [3, 5]]),
    "a name twice": lambda r: altered(r, names=["n"]),
    "a number for a name": lambda r: altered(r, names=[7]),
    "unknown type": lambda r: altered(r, dtype="F7"),
    "a type with no scheme": lambda r: altered(r, dtype="I64"),
    "unknown scheme": lambda r: altered(r, scheme="int3"),
    "another scheme": lambda r: altered(r, scheme="int8_row"),
    "tied to nothing": lambda r: altered(r, scheme="tied", names=["w.weight"]),
    "tied with bytes": lambda r: altered(r, scheme="tied", names=["w.weight", "n"]),
    "as it is, of another size": lambda r: altered(r, scheme="bytes", dtype="F64"),
    "no blocks": lambda r: altered(r, blocks=[]),
    "a short block": lambda r: altered(r, blocks=[[6, 3]]),
    "a field too many": lambda r: altered(r, blocks=[[*r["blocks"][0], 1]]),
    "fewer bytes": lambda r: altered(r, blocks=[[6, 1, 0]]),
    "no field": lambda r: {},
    "no record": lambda r: None,
    "a list": lambda r: [r],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_records_behind_a_good_checksum_are_refused(name: str, small: Path) -> None:
    blocks, content = directory(small)
    changed = [HOSTILE[name](r) if r.get("names") == ["w.weight"] else r for r in content["records"]]
    put_together(small, blocks, content | {"records": changed})
    with pytest.raises(CorruptInput):
        list(CompressedFile(small))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"source": [], "count": 0, "records": []}', b"\xff\xfe",
     b'{"source": {}, "count": 1e999, "records": []}', b'{"source": {}, "count": -1, "records": []}',
     b'{"source": {}, "count": Infinity, "records": []}', b'{"source": {}, "records": []}', b" " * 10_000_000,
     b"[" + b"[]," * 5_000_000 + b"[]]", b'{"source": {}, "count": 0, "records": 7}'],
    ids=range(14),
)  # fmt: skip
def test_hostile_directories_behind_a_good_checksum_are_refused(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorruptInput, match="directory"):
        CompressedFile(put_together(tmp_path / "hostile.cbw", b"", text))


def test_a_hostile_file_takes_no_memory(small: Path) -> None:
    blocks, content = directory(small)
    for name in ("a block of a gigabyte", "rows and a block of them", "wider"):
        records = [HOSTILE[name](r) if r["names"] == ["w.weight"] else r for r in content["records"]]
        put_together(small.with_name(f"{name}.cbw"), blocks, content | {"records": records})
    code = """
import resource, sys
from pathlib import Path
from codecbook.errors import CorruptInput
from codecbook.probes.weights.records import CompressedFile
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for path in Path(sys.argv[1]).glob("*.cbw"):
    try:
        list(CompressedFile(path))
    except CorruptInput:
        continue
print((peak() - before) * (1 if sys.platform == "darwin" else 1024) // 2**20)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(small.parent)], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 300


def test_other_files_and_none_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "x.cbw").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(CorruptInput, match=r"no \.cbw file"):
        load_codec("encodec_24khz", weights=tmp_path / "x.cbw")
    with pytest.raises(MissingWeights):
        load_codec("encodec_24khz", weights=tmp_path / "none.cbw")
    (tmp_path / "folder.cbw").mkdir()
    with pytest.raises(MissingWeights, match="no file"):
        load_codec("encodec_24khz", weights=tmp_path / "folder.cbw")


def test_a_codec_without_loss_is_the_codec(codec: Codec, clip: Clip, codec_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "same.cbw"
    compress(Model.of_codec(codec, codec_folder), WITHOUT_LOSS, path)
    found = load_codec("encodec_24khz", weights=str(path))
    assert found.weights == store.Weights("compressed", str(path), codec.weights.sha256)
    tokens, other = (c.encode(clip) for c in (codec, found))
    assert all(np.array_equal(a, b) for a, b in zip(tokens.codes, other.codes, strict=True))
    assert len(np.unique(tokens.codes[0])) > 5
    assert np.array_equal(codec.decode(tokens).samples, found.decode(tokens).samples)


def test_a_codec_with_loss_is_what_the_file_says(codec: Codec, codec_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.cbw"

    def choose(name: str, _role: str) -> Choice:
        return Choice("int8_row") if name.startswith("decoder.") else Choice()

    compress(Model.of_codec(codec, codec_folder), choose, path)
    found = load_codec("encodec_24khz", weights=path)
    assert found.weights.sha256 != codec.weights.sha256
    stored = read(path)
    lossy = [r for r in CompressedFile(path).records if r.folded]
    assert lossy
    assert all(r.names[0].startswith("decoder.") for r in lossy)
    state = found.module.state_dict()
    assert all(torch.equal(state[r.names[0]], stored[r.names[0]]) for r in lossy)
    before = codec.module.state_dict()
    assert all(torch.equal(state[n], before[n]) for n in state if n.startswith("encoder."))


def test_a_language_model_comes_back(lm: LoadedLM, lm_folder: Path, codes: list[np.ndarray], tmp_path: Path) -> None:
    compress(Model.of_lm(lm, lm_folder), WITHOUT_LOSS, tmp_path / "lm.cbw")
    frames = torch.from_numpy(codes[0])[None]
    with torch.no_grad():
        assert torch.equal(load_lm(tmp_path / "lm.cbw")(frames), lm.model(frames))
    compress(Model.of_lm(lm, lm_folder), one_scheme("int6_row"), tmp_path / "lossy.cbw")
    with torch.no_grad():
        assert not torch.equal(load_lm(tmp_path / "lossy.cbw")(frames), lm.model(frames))


def test_files_of_other_models_are_refused(codec: Codec, codec_folder: Path, lm_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.cbw"
    compress(Model.of_codec(codec, codec_folder), WITHOUT_LOSS, path)
    with pytest.raises(UnsupportedInput, match="architecture encodec, not of snac_24khz"):
        load_codec("snac_24khz", weights=path)
    with pytest.raises(UnsupportedInput, match="language model"):
        load_lm(path)
    compress(Model.of_file(lm_folder), WITHOUT_LOSS, path, overwrite=True)
    with pytest.raises(UnsupportedInput, match="rvq_transformer"):
        load_codec("encodec_24khz", weights=path)
    compress(Model.of_file(codec_folder / "model.safetensors"), WITHOUT_LOSS, path, overwrite=True)
    with pytest.raises(UnsupportedInput, match="not of a codec"):
        load_codec("encodec_24khz", weights=path)


@pytest.mark.parametrize(
    "changes",
    [{"num_filters": 1 << 20}, {"hidden_dim": 8}, {"num_codebooks": 5},
     {"codebook_size": 1 << 30}, {"num_filters": "2"}, {"depth": 3}, None],
)  # fmt: skip
def test_arguments_of_another_model_are_refused_before_it_is_built(
    changes: Any, codec_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.cbw"
    compress(Model.of_file(codec_folder), WITHOUT_LOSS, path)
    blocks, content = directory(path)
    content["source"]["arguments"] = changes and content["source"]["arguments"] | changes
    with pytest.raises(UnsupportedInput):
        load_codec("encodec_24khz", weights=put_together(path, blocks, content))


def test_a_file_that_lacks_a_tensor_is_refused(codec_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.cbw"
    compress(Model.of_file(codec_folder), WITHOUT_LOSS, path)
    blocks, content = directory(path)
    last = content["records"].pop()
    blocks = blocks[: len(blocks) - sum(block[1] for block in last["blocks"])]
    with pytest.raises(UnsupportedInput, match=f"has no tensor {last['names'][0]}"):
        load_codec("encodec_24khz", weights=put_together(path, blocks, content))


def test_equal_tensors_stay_equal_whatever_is_lost_of_one(lm: LoadedLM, lm_folder: Path, tmp_path: Path) -> None:
    tensors = dict(lm.model.state_dict())
    tensors["frame_embedding.weight"] = tensors["head_weight"][:2].reshape(tensors["frame_embedding.weight"].shape)
    file = ModelFile(lm_folder)
    twin = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    twin["blocks.0.mlp.twin"] = twin["embedding.weight"].clone()
    save_file({n: t.contiguous() for n, t in twin.items()}, tmp_path / "model.safetensors")
    model = Model(ModelFile(tmp_path / "model.safetensors"), {n: t for n, t in tensors.items()}, file.config)

    def choose(name: str, _role: str) -> Choice:
        return Choice("int4_row") if name == "embedding.weight" else Choice()

    compress(model, choose, tmp_path / "x.cbw")
    found = read(tmp_path / "x.cbw")
    assert same(found["blocks.0.mlp.twin"], twin["blocks.0.mlp.twin"])
    assert not torch.equal(found["embedding.weight"], twin["embedding.weight"].float())


def test_files_decode_to_the_same_bytes_in_other_processes(tmp_path: Path) -> None:
    names = ["uniform", "gptq4_g64", "svd_half", "hadamard4_g64", "lossless"]
    for name in names:
        write(tmp_path, {"w.weight": normal(96, 64)}, one_scheme(name)).rename(tmp_path / f"{name}.cbw")
    code = """
import hashlib, sys, torch
from codecbook.probes.weights.records import CompressedFile
torch.set_num_threads(int(sys.argv[1]))
for path in sys.argv[2:]:
    digest = hashlib.sha256()
    for _, tensors in CompressedFile(path):
        for tensor in tensors:
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    print(digest.hexdigest())
"""
    found = set()
    for threads in ("1", "3"):
        environ = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", code, threads, *(str(tmp_path / f"{name}.cbw") for name in names)]
        found.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environ).stdout)
    assert len(found) == 1
    digest = hashlib.sha256()
    for _, tensors in CompressedFile(tmp_path / "uniform.cbw"):
        for tensor in tensors:
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    assert found.pop().split()[0] == digest.hexdigest()


def test_coders_of_exponents_are_near_their_bound(codec_folder: Path) -> None:
    bits = lossless_bits(ModelFile(codec_folder))
    assert bits["exponents, order 0"] < bits["exponents"]
    assert bits["exponents, order 0"] < bits["zstd_planes"]


@pytest.mark.slow
def test_a_large_tensor_takes_little_more_memory_than_itself(tmp_path: Path) -> None:
    code = """
import resource, sys
import numpy as np, torch
from safetensors.torch import save_file
from codecbook.probes.weights.container import Model, compress
from codecbook.probes.weights.frontier import one_scheme
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
folder, scheme = sys.argv[1:]
big = torch.zeros(36_000, 4096, dtype=torch.float16)
big[::3] = torch.randn(4096).half()
save_file({"big.weight": big, "small.weight": torch.ones(4, 4)}, f"{folder}/model.safetensors")
before = peak()
compress(Model.of_file(f"{folder}/model.safetensors"), one_scheme(scheme), f"{folder}/{scheme}.cbw")
print((peak() - before) // 2**20)
"""
    command = [sys.executable, "-c", code, str(tmp_path), "int8_row"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert int(done.stdout) < 1500
