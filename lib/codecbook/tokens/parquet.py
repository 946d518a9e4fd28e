"""Keep the tokens of whole corpora in Parquet, with all that is known about them.

One row is one codebook of one clip, so that data-frame users find what they expect (``table[table["codebook"] == 0]``)
and codebooks of several rates need no padding:

======================  ===============  =====================================================================
column                  type             meaning, as in `codecbook.tokens.Tokens`
======================  ===============  =====================================================================
``clip``                string           name of the clip
``codebook``            int32            0 (coarsest) to K - 1
``codebook_size``       int64            ``V`` of this codebook
``frame_rate_hz``       double           of this codebook
``codes``               list<uint32>     ``[T_k]``
``codec`` and others    (see schema)     metadata of the clip, the same in all its rows, null where unknown
======================  ===============  =====================================================================

The rows of a clip follow each other, codebooks ascending, and clips fill row groups of about a million codes, so a
corpus larger than memory is written from an iterator and read by `iterate_tokens`. The file's metadata hold
``codecbook_tokens_version`` (2; 1 lacked ``weights_sha256``, and is read) and ``codecbook_tokens_crc32``, a checksum
over all rows: Parquet's own checksums cover pages, but neither their headers nor the footer, where one wrong bit can
drop rows without an error.
"""

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import new_file
from codecbook.tokens.tokens import Tokens

_VERSION_KEY = b"codecbook_tokens_version"
_VERSION = b"2"
CRC_KEY = b"codecbook_tokens_crc32"
_ROW_GROUP_CODES = 1 << 20
_MAX_CODEBOOK_SIZE = 1 << 32

_CLIP_FIELDS = (
    pa.field("codec", pa.string(), nullable=False),
    pa.field("weights", pa.string(), nullable=False),
    pa.field("sample_rate_hz", pa.int64(), nullable=False),
    pa.field("channels", pa.int32(), nullable=False),
    pa.field("num_samples", pa.int64()),
    pa.field("bandwidth_kbps", pa.float64()),
    pa.field("segment_frames", pa.list_(pa.field("element", pa.int64(), nullable=False)), nullable=False),
    pa.field("scales", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False),
    pa.field("source_bitrate_kbps", pa.float64()),
    pa.field("mid_codebooks", pa.int32()),
    pa.field("weights_sha256", pa.string(), nullable=False),
)
_SCHEMA = pa.schema(
    [
        pa.field("clip", pa.string(), nullable=False),
        pa.field("codebook", pa.int32(), nullable=False),
        pa.field("codebook_size", pa.int64(), nullable=False),
        pa.field("frame_rate_hz", pa.float64(), nullable=False),
        # one type for all sizes of codebook, so that files of several codecs can be read as one table
        pa.field("codes", pa.list_(pa.field("element", pa.uint32(), nullable=False)), nullable=False),
        *_CLIP_FIELDS,
    ],
    metadata={_VERSION_KEY: _VERSION},
)
_SCHEMAS = {b"1": _SCHEMA.remove(_SCHEMA.get_field_index("weights_sha256")), _VERSION: _SCHEMA}


def write_tokens(
    path: str | Path, tokens: Mapping[str, Tokens] | Iterable[tuple[str, Tokens]], *, overwrite: bool = False
) -> Path:
    """Write the tokens of clips, by name or as pairs from an iterator, which need not fit into memory together.

    Nothing is lost. Missing folders are made, and the path is returned.

    Raises:
        UnsupportedInput: Two clips of one name, or a codebook of more than 2^32 codes.
        CodecbookError: The file exists and `overwrite` is False.
    """
    clips = cast(Mapping[str, Tokens], tokens).items() if isinstance(tokens, Mapping) else tokens
    # dictionary encoding, the default, stores codes of a codebook of V in ceil(log2 V) bits
    with (
        new_file(path, overwrite) as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="zstd", write_page_checksum=True) as writer,
    ):
        crc = 0
        for group in _row_groups(clips):
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA), row_group_size=len(group))
            for row in group:
                crc = row_crc32(row, crc)
        writer.add_key_value_metadata({CRC_KEY: b"%08x" % crc})
    return Path(path)


def read_tokens(path: str | Path) -> dict[str, Tokens]:
    """Read all clips of a file into memory, by name and in the file's order, or raise as `iterate_tokens` does."""
    return dict(iterate_tokens(path))


def iterate_tokens(path: str | Path) -> Iterator[tuple[str, Tokens]]:
    """Yield name and tokens of each clip, with one row group (and one clip) in memory at a time.

    The checksum over all rows can only be compared when the last clip has been read: an error then means that any
    clip before may be wrong or missing. No such file raises MissingInput, a damaged one CorruptInput, one of something
    else or of a later version UnsupportedInput.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"There is no Parquet file at {path}; check the path.")
    names: set[str] = set()
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_schema(file.schema_arrow)
            for name, rows in itertools.groupby(_rows(file), key=lambda row: row["clip"]):
                if name in names:
                    raise CorruptInput(f"clip {name!r} comes twice, or its rows do not follow each other.")
                names.add(name)
                yield name, _tokens_of(name, list(rows))
    except CodecbookError as error:
        raise type(error)(f"{path}: {error}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise CorruptInput(f"{path} could not be read as Parquet ({reason}); copy or make it again.") from error


def _row_groups(clips: Iterable[tuple[str, Tokens]]) -> Iterator[list[dict]]:
    """Yield rows of whole clips, about `_ROW_GROUP_CODES` codes at a time."""
    names: set[str] = set()
    group: list[dict] = []
    num_codes = 0
    for name, tokens in clips:
        if name in names:
            raise UnsupportedInput(f"Two clips are named {name!r}; give each a name of its own.")
        names.add(name)
        group += _rows_of(name, tokens)
        num_codes += tokens.num_tokens
        if num_codes >= _ROW_GROUP_CODES:
            yield group
            group, num_codes = [], 0
    if group:
        yield group


def _rows_of(name: str, tokens: Tokens) -> list[dict]:
    largest = max(tokens.codebook_sizes)
    if largest > _MAX_CODEBOOK_SIZE:
        raise UnsupportedInput(f"Clip {name!r} has a codebook of {largest}, above {_MAX_CODEBOOK_SIZE}; split it.")
    of_clip = {field.name: getattr(tokens, field.name) for field in _CLIP_FIELDS}
    of_codebooks = zip(tokens.codebook_sizes, tokens.frame_rates_hz, tokens.codes, strict=True)
    return [
        {"clip": name, "codebook": k, "codebook_size": size, "frame_rate_hz": rate_hz, "codes": codes.astype(np.uint32)}
        | of_clip
        for k, (size, rate_hz, codes) in enumerate(of_codebooks)
    ]


def _check_schema(schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        raise UnsupportedInput(f"columns {schema.names} are not of tokens; give a file that write_tokens made.")
    if version not in _SCHEMAS:
        raise UnsupportedInput(
            f"the layout has version {version!r}, and {' and '.join(map(repr, _SCHEMAS))} are read; update codecbook."
        )
    if not schema.equals(_SCHEMAS[version]):
        raise CorruptInput(f"the columns are {schema.names}, or of other types than written: make the file again.")


def _rows(file: pq.ParquetFile) -> Iterator[dict]:
    """Yield all rows, and raise `CorruptInput` at their end where they are not those that were written."""
    crc = 0
    for index in range(file.num_row_groups):
        table = file.read_row_group(index, use_threads=False)
        table.validate(full=True)
        for row, codes in zip(table.drop_columns("codes").to_pylist(), table.column("codes"), strict=True):
            row["codes"] = codes.values.to_numpy()
            crc = row_crc32(row, crc)
            yield row
    written = (file.metadata.metadata or {}).get(CRC_KEY)
    if written != b"%08x" % crc:
        raise CorruptInput(f"the rows have the checksum {crc:08x}, not {written!r}: some are wrong; copy it again.")


def row_crc32(row: dict, before: int) -> int:
    """Continue a CRC-32 by one row: its codes, and all else of it as JSON."""
    about = json.dumps({key: value for key, value in row.items() if key != "codes"}, sort_keys=True)
    return zlib.crc32(np.asarray(row["codes"], dtype="<u4").tobytes(), zlib.crc32(about.encode(), before))


def _tokens_of(name: str, rows: list[dict]) -> Tokens:
    """Put the rows of a clip together, which must be complete and in agreement about the clip."""
    codebooks = [row["codebook"] for row in rows]
    if codebooks != list(range(len(rows))):
        raise CorruptInput(f"clip {name!r} has codebooks {codebooks}, not 0 to K - 1 in order; rows are missing.")
    of_clip = {field.name: rows[0][field.name] for field in _CLIP_FIELDS if field.name in rows[0]}
    for row in rows[1:]:
        for key, value in of_clip.items():
            if row[key] != value:
                raise CorruptInput(f"clip {name!r} has {key} {value!r} and {row[key]!r}; its rows differ.")
    try:
        return Tokens(
            codes=tuple(row["codes"] for row in rows),
            codebook_sizes=tuple(row["codebook_size"] for row in rows),
            frame_rates_hz=tuple(row["frame_rate_hz"] for row in rows),
            **of_clip,
        )
    except CodecbookError as error:
        raise CorruptInput(f"clip {name!r}: {error}") from None
