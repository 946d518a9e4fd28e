"""Altered inputs for `fuzz`: damage that knows where a format keeps its lengths, fields and checksums."""

import contextlib
import copy
import functools
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from codecbook.coding.ecdc.segments import CHUNK, outline_ecdc
from codecbook.coding.stream.header import CRC, FRAME, HEADER_MAGIC
from codecbook.models.store import arrays_sha256
from codecbook.probes.corruption.fuzz import Files
from codecbook.probes.corruption.inject import BYTE_KINDS, RUN_KINDS, draw
from codecbook.probes.determinism.bundle import digest
from codecbook.tokens.parquet import CRC_KEY, row_crc32

EVIL: tuple[Any, ...] = (
    None, [], {}, "", "x", True, -1, 0, 1, 2.5, 1e-300, 1e300, 100_000, 10**9, 2**31, 2**63, 10**20, 10**400,
    float("inf"), float("-inf"), float("nan"), [1] * 50, [None], [[]], [10**20], "\ud800", "../../x", "a\0b",
)  # fmt: skip
"""Values that a JSON text may have where its reader expects others."""
_NEST = "a list in a list in a list"
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
_ENDS = 300  # bytes at either end of a file, where headers and footers are
_INFLATED_BYTES = 1 << 24


def altered_bytes(data: bytes, random: Random) -> bytes:
    """Return bytes with one to three mutations, half of them near either end."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if not data:
            return random.randbytes(random.randrange(20))
        near = random.choice((range(len(data)), range(len(data)), range(_ENDS), range(len(data) - _ENDS, len(data))))
        place = random.choice(range(len(data))[max(0, near.start) : near.stop])
        if random.random() < 0.3:  # a field with a value that a program may stumble over
            width = random.choice((1, 2, 4, 8))
            value = random.choice(_EXTREMES) % (1 << 8 * width)
            data = data[:place] + value.to_bytes(width, random.choice(("little", "big"))) + data[place + width :]
        else:
            kind, size = random.choice(BYTE_KINDS + RUN_KINDS), random.choice((1, 1, 2, 4, 16))
            places = [range(place, place + 1)]
            data = draw(data, kind, random.getrandbits(63), places=places, size=size, other=data[::-1]).apply(data)
    return data


def altered_json(content: Any, random: Random) -> str:
    """Return a JSON text with one or two values replaced, removed or nested; not all that it holds is JSON."""
    content = copy.deepcopy(content)
    for _ in range(random.randint(1, 2)):
        ways = list(_ways(content))
        if not ways:
            break
        *way, last = random.choice(ways)
        parent = content
        for key in way:
            parent = parent[key]
        if random.random() < 0.1 and isinstance(parent, dict):
            del parent[last]
        elif random.random() < 0.05:
            parent[last] = _NEST
        else:
            parent[last] = copy.deepcopy(random.choice(EVIL))  # as the next one may lie in it
    levels = random.choice((70, 100_000))
    text = json.dumps(content).replace(json.dumps(_NEST), "[" * levels + "]" * levels)
    return text.replace("Infinity", "1e999") if random.random() < 0.5 else text


def _ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value of a JSON text."""
    if way:
        yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _ways(value[key], (*way, key))


def _json_bytes(content: Any, random: Random) -> bytes:
    return altered_json(content, random).encode("utf-8", "surrogatepass")


def alter_any(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter the bytes of one file; return the files, and whether checksums were made to fit (here: no)."""
    name = random.choice(sorted(files))
    return {**files, name: altered_bytes(files[name], random)}, False


def alter_stream(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter a ``.cbs`` stream; of half of them all headers get the checksum that they then need."""
    files, _ = alter_any(files, random)
    if random.random() < 0.5:
        return files, False
    ((name, data),) = files.items()
    sealed, place = bytearray(data), data.find(HEADER_MAGIC)
    while place >= 0:
        if random.random() < 0.3:  # in its fields, which damage anywhere seldom hits
            sealed[min(place + random.randrange(8, 180), len(data) - 1)] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
        end = place + FRAME.size + (FRAME.unpack_from(sealed, place)[2] if place + FRAME.size <= len(data) else 0)
        if end + CRC.size <= len(data):
            CRC.pack_into(sealed, end, zlib.crc32(sealed[place:end]))
        place = data.find(HEADER_MAGIC, place + 1)
    return {name: bytes(sealed)}, True


def _alter_part(parts: Files, random: Random) -> str:
    """Alter one of the parts of a file, text in JSON mostly as such, and return its name."""
    name = random.choice(sorted(parts))
    if name.endswith(".json") and random.random() < 0.8:
        parts[name] = _json_bytes(json.loads(parts[name]), random)
    else:
        parts[name] = altered_bytes(parts[name], random)
    return name


def alter_ecdc(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter an ``.ecdc`` stream: its JSON with the right length before it, or a chunk with the right checksum."""
    ((name, data),) = files.items()
    if random.random() < 0.4:
        return alter_any(files, random)
    outline = outline_ecdc(data)
    chunks = {f"{i:04}": data[chunk.start : chunk.end] for i, chunk in enumerate(outline.chunks)}
    parts = {"header.json": data[9 : outline.body], **chunks}
    _alter_part(parts, random)
    text = parts["header.json"]
    body = b"".join(CHUNK.pack(len(parts[i]), zlib.crc32(parts[i])) + parts[i] for i in chunks) or data[outline.body :]
    return {name: data[:5] + struct.pack(">I", len(text)) + text + body}, True


def alter_parquet(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter a token file: its bytes, or its rows and keys, with checksums made anew."""
    ((name, data),) = files.items()
    if random.random() < 0.7:
        return alter_any(files, random)
    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    row, values = random.choice(rows), (None, -1, 0, 1, 2**31 - 1, 2**40, 2**62, 1e300, float("nan"), "", "x", [], [0])
    row[random.choice(sorted(row))] = random.choice((*values, *(other for each in rows for other in each.values())))
    written = io.BytesIO()
    try:
        table = pa.Table.from_pylist(rows, schema=table.schema)
        crc = functools.reduce(lambda before, each: row_crc32(each, before), table.to_pylist(), 0)
        with pq.ParquetWriter(written, table.schema, write_page_checksum=True) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({CRC_KEY: b"%08x" % crc})
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # no value of that type
        return alter_any(files, random)
    return {name: written.getvalue()}, True


def alter_model(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter a model's folder: its configuration, the header of its tensors, or their values with the right hash."""
    if random.random() < 0.3:
        return alter_any(files, random)
    tensors = files["model.safetensors"]
    end = 8 + int.from_bytes(tensors[:8], "little")
    parts = {"config.json": files["config.json"], "tensors.json": tensors[8:end], "values": tensors[end:]}
    _alter_part(parts, random)
    config, text = parts["config.json"], parts["tensors.json"]
    tensors = len(text).to_bytes(8, "little") + text + parts["values"]
    with contextlib.suppress(Exception):  # what cannot be read is tried as it is
        config = json.dumps({**json.loads(config), "sha256": arrays_sha256(safetensors.numpy.load(tensors))}).encode()
    return {**files, "config.json": config, "model.safetensors": tensors}, True


def alter_bundle(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter a determinism bundle: its bytes, or a file in it with the right hash; rarely one that inflates."""
    ((name, data),) = files.items()
    if random.random() < 0.4:
        return alter_any(files, random)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    manifest = json.loads(members["bundle.json"])
    member = _alter_part(members, random)
    if random.random() < 0.01:
        members[member] = bytes(_INFLATED_BYTES)
    if member in manifest["files"]:
        manifest["files"][member] = hashlib.sha256(members[member]).hexdigest()
        members["bundle.json"] = json.dumps(manifest).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return {name: written.getvalue()}, True


def alter_result(files: Files, random: Random) -> tuple[Files, bool]:
    """Alter a result of the determinism probe, JSON that holds a digest of all else in it, and compute that anew."""
    ((name, data),) = files.items()
    if random.random() < 0.3:
        return alter_any(files, random)
    text = altered_json({key: value for key, value in json.loads(data).items() if key != "sha256"}, random)
    with contextlib.suppress(ValueError, TypeError, RecursionError):  # what cannot be signed is tried as it is
        parsed = json.loads(text)
        text = json.dumps({**parsed, "sha256": digest(parsed)})
    return {name: text.encode("utf-8", "surrogatepass")}, True
