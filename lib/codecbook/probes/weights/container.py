"""Compress a model into a ``.cbw`` file, and say where its bytes are.

Norms, biases and other vectors are kept without loss, as is what is no float; a matrix is stored by a scheme that its
caller chooses. Of a model in memory, the weights that norms are folded into are stored with loss, and of its file all
that they do not replace, without.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from codecbook.codecs.base import Codec
from codecbook.errors import UnsupportedInput
from codecbook.files import new_file
from codecbook.lm.model_files import LoadedLM
from codecbook.probes.weights.records import AS_IT_IS, DTYPES, END, MAGIC, TIED, CompressedFile, Record
from codecbook.probes.weights.schemes.lossless import exponent_bound_bits
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.tensors import (
    CODEBOOKS,
    FLOATS,
    REGIMES,
    ModelFile,
    TensorInfo,
    effective,
    folded_name,
    matrix_shape,
    role_of,
    stacks,
)

LOSSLESS = ("predicted", "exponents", "raw")
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Choice:
    """How a matrix is to be stored: a name of `SCHEMES`, or ``"lossless"``, and options of its encoder."""

    scheme: str = "lossless"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """What is compressed: a model's file, and its weights as they are used."""

    file: ModelFile
    tensors: Mapping[str, Tensor] | None  # in memory, norms folded; None where the file's own are all there is
    source: dict[str, Any]  # for the directory
    # of a model in memory: how matrices of its file are kept without loss, which no choice for the others changes
    kept: dict[tuple[str, ...], tuple[str, bytes | None]] = field(default_factory=dict, repr=False)

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

    Raises UnsupportedInput: a scheme that there is not, options that it does not take, or a type of tensor that torch
    has no name for.
    """
    unknown = {info.dtype for info in model.file.tensors.values()} - DTYPES.keys()
    if unknown:
        raise UnsupportedInput(
            f"{model.file.file} has tensors of {', '.join(sorted(unknown))}; cast them to one of {', '.join(DTYPES)}."
        )
    with new_file(path, overwrite) as temporary, temporary.open("wb") as out:
        out.write(MAGIC)
        records = [record for record in _records(model, choose, out)]
        directory = {"source": model.source, "count": model.count, "records": [asdict(record) for record in records]}
        packed = zlib.compress(json.dumps(directory, separators=(",", ":")).encode(), 9)
        out.write(packed)
        out.write(END.pack(len(packed), zlib.crc32(packed)))
    return account(path)


def _records(model: Model, choose: Callable[[str, str], Choice], out: BinaryIO) -> Iterator[Record]:
    of_file, tied = model.file.tensors, model.file.tied()
    in_memory = {} if model.tensors is None else model.tensors
    lossy: set[str] = set()
    for name, members in stacks(in_memory or _unread(n for n in of_file.values() if n.name not in tied)):
        role = role_of(members[0], tuple(in_memory[members[0]].shape) if in_memory else of_file[members[0]].shape)
        dtype = _source_dtype(model.file, members[0])
        choice = Choice() if REGIMES.get(role) == "kept" or dtype not in FLOATS else choose(name, role)
        if choice.scheme == "lossless":
            continue
        if choice.scheme not in SCHEMES:
            raise UnsupportedInput(f"There is no scheme {choice.scheme!r}; choose lossless, {', '.join(SCHEMES)}.")
        tensors = [in_memory[m] if in_memory else model.file.read(m) for m in members]
        if all(tensor.isfinite().all() for tensor in tensors) and tensors[0].numel():
            lossy.update(members)
            yield _store(out, members, tensors, role, choice, "F32" if in_memory else dtype, bool(in_memory), {})
    replaced = {n for n in of_file if n in lossy or (in_memory and folded_name(n) in lossy)}
    rest = {n: info for n, info in of_file.items() if n not in replaced}
    # what equals a tensor of the file can refer to it only if that one is there
    tied = {n: first for n, first in tied.items() if not (in_memory and first in replaced)}
    floats = _unread(info for n, info in rest.items() if n not in tied and info.dtype in FLOATS)
    for _, members in stacks(floats):
        info = rest[members[0]]
        tensors = [model.file.read(member) for member in members]
        yield _store(out, members, tensors, info.role, Choice(), info.dtype, False, model.kept if in_memory else {})
    for name, info in rest.items():
        if name in tied:
            yield Record([name, tied[name]], [list(info.shape)], info.dtype, TIED, info.role, [])
        elif name not in floats:
            data = model.file.read(name).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            out.write(data)
            block = (1, len(data), zlib.crc32(data))
            yield Record([name], [list(info.shape)], info.dtype, AS_IT_IS, info.role, [block])


def _unread(infos: Iterable[TensorInfo]) -> dict[str, Tensor]:
    """Return tensors of the types and shapes of those of a file, without their values."""
    return {info.name: torch.empty(info.shape, dtype=DTYPES[info.dtype], device="meta") for info in infos}


def _source_dtype(file: ModelFile, name: str) -> str:
    for candidate, info in file.tensors.items():
        if name in (candidate, folded_name(candidate)):
            return info.dtype
    return "F32"


def _store(
    out: BinaryIO,
    names: Sequence[str],
    tensors: Sequence[Tensor],
    role: str,
    choice: Choice,
    dtype: str,
    folded: bool,
    kept: dict[tuple[str, ...], tuple[str, bytes | None]],
) -> Record:
    """Write the blocks of a matrix that tensors make one below the other; floats are made of one block at a time."""
    matrices = [t.reshape(matrix_shape(tuple(t.shape), role)) for t in tensors]
    matrix = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    R, C = matrix.shape
    height = max(1, _BLOCK_VALUES // max(1, C))
    scheme, blocks, first = choice.scheme, [], None
    if scheme == "lossless":
        if tuple(names) not in kept:
            kept[tuple(names)] = _shortest(matrix[:height].float().numpy(), dtype)
        scheme, first = kept[tuple(names)]
    for rows in _blocks_of_rows(R if C else 0, height, choice.options.get("gram")):
        part = matrix[rows].float().numpy()
        data = first or SCHEMES[scheme].encode(part, source_dtype=dtype, **_of_rows(choice.options, rows, R))
        first = None
        blocks.append((len(part), len(data), zlib.crc32(data)))
        out.write(data)
    return Record(list(names), [list(t.shape) for t in tensors], dtype, scheme, role, blocks, folded)


def _blocks_of_rows(R: int, height: int, gram: np.ndarray | None) -> Iterator[slice]:
    """Yield slices of at most so many rows; where there are several, each within rows that share their moment."""
    shared = R // len(gram) if gram is not None and gram.ndim == 3 and height < R else R
    for start in range(0, R, max(1, shared)):
        end = min(start + shared, R)
        yield from (slice(n, min(n + height, end)) for n in range(start, end, height))


def _of_rows(options: Mapping[str, Any], part: slice, R: int) -> dict[str, Any]:
    """Return options for some rows of a matrix: of moments by row, theirs."""
    own, rows, gram = dict(options), options.get("rows"), options.get("gram")
    if part != slice(0, R):
        if rows is not None:
            own["rows"] = (rows if rows.ndim == 1 else np.diag(rows))[part]
        if gram is not None and gram.ndim == 3:
            own["gram"] = gram[part.start * len(gram) // R]
    return own


def _shortest(matrix: np.ndarray, dtype: str) -> tuple[str, bytes | None]:
    """Return which of the lossless schemes makes the fewest bytes of a matrix, and these; none of an empty one."""
    if not matrix.size:
        return "raw", None
    made = {name: SCHEMES[name].encode(matrix, source_dtype=dtype) for name in LOSSLESS}
    return min(made.items(), key=lambda pair: len(pair[1]))


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
    framing = len(MAGIC) + END.size + file.directory_bytes
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
    """Return the bits of a ``.cbw`` file, all of them, over the number of the source's weights; NaN if it has none."""
    count = CompressedFile(path).count
    return 8 * Path(path).stat().st_size / count if count else float("nan")
