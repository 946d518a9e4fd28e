"""The ``.cbw`` file: a compressed model, all of it, with a checksum on every part.

    "CBW1", blocks, zlib of the directory, uint32 its length, uint32 its CRC-32 (little-endian)

The directory is JSON: of what model the file is, and a list of records in the order of their blocks. A record says of
one matrix which scheme stored it, of which tensors it is made (from the first row on), and of each block of its rows
how many bytes it takes and their CRC-32. Schemes are those of `codecbook.probes.weights.schemes.table`; what is no
float is stored as it is, and a tensor that equals an earlier one as a reference. Everything is in the file, so that its
size is the account: four bytes, the blocks, the directory, and eight.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from codecbook.errors import CorruptInput, MissingWeights
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.tensors import FLOATS, matrix_shape

MAGIC = b"CBW1"
AS_IT_IS, TIED = "bytes", "tied"
END = struct.Struct("<II")
_MOST_DIRECTORY_RATIO = 100  # of its bytes as JSON; those of a real one compress tenfold
_MOST_VALUES_PER_BYTE = 1 << 16  # of a block; of zeros alone, schemes reach a tenth of it
DTYPES = {name: getattr(torch, attribute) for name, attribute in {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "C64": "complex64", "F8_E8M0": "float8_e8m0fnu",
}.items()}  # fmt: skip


_Count = Annotated[int, Field(ge=0, lt=1 << 48)]


@dataclass(frozen=True)
class Record:
    """One matrix of the directory."""

    names: list[str]  # of a tied tensor its own, and that of the one it equals
    shapes: list[list[_Count]]
    dtype: str  # of the source
    scheme: str
    role: str
    blocks: list[tuple[_Count, _Count, _Count]]  # of each its rows, bytes and CRC-32
    folded: bool = False  # the weights are those of a loaded model, in which norms are folded, and not the file's

    @property
    def matrix(self) -> tuple[int, int]:
        """Its shape ``[R, C]``."""
        parts = [matrix_shape(tuple(shape), self.role) for shape in self.shapes]
        return sum(rows for rows, _ in parts), parts[0][1]

    @property
    def count(self) -> int:
        """How many values it has."""
        return sum(prod(shape) for shape in self.shapes)

    @property
    def num_bytes(self) -> int:
        """How many bytes its blocks take."""
        return sum(block[1] for block in self.blocks)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what it holds."""
        return {name: tuple(shape) for name, shape in zip(self.names, self.shapes, strict=False)}

    def is_sound(self) -> bool:
        """Say whether a matrix can be made of its blocks, and of no fewer bytes than schemes need."""
        sizes = [prod(max(size, 1) for size in shape) for shape in self.shapes]
        if not sizes or max(sizes) >= 1 << 48 or max(map(len, self.shapes)) > 16 or self.dtype not in DTYPES:
            return False
        if self.scheme == TIED:
            return len(self.names) == 2 and len(self.shapes) == 1 and not self.blocks
        if len(self.names) != len(self.shapes):
            return False
        if self.scheme == AS_IT_IS:
            return len(self.names) == 1 and self.num_bytes == self.count * DTYPES[self.dtype].itemsize
        parts = [matrix_shape(tuple(shape), self.role) for shape in self.shapes]
        return (
            self.scheme in SCHEMES
            and self.dtype in FLOATS
            and len({columns for _, columns in parts}) == 1
            and sum(rows for rows, _, _ in self.blocks) == (self.matrix[0] if self.count else 0)
            and all(rows * parts[0][1] <= _MOST_VALUES_PER_BYTE * size for rows, size, _ in self.blocks)
        )


@dataclass(frozen=True)
class _Directory:
    source: dict[str, Any]
    count: _Count
    records: list[Record]


_READ_DIRECTORY = TypeAdapter(_Directory)


class CompressedFile:
    """A ``.cbw`` file, its directory read and checked, its tensors decoded one by one.

    Raises:
        CorruptInput: Another file, a cut one, or one that was altered in any byte (of blocks, where they are read).
        MissingWeights: No file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingWeights(f"There is no file {self.path}; give a .cbw file.")
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            if file.read(4) != MAGIC or size < len(MAGIC) + END.size:
                raise CorruptInput(f"{self.path} is no .cbw file; make one with codecbook.probes.weights compress.")
            file.seek(size - END.size)
            length, checksum = END.unpack(file.read(END.size))
            file.seek(max(0, size - END.size - length))
            packed = file.read(length)
        self.directory_bytes = length
        try:
            if zlib.crc32(packed) != checksum or length > size:
                raise ValueError("its checksum is another")
            text = zlib.decompressobj().decompress(packed, 1000 + _MOST_DIRECTORY_RATIO * length)
            # strict: 6.0 and true are no counts
            directory = _READ_DIRECTORY.validate_json(text, strict=True)
        except (ValueError, zlib.error) as error:
            reason = " ".join(str(error).split())[:200]
            raise CorruptInput(f"The directory of {self.path} is damaged ({reason}); fetch it again.") from error
        self.source, self.count, self.records = directory.source, directory.count, directory.records
        names = [name for record in self.records for name in record.tensors]
        unsound = next((r for r in self.records if not r.is_sound()), None)
        if unsound or len(set(names)) < len(names):
            raise CorruptInput(
                f"{self.path} has tensors twice, or of a type, shape, scheme or size that cannot be "
                f"({unsound.names[:1] if unsound else 'names'}); fetch it again."
            )
        if len(MAGIC) + sum(r.num_bytes for r in self.records) + length + END.size != size:
            raise CorruptInput(f"{self.path} has {size} bytes, its directory accounts for others; fetch it again.")

    def __iter__(self) -> Iterator[tuple[Record, list[Tensor]]]:
        """Yield each record and its decoded tensors: of the source's type where nothing was lost, else float32.

        A tied tensor's record has none. Raises CorruptInput: a block was altered.
        """
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
        if record.scheme == TIED:
            return []
        if not record.count:
            return [torch.zeros(shape, dtype=DTYPES[record.dtype]) for shape in record.shapes]
        if record.scheme == AS_IT_IS:
            flat = torch.frombuffer(bytearray(b"".join(blocks)), dtype=torch.uint8)
            return [flat.view(DTYPES[record.dtype]).reshape(record.shapes[0])]
        (R, C), scheme = record.matrix, SCHEMES[record.scheme]
        matrix, end = torch.empty((R, C)), 0  # filled block by block, as a large table is there only once
        for data, (height, *_) in zip(blocks, record.blocks, strict=True):
            matrix[end : end + height] = torch.from_numpy(scheme.decode(data, (height, C)))
            end += height
        rows = [matrix_shape(tuple(shape), record.role)[0] for shape in record.shapes]
        dtype = FLOATS[record.dtype] if scheme.lossless else torch.float32
        return [part.reshape(shape).to(dtype) for part, shape in zip(matrix.split(rows), record.shapes, strict=True)]
