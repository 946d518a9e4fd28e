"""The ``.cbw`` file: a compressed model, all of it, with a checksum on every part.

    "CBW1", blocks, zlib of the directory, uint32 its length, uint32 its CRC-32 (little-endian)

The directory is JSON: of what model the file is, and a list of records in the order of their blocks. A record says of
one matrix which scheme stored it, of which tensors it is made (from the first row on), and of each block of its rows
how many bytes it takes and their CRC-32. Schemes are those of `codecbook.probes.weights.schemes.table`; what is no
float is stored as it is, and a tensor that equals an earlier one as a reference. Everything is in the file, so that its
size is the account: four bytes, the blocks, the directory, and eight.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from codecbook.codecs.base import Codec
from codecbook.codecs.build import build_architecture
from codecbook.codecs.networks import fold_weight_norm
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import new_file
from codecbook.lm.model_files import LoadedLM
from codecbook.lm.models import ARCHITECTURES, build_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.models import store
from codecbook.probes.weights.schemes.lossless import exponent_bound_bits
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.tensors import (
    CODEBOOKS,
    FLOATS,
    REGIMES,
    ModelFile,
    effective,
    folded_name,
    matrix_shape,
    role_of,
    stacks,
)

MAGIC = b"CBW1"
AS_IT_IS, TIED = "bytes", "tied"
LOSSLESS = ("predicted", "exponents", "raw")
_END = struct.Struct("<II")
_BLOCK_VALUES = 1 << 22
_MOST_DIRECTORY_BYTES = 64 << 20
_DTYPES = {name: getattr(torch, attribute) for name, attribute in {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}.items()}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """How a matrix is to be stored: a name of `SCHEMES`, or ``"lossless"``, and options of its encoder."""

    scheme: str = "lossless"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One matrix of the directory."""

    names: list[str]
    shapes: list[list[int]]
    dtype: str  # of the source
    scheme: str
    role: str
    blocks: list[list[int]]  # of each its rows, bytes and CRC-32
    folded: bool = False  # the weights are those of a loaded model, in which norms are folded, and not the file's

    @property
    def matrix(self) -> tuple[int, int]:
        """Its shape ``[R, C]``."""
        parts = [matrix_shape(tuple(shape), self.role) for shape in self.shapes]
        return sum(rows for rows, _ in parts), parts[0][1]

    @property
    def count(self) -> int:
        """How many values it has."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)

    @property
    def num_bytes(self) -> int:
        """How many bytes its blocks take."""
        return sum(block[1] for block in self.blocks)


@dataclass(frozen=True)
class Model:
    """What is compressed: a model's file, and its weights as they are used."""

    file: ModelFile
    tensors: Mapping[str, Tensor] | None  # in memory, norms folded; None where the file's own are all there is
    source: dict[str, Any]  # for the directory

    @classmethod
    def of_file(cls, path: str | Path) -> "Model":
        """Any ``.safetensors`` file or model folder, read tensor by tensor."""
        file = ModelFile(path)
        keys = ("architecture", "arguments", "sha256", "provenance")
        return cls(file, None, {key: file.config[key] for key in keys if key in file.config})

    @classmethod
    def of_codec(cls, codec: Codec, folder: str | Path) -> "Model":
        """A codec of this project, and the folder that it was loaded from."""
        return cls(ModelFile(folder), effective(codec.module), {**cls.of_file(folder).source, "codec": codec.name})

    @classmethod
    def of_lm(cls, loaded: LoadedLM, folder: str | Path) -> "Model":
        """A language model of this project, and its folder."""
        return cls(ModelFile(folder), effective(loaded.model), cls.of_file(folder).source)

    @property
    def count(self) -> int:
        """How many values the file's floats have: the denominator of all bits per weight."""
        return sum(info.count for info in self.file.tensors.values() if info.dtype in FLOATS)


def compress(
    model: Model, choose: Callable[[str, str], Choice], path: str | Path, overwrite: bool = False
) -> pd.DataFrame:
    """Write a model as a ``.cbw`` file and return its `account`.

    Args:
        model: What to compress.
        choose: Says how a matrix is stored, of its name and role. Norms, biases and other vectors are never asked
            about: they are kept, as is what is no float, or not finite.
        path: Of the new file.
        overwrite: Replace a file.

    Raises UnsupportedInput: a scheme that there is not, or options that it does not take.
    """
    with new_file(path, overwrite) as temporary, temporary.open("wb") as out:
        out.write(MAGIC)
        records = [record for record in _records(model, choose, out)]
        directory = {"source": model.source, "count": model.count, "records": [asdict(record) for record in records]}
        packed = zlib.compress(json.dumps(directory, separators=(",", ":")).encode(), 9)
        out.write(packed)
        out.write(_END.pack(len(packed), zlib.crc32(packed)))
    return account(path)


def _records(model: Model, choose: Callable[[str, str], Choice], out: BinaryIO) -> Iterator[Record]:
    tied = model.file.tied()
    in_memory = {} if model.tensors is None else model.tensors
    lossy: set[str] = set()
    shapes = in_memory or {
        n: torch.empty(i.shape, device="meta") for n, i in model.file.tensors.items() if n not in tied
    }
    for name, members in stacks(shapes):
        role = role_of(members[0], tuple(shapes[members[0]].shape))
        dtype = _source_dtype(model.file, members[0])
        choice = Choice() if REGIMES.get(role) == "kept" or dtype not in FLOATS else choose(name, role)
        if choice.scheme == "lossless":
            continue
        if choice.scheme not in SCHEMES:
            raise UnsupportedInput(
                f"There is no scheme {choice.scheme!r}; choose one of lossless, {', '.join(SCHEMES)}."
            )
        tensors = [in_memory[m] if in_memory else model.file.read(m) for m in members]
        if all(tensor.isfinite().all() for tensor in tensors) and tensors[0].numel():
            lossy.update(members)
            yield _store(out, members, tensors, role, choice, "F32" if in_memory else dtype, bool(in_memory))
    rest = {n: i for n, i in model.file.tensors.items() if n not in lossy and folded_name(n) not in lossy}
    floats = {n: torch.empty(i.shape, device="meta") for n, i in rest.items() if n not in tied and i.dtype in FLOATS}
    for _, members in stacks(floats):
        info = rest[members[0]]
        tensors = [model.file.read(member) for member in members]
        yield _store(out, members, tensors, info.role, Choice(), info.dtype, False)
    for name, info in rest.items():
        if name in tied:
            yield Record([name, tied[name]], [list(info.shape)], info.dtype, TIED, info.role, [])
        elif name not in floats:
            data = model.file.read(name).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            block = [1, len(data), zlib.crc32(data)]
            out.write(data)
            yield Record([name], [list(info.shape)], info.dtype, AS_IT_IS, info.role, [block])


def _source_dtype(file: ModelFile, name: str) -> str:
    for candidate, info in file.tensors.items():
        if name in (candidate, folded_name(candidate)):
            return info.dtype
    return "F32"


def _store(
    out: BinaryIO, names: Sequence[str], tensors: Sequence[Tensor], role: str, choice: Choice, dtype: str, folded: bool
) -> Record:
    """Write the blocks of a matrix that tensors make one below the other."""
    matrices = [t.float().numpy().reshape(matrix_shape(tuple(t.shape), role)) for t in tensors]
    matrix = np.concatenate(matrices) if len(matrices) > 1 else matrices[0]
    R, C = matrix.shape
    height = max(1, _BLOCK_VALUES // max(1, C))
    scheme, blocks = choice.scheme, []
    if scheme == "lossless":
        scheme = _shortest(matrix[:height], dtype)
    for start in range(0, R if C else 0, height):
        part = matrix[start : start + height]
        data = SCHEMES[scheme].encode(part, source_dtype=dtype, **_of_rows(choice.options, start, len(part), R))
        blocks.append([len(part), len(data), zlib.crc32(data)])
        out.write(data)
    return Record(list(names), [list(t.shape) for t in tensors], dtype, scheme, role, blocks, folded)


def _of_rows(options: Mapping[str, Any], start: int, count: int, R: int) -> dict[str, Any]:
    """Return options for some rows of a matrix: of moments by row, theirs."""
    rows = options.get("rows")
    if rows is None or count == R:
        return dict(options)
    return {**options, "rows": rows[start : start + count] if rows.ndim == 1 else np.diag(rows)[start : start + count]}


def _shortest(matrix: np.ndarray, dtype: str) -> str:
    sizes = {name: len(SCHEMES[name].encode(matrix, source_dtype=dtype)) for name in LOSSLESS if matrix.size}
    return min(sizes, key=lambda name: sizes[name], default="raw")


class CompressedFile:
    """A ``.cbw`` file, its directory read and checked, its tensors decoded one by one.

    Raises CorruptInput: another file, a cut one, or one that was altered in any byte (of blocks, where they are read).
    """

    def __init__(self, path: str | Path) -> None:
        self.path, size = Path(path), Path(path).stat().st_size
        with self.path.open("rb") as file:
            if file.read(4) != MAGIC or size < len(MAGIC) + _END.size:
                raise CorruptInput(f"{self.path} is no .cbw file; make one with codecbook.probes.weights compress.")
            file.seek(size - _END.size)
            length, checksum = _END.unpack(file.read(_END.size))
            file.seek(max(0, size - _END.size - length))
            packed = file.read(length)
        self.directory_bytes = length
        try:
            if zlib.crc32(packed) != checksum or length > size:
                raise ValueError("its checksum is another")
            inflater = zlib.decompressobj()
            directory = json.loads(inflater.decompress(packed, _MOST_DIRECTORY_BYTES))
            self.source, self.count = dict(directory["source"]), int(directory["count"])
            self.records = [Record(**record) for record in directory["records"]]
            total = sum(record.num_bytes for record in self.records)
        except (ValueError, KeyError, TypeError, zlib.error, RecursionError) as error:
            raise CorruptInput(
                f"The directory of {self.path} is damaged or cut off ({error}); fetch it again."
            ) from error
        if len(MAGIC) + total + length + _END.size != size:
            raise CorruptInput(f"{self.path} has {size} bytes, its directory accounts for others; fetch it again.")

    def __iter__(self) -> Iterator[tuple[Record, list[Tensor]]]:
        """Yield each record and its decoded tensors: of the source's type where nothing was lost, else float32."""
        with self.path.open("rb") as file:
            file.seek(len(MAGIC))
            for record in self.records:
                yield record, self._tensors(record, [self._block(file, record, block) for block in record.blocks])

    def _block(self, file: BinaryIO, record: Record, block: Sequence[int]) -> bytes:
        data = file.read(block[1])
        if zlib.crc32(data) != block[2]:
            raise CorruptInput(f"{record.names[0]} in {self.path} is damaged (its checksum differs); fetch it again.")
        return data

    def _tensors(self, record: Record, blocks: Sequence[bytes]) -> list[Tensor]:
        if record.scheme == TIED or not record.count:
            return [torch.zeros(shape, dtype=_DTYPES[record.dtype]) for shape in record.shapes]
        if record.scheme == AS_IT_IS:
            flat = torch.frombuffer(bytearray(b"".join(blocks)), dtype=torch.uint8)
            return [flat.view(_DTYPES[record.dtype]).reshape(record.shapes[0])]
        (R, C), scheme = record.matrix, SCHEMES.get(record.scheme)
        if scheme is None or sum(block[0] for block in record.blocks) != R:
            raise CorruptInput(f"{record.names[0]} in {self.path} has a scheme or rows that cannot be; fetch it again.")
        matrix, end = torch.empty((R, C)), 0  # filled block by block, as a large table is there only once
        for data, (height, *_) in zip(blocks, record.blocks, strict=True):
            matrix[end : end + height] = torch.from_numpy(scheme.decode(data, (height, C)))
            end += height
        rows = [matrix_shape(tuple(shape), record.role)[0] for shape in record.shapes]
        dtype = FLOATS[record.dtype] if scheme.lossless else torch.float32
        return [part.reshape(shape).to(dtype) for part, shape in zip(matrix.split(rows), record.shapes, strict=True)]


def account(path: str | Path) -> pd.DataFrame:
    """Return where the bytes of a ``.cbw`` file are, a row a record, and one for the directory; they add up to all."""
    file = CompressedFile(path)
    rows = [
        {
            "tensor": CODEBOOKS if len(r.names) > 1 and r.scheme != TIED else r.names[0],
            "role": r.role, "scheme": r.scheme, "values": r.count, "bytes": r.num_bytes,
        }
        for r in file.records
    ]  # fmt: skip
    framing = len(MAGIC) + _END.size + file.directory_bytes
    table = pd.DataFrame([*rows, {"tensor": "directory", "role": "", "scheme": "", "values": 0, "bytes": framing}])
    table["bits_per_weight"] = 8 * table["bytes"] / table["values"].where(table["values"] > 0)
    return table


def lossless_bits(file: ModelFile) -> dict[str, float]:
    """Return the bits per weight of a file's floats by coders of exponents, without any framing, and their bound."""
    bits, count = dict.fromkeys(("exponents, order 0", "exponents", "zstd_planes"), 0.0), 0
    for name, info in file.tensors.items():
        if info.dtype in FLOATS and info.count:
            matrix = file.read(name).float().numpy().reshape(matrix_shape(info.shape, info.role))
            bits["exponents, order 0"] += exponent_bound_bits(matrix, info.dtype)
            for scheme in ("exponents", "zstd_planes"):
                bits[scheme] += 8 * len(SCHEMES[scheme].encode(matrix, source_dtype=info.dtype))
            count += info.count
    return {name: total / count for name, total in bits.items()}


def bits_per_weight(path: str | Path) -> float:
    """Return the bits of a ``.cbw`` file, all of them, over the number of the source's weights."""
    return 8 * Path(path).stat().st_size / CompressedFile(path).count


def load_into(module: torch.nn.Module, path: str | Path, fold: Callable[[torch.nn.Module], object]) -> str:
    """Give a module, as its architecture builds it, the weights of a ``.cbw`` file; return their SHA-256.

    `fold` folds its norms between the file's own tensors and those that take a folded weight's place.

    Raises UnsupportedInput: tensors of another model.
    """
    records = list(CompressedFile(path))
    given = {name: t for record, tensors in records for name, t in _named(record, tensors) if not record.folded}
    for record, _ in records:
        if record.scheme == TIED:
            given[record.names[0]] = given[record.names[1]]
    _copy(module, given, path)
    fold(module)
    _copy(module, {n: t for record, tensors in records if record.folded for n, t in _named(record, tensors)}, path)
    if any(record.folded or not _is_lossless(record) for record, _ in records):
        return store.tensors_sha256(effective(module))
    return store.tensors_sha256(given)  # that of the source


def _is_lossless(record: Record) -> bool:
    return record.scheme in (AS_IT_IS, TIED) or SCHEMES[record.scheme].lossless


def _named(record: Record, tensors: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    return zip(record.names, tensors, strict=False)


def _copy(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    state = module.state_dict()
    for name, tensor in tensors.items():
        if name not in state or state[name].shape != tensor.shape:
            raise UnsupportedInput(f"{path} has a tensor {name} {list(tensor.shape)}, which this model has not.")
        with torch.no_grad():
            state[name].copy_(tensor)


def load_network(path: Path, own: type[torch.nn.Module], name: str) -> tuple[Any, store.Weights]:
    """Return a codec's network with the weights of a ``.cbw`` file, for `codecbook.codecs.load_codec`."""
    source = CompressedFile(path).source
    if not isinstance(source.get("architecture"), str) or not isinstance(source.get("arguments"), dict):
        raise UnsupportedInput(f"{path} is not of a codec that codecbook builds; compress a folder of its models.")
    module = build_architecture(source["architecture"], source["arguments"])
    if not isinstance(module, own):
        raise UnsupportedInput(f"{path} is of architecture {source['architecture']}, not of {name}.")
    sha256 = load_into(module, path, fold_weight_norm)
    return module.eval(), store.Weights("compressed", str(path), sha256)


def load_lm(path: str | Path) -> TokenLM:
    """Return a language model with the weights of a ``.cbw`` file, in evaluation mode."""
    source = CompressedFile(path).source
    if source.get("architecture") not in ARCHITECTURES:
        raise UnsupportedInput(f"{path} is not of a language model of codecbook; compress the folder of one.")
    model = build_lm(source["architecture"], source["arguments"])
    load_into(model, path, lambda _module: None)
    return model.eval()
