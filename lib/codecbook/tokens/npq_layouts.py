"""The headers of NPQ token files: four layouts, told apart, checked field by field, and written.

All numbers are little-endian; ``K`` codebooks, ``T`` frames; the payload is frame-major ``[T, K]``.

=============  ===========================================================================================
layout         bytes
=============  ===========================================================================================
``v1``         ``NPQ1``, u16 version = 1, u16 K, f32 frame rate, f32 source bitrate, u32 T, u32 vocab[K],
               u8 dtype (0 u8, 1 u16, 2 u32), payload
``legacy_a``   ``NPQ1``, i32 K, f32 frame rate, f32 source bitrate, i32 T, i32 vocab[K], payload u16
``legacy_b``   ``NPQ1``, i32 K, f32 frame rate, i32 vocab[K], i32 T, payload u16
``npq2``       ``NPQ2``, u16 version = 1, u8 channel mode (0 mono, 1 mid/side), u16 K_mid, u16 K_side,
               f32 frame rate, f32 source bitrate, u32 T, u32 vocab[K_mid + K_side], u8 dtype, payload
=============  ===========================================================================================

The three NPQ1 layouts have nothing to tell them apart but their contents, so a file is taken for one only where
every field is plausible and the file has exactly the size that the fields claim. With these bounds no file
passes for two: a version of 1 and K >= 1 make a legacy K of at least 65,537; and where legacy A has its bitrate
(0, or at least 0.001 kbps: as an integer 0, or above 981 million), legacy B has a vocabulary (1 to 65,536).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput

STORAGE_DTYPES = {"u8": np.dtype("u1"), "u16": np.dtype("<u2"), "u32": np.dtype("<u4")}
_STORAGE_CODES = {"u8": 0, "u16": 1, "u32": 2}

_MAGIC_V1, _MAGIC_NPQ2 = b"NPQ1", b"NPQ2"
_V1 = struct.Struct("<4sHHffI")
_LEGACY_A = struct.Struct("<4siffi")
_LEGACY_B = struct.Struct("<4sif")
_NPQ2 = struct.Struct("<4sHBHHffI")
MAX_HEADER_BYTES = _NPQ2.size + 4 * (2 * 0xFFFF) + 1

_RATE_RANGE_HZ = (1e-3, 1e6)
_BITRATE_RANGE_KBPS = (1e-3, 1e6)
_MAX_CODEBOOKS = 0xFFFF


@dataclass(frozen=True)
class NpqHeader:
    """What the header of an NPQ file says.

    Attributes:
        layout: ``"v1"``, ``"legacy_a"``, ``"legacy_b"`` or ``"npq2"``.
        codebook_sizes: ``V`` per codebook; of mid and side, mid comes first.
        frame_rate_hz: Frames per second, a float32.
        num_frames: ``T``.
        storage: How a code is stored: ``"u8"``, ``"u16"`` or ``"u32"``.
        source_bitrate_kbps: Bitrate of the recording that was coded, a float32; None where unknown (0 in the file).
        channels: 1 or 2 in NPQ2 (its channel mode), 0 (unknown) in the others.
        mid_codebooks: How many codebooks code mid, where NPQ2 says mid/side; None otherwise.
    """

    layout: str
    codebook_sizes: tuple[int, ...]
    frame_rate_hz: float
    num_frames: int
    storage: str
    source_bitrate_kbps: float | None = None
    channels: int = 0
    mid_codebooks: int | None = None

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.codebook_sizes)

    @property
    def dtype(self) -> np.dtype:
        """Type of a code in the payload."""
        return STORAGE_DTYPES[self.storage]

    @property
    def header_bytes(self) -> int:
        """Size of the header, where the payload begins."""
        fixed = {"v1": _V1.size + 1, "legacy_a": _LEGACY_A.size, "legacy_b": _LEGACY_B.size + 4, "npq2": _NPQ2.size + 1}
        return fixed[self.layout] + 4 * self.num_codebooks

    @property
    def payload_bytes(self) -> int:
        """Size of the payload."""
        return self.num_frames * self.num_codebooks * self.dtype.itemsize

    @property
    def duration_s(self) -> float:
        """Duration of the codes in seconds."""
        return self.num_frames / self.frame_rate_hz


def parse_header(head: bytes, file_bytes: int) -> NpqHeader:
    """Recognise and check a header.

    Args:
        head: The file's first `MAX_HEADER_BYTES`, or all of a smaller file.
        file_bytes: Size of the whole file.

    Raises:
        CorruptInput: A field is implausible, or the size is not what the fields claim; names the field.
        UnsupportedInput: Another magic, version, channel mode or dtype.
    """
    magic = head[:4]
    if len(magic) < 4:
        raise CorruptInput(f"field magic is cut off: the file has {file_bytes} bytes; copy it again.")
    if magic == _MAGIC_NPQ2:
        return _checked(_parse_npq2(head), file_bytes)
    if magic != _MAGIC_V1:
        raise UnsupportedInput(f"field magic is {magic!r}; give an NPQ file, which starts with b'NPQ1' or b'NPQ2'.")
    reasons = {}
    for layout, parse in (("v1", _parse_v1), ("legacy_a", _parse_legacy_a), ("legacy_b", _parse_legacy_b)):
        try:
            return _checked(parse(head), file_bytes)
        except (CorruptInput, UnsupportedInput) as error:
            reasons[layout] = error
    raise _most_likely(head, reasons)


def build_header(header: NpqHeader) -> bytes:
    """Return the header's bytes, up to the payload; `parse_header` gives the same header back.

    The frame rate and the bitrate are rounded to float32.

    Raises:
        UnsupportedInput: A field is implausible, or the layout is a legacy one, which is only read.
    """
    reason = _implausible_field(header)
    if reason:
        raise UnsupportedInput(f"NPQ cannot hold these tokens: {reason}.")
    count = header.num_codebooks
    common = (header.frame_rate_hz, header.source_bitrate_kbps or 0.0, header.num_frames)
    if header.layout == "v1":
        fixed = _V1.pack(_MAGIC_V1, 1, count, *common)
    elif header.layout == "npq2":
        stereo = header.mid_codebooks is not None
        mid = header.mid_codebooks if header.mid_codebooks is not None else count
        fixed = _NPQ2.pack(_MAGIC_NPQ2, 1, int(stereo), mid, count - mid, *common)
    else:
        raise UnsupportedInput(f"Layout {header.layout!r} cannot be written; choose 'v1' or 'npq2'.")
    vocabularies = np.asarray(header.codebook_sizes, dtype="<u4").tobytes()
    return fixed + vocabularies + bytes([_STORAGE_CODES[header.storage]])


def smallest_storage(codebook_sizes: Sequence[int]) -> str:
    """Return the storage that existing writers choose: u8 up to 256 codes, u16 below 65,536, else u32.

    (u16 could hold the codes of a codebook of exactly 65,536; files in circulation have u32 there.)
    """
    largest = max(codebook_sizes)
    if largest <= 1 << 8:
        return "u8"
    return "u16" if largest < 1 << 16 else "u32"


def _parse_v1(head: bytes) -> NpqHeader:
    _, version, count, rate, bitrate, num_frames = _fixed_fields(_V1, head)
    if version != 1:
        raise UnsupportedInput(f"field version is {version}; version 1 is read, write the file as that.")
    sizes = _vocabularies(head, _V1.size, count, "<u4")
    storage = _storage(head, _V1.size + 4 * count)
    return NpqHeader("v1", sizes, rate, num_frames, storage, _known(bitrate))


def _parse_legacy_a(head: bytes) -> NpqHeader:
    _, count, rate, bitrate, num_frames = _fixed_fields(_LEGACY_A, head)
    sizes = _vocabularies(head, _LEGACY_A.size, count, "<i4")
    return NpqHeader("legacy_a", sizes, rate, num_frames, "u16", _known(bitrate))


def _parse_legacy_b(head: bytes) -> NpqHeader:
    _, count, rate = _fixed_fields(_LEGACY_B, head)
    *sizes, num_frames = _vocabularies(head, _LEGACY_B.size, count, "<i4", further=1)
    return NpqHeader("legacy_b", tuple(sizes), rate, num_frames, "u16")


def _parse_npq2(head: bytes) -> NpqHeader:
    _, version, mode, mid, side, rate, bitrate, num_frames = _fixed_fields(_NPQ2, head)
    if version != 1:
        raise UnsupportedInput(f"field version is {version}; version 1 is read, write the file as that.")
    if mode not in (0, 1):
        raise UnsupportedInput(f"field channel mode is {mode}; 0 (mono) and 1 (mid/side) are known.")
    if mid == 0 or (mode == 0 and side):
        raise CorruptInput(
            f"fields k_mid = {mid} and k_side = {side} contradict channel mode {mode}: k_mid must be 1 or more, and "
            "k_side 0 in mono; the header is damaged."
        )
    sizes = _vocabularies(head, _NPQ2.size, mid + side, "<u4")
    storage = _storage(head, _NPQ2.size + 4 * len(sizes))
    return NpqHeader("npq2", sizes, rate, num_frames, storage, _known(bitrate), mode + 1, mid if mode == 1 else None)


def _fixed_fields(layout: struct.Struct, head: bytes) -> tuple:
    if len(head) < layout.size:
        raise CorruptInput(
            f"the header is cut off: {len(head)} bytes, and its fields before vocab alone take {layout.size}; copy "
            "the file again."
        )
    return layout.unpack_from(head)


def _vocabularies(head: bytes, start: int, count: int, dtype: str, further: int = 0) -> tuple[int, ...]:
    """Return `count` (and `further`) integers, known to lie within the file before they are read."""
    if not 1 <= count <= 2 * _MAX_CODEBOOKS:
        raise CorruptInput(f"field K is {count}, where 1 to {_MAX_CODEBOOKS} codebooks are plausible.")
    if start + 4 * (count + further) > len(head):
        raise CorruptInput(
            f"field K claims {count} codebooks, but the file ends within their vocab, after {len(head)} bytes; K "
            "is damaged or the file is cut off."
        )
    return tuple(np.frombuffer(head, dtype, count + further, start).tolist())


def _storage(head: bytes, at: int) -> str:
    if at >= len(head):
        raise CorruptInput(f"field dtype is cut off: the file ends after {len(head)} bytes; copy it again.")
    for name, code in _STORAGE_CODES.items():
        if code == head[at]:
            return name
    raise UnsupportedInput(f"field dtype is {head[at]}; 0 (u8), 1 (u16) and 2 (u32) are known.")


def _known(bitrate_kbps: float) -> float | None:
    # the bytes of +0.0 alone: -0.0 is no bitrate that a writer would give, and is refused as implausible
    return None if struct.pack("<f", bitrate_kbps) == bytes(4) else bitrate_kbps


def _checked(header: NpqHeader, file_bytes: int) -> NpqHeader:
    reason = _implausible_field(header)
    if reason:
        raise CorruptInput(f"{reason}; the header is damaged.")
    held = file_bytes - header.header_bytes
    if held != header.payload_bytes:
        fault = "the payload is cut off" if held < header.payload_bytes else "there are trailing bytes"
        raise CorruptInput(
            f"{fault}, or a field is damaged: fields T = {header.num_frames}, K = {header.num_codebooks} and dtype "
            f"{header.storage} claim a payload of {header.payload_bytes} bytes, and the file holds {held}; copy it "
            "again."
        )
    return header


def _implausible_field(header: NpqHeader) -> str | None:
    """Return what is implausible, beginning with the field's name, or None."""
    count = header.num_codebooks
    most = 2 * _MAX_CODEBOOKS if header.layout == "npq2" else _MAX_CODEBOOKS
    if not 1 <= count <= most:
        return f"field K is {count}, where 1 to {most} codebooks are plausible"
    low, high = _RATE_RANGE_HZ
    if not low <= header.frame_rate_hz <= high:
        return f"field frame rate is {header.frame_rate_hz} Hz, where {low:g} to {high:g} are plausible"
    low, high = _BITRATE_RANGE_KBPS
    if header.source_bitrate_kbps is not None and not low <= header.source_bitrate_kbps <= high:
        return f"field bitrate is {header.source_bitrate_kbps} kbps, where 0 or {low:g} to {high:g} are plausible"
    most_frames = 0x7FFFFFFF if header.layout.startswith("legacy") else 0xFFFFFFFF
    if not 0 <= header.num_frames <= most_frames:
        return f"field T is {header.num_frames}, where 0 to {most_frames} frames are plausible"
    most_codes = min(1 << 8 * header.dtype.itemsize, 0xFFFFFFFF)
    for k, size in enumerate(header.codebook_sizes):
        if not 1 <= size <= most_codes:
            return f"field vocab[{k}] is {size}, where dtype {header.storage} holds codebooks of 1 to {most_codes}"
    return None


def _most_likely(head: bytes, reasons: dict[str, CorruptInput | UnsupportedInput]) -> CorruptInput | UnsupportedInput:
    """Choose which layout's complaint to report about an ``NPQ1`` file that is of none.

    The four bytes after the magic are version and K, or a legacy K: a legacy K that is plausible has no upper
    half, a v1 file has a version of 1 and its K there.
    """
    version = int.from_bytes(head[4:6], "little")
    upper_half = int.from_bytes(head[6:8], "little")
    if len(head) < 8 or upper_half:
        return reasons["v1"]
    about_legacy = f"as legacy A: {reasons['legacy_a']} As legacy B: {reasons['legacy_b']}"
    if version in (0, 1):
        return CorruptInput(f"no layout fits. As v1: {reasons['v1']} {about_legacy[0].upper()}{about_legacy[1:]}")
    return CorruptInput(f"no layout fits: {about_legacy}")
