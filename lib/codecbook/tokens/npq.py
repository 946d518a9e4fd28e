"""Read and write NPQ token files: a header, then codes frame by frame.

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

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import new_file
from codecbook.tokens.tokens import Tokens, tokens_from_frames

_DTYPES = {"u8": np.dtype("u1"), "u16": np.dtype("<u2"), "u32": np.dtype("<u4")}  # in the order of the dtype field

_MAGIC_V1, _MAGIC_NPQ2 = b"NPQ1", b"NPQ2"
_LAYOUTS = {  # what lies before vocab
    "v1": (struct.Struct("<4sHHffI"), "magic version k rate bitrate frames"),
    "legacy_a": (struct.Struct("<4siffi"), "magic k rate bitrate frames"),
    "legacy_b": (struct.Struct("<4sif"), "magic k rate"),
    "npq2": (struct.Struct("<4sHBHHffI"), "magic version mode k_mid k_side rate bitrate frames"),
}
_BYTES_BEHIND_VOCAB = {"v1": 1, "legacy_a": 0, "legacy_b": 4, "npq2": 1}
_MAX_CODEBOOKS = 0xFFFF
_MAX_HEADER_BYTES = _LAYOUTS["npq2"][0].size + 4 * (2 * _MAX_CODEBOOKS) + 1

_RATE_RANGE_HZ = (1e-3, 1e6)
_BITRATE_RANGE_KBPS = (1e-3, 1e6)


@dataclass(frozen=True)
class NpqHeader:
    """What the header of an NPQ file says."""

    layout: str  # "v1", "legacy_a", "legacy_b" or "npq2"
    codebook_sizes: tuple[int, ...]  # ``V`` per codebook; of mid and side, mid comes first
    frame_rate_hz: float  # frames per second, a float32
    num_frames: int  # ``T``
    storage: str  # how a code is stored: "u8", "u16" or "u32"
    source_bitrate_kbps: float | None = None  # of the recording that was coded, a float32; None where unknown
    channels: int = 0  # 1 or 2 in NPQ2 (its channel mode), 0 (unknown) in the others
    mid_codebooks: int | None = None  # how many codebooks code mid, where NPQ2 says mid/side

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, ``K``."""
        return len(self.codebook_sizes)

    @property
    def dtype(self) -> np.dtype:
        """Type of a code in the payload."""
        return _DTYPES[self.storage]

    @property
    def header_bytes(self) -> int:
        """Size of the header, where the payload begins."""
        return _LAYOUTS[self.layout][0].size + 4 * self.num_codebooks + _BYTES_BEHIND_VOCAB[self.layout]

    @property
    def payload_bytes(self) -> int:
        """Size of the payload."""
        return self.num_frames * self.num_codebooks * self.dtype.itemsize


def inspect_npq(path: str | Path) -> NpqHeader:
    """Return the header of an NPQ file, checked against its size; the payload is not read.

    Raises CodecbookError: as `read_npq`.
    """
    with _opened(path) as (_, header):
        return header


def read_npq(path: str | Path) -> Tokens:
    """Read an NPQ file of any layout.

    The layout and how the codes are stored are not part of the tokens; `inspect_npq` tells them. NPQ2's channel
    mode becomes `Tokens.channels`, and for mid/side `Tokens.mid_codebooks`: the codebooks of side follow. No such file
    raises MissingInput; one that contradicts its format, or has a code outside its codebook, CorruptInput; another
    format, version, channel mode or dtype UnsupportedInput.
    """
    with _opened(path) as (file, header):
        count, num_frames = header.num_codebooks, header.num_frames
        file.seek(header.header_bytes)
        stored = np.fromfile(file, header.dtype, num_frames * count)
        if stored.size != num_frames * count:
            raise CorruptInput(f"the payload ends within its {num_frames} frames, as the file changed; open it again.")
        frames = stored.reshape(num_frames, count)
        for k, size in enumerate(header.codebook_sizes):
            if num_frames and frames[:, k].max() >= size:
                at = int(np.argmax(frames[:, k] >= size))
                raise CorruptInput(
                    f"payload: code {frames[at, k]} of codebook {k} in frame {at} is outside 0..{size - 1} (field "
                    f"vocab[{k}] = {size}); the file is damaged: copy or make it again."
                )
        return tokens_from_frames(
            frames, header.codebook_sizes, header.frame_rate_hz, channels=header.channels,
            source_bitrate_kbps=header.source_bitrate_kbps, mid_codebooks=header.mid_codebooks,
        )  # fmt: skip


def write_npq(path: str | Path, tokens: Tokens, *, overwrite: bool = False) -> Path:
    """Write tokens as NPQ, complete or not at all: mid/side as NPQ2, all else as v1; return the path.

    Codes take u8 up to 256 codes, u16 below 65,536, else u32, as existing writers choose, so that v1 and mid/side
    files of theirs come back to the byte. (u16 could hold the codes of a codebook of exactly 65,536.)

    Kept: codes, codebook sizes, one frame rate and the source's bitrate (both rounded to float32), and mid/side.
    Lost: codec, weights, sampling rate, number of samples, bandwidth, segments and scales, so a codec with segments
    (EnCodec 48 kHz) cannot decode what comes back; `codecbook.tokens.parquet` keeps all.

    Raises:
        UnsupportedInput: Codebooks of several rates, or a value that the header cannot hold.
        CodecbookError: The file exists and `overwrite` is False.
    """
    if len(set(tokens.frame_rates_hz)) != 1 or len({len(codes) for codes in tokens.codes}) != 1:
        raise UnsupportedInput(
            f"NPQ holds frames of one rate; these codebooks have {[len(codes) for codes in tokens.codes]} codes at "
            f"{[f'{rate:g}' for rate in tokens.frame_rates_hz]} Hz. Write them with codecbook.tokens.parquet, or "
            "flatten them with codecbook.tokens.layout."
        )
    frames = tokens.to_frames()
    largest = max(tokens.codebook_sizes)
    header = NpqHeader(
        layout="v1" if tokens.mid_codebooks is None else "npq2", codebook_sizes=tokens.codebook_sizes,
        frame_rate_hz=tokens.frame_rates_hz[0], num_frames=len(frames),
        storage="u8" if largest <= 1 << 8 else "u16" if largest < 1 << 16 else "u32",
        source_bitrate_kbps=tokens.source_bitrate_kbps, mid_codebooks=tokens.mid_codebooks,
    )  # fmt: skip
    if reason := _implausible_field(header):
        raise UnsupportedInput(f"NPQ cannot hold these tokens: {reason}.")
    count, mid = header.num_codebooks, header.mid_codebooks
    counts = (_MAGIC_V1, 1, count) if mid is None else (_MAGIC_NPQ2, 1, 1, mid, count - mid)
    numbers = (header.frame_rate_hz, header.source_bitrate_kbps or 0.0, header.num_frames)
    with new_file(path, overwrite) as temporary, temporary.open("xb") as file:
        file.write(_LAYOUTS[header.layout][0].pack(*counts, *numbers))
        file.write(np.asarray(header.codebook_sizes, dtype="<u4").tobytes())
        file.write(bytes([list(_DTYPES).index(header.storage)]))
        file.write(frames.astype(header.dtype).tobytes())
    return Path(path)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[BinaryIO, NpqHeader]]:
    """Open a file and check its header; errors of the block are raised with the path."""
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"There is no NPQ file at {path}; check the path.")
    with path.open("rb") as file:
        try:
            yield file, _parse_header(file.read(_MAX_HEADER_BYTES), path.stat().st_size)
        except CodecbookError as error:
            raise type(error)(f"{path}: {error}") from None


def _parse_header(head: bytes, file_bytes: int) -> NpqHeader:
    """Recognise and check a header, given as the file's first `_MAX_HEADER_BYTES` or all of a smaller file."""
    magic = head[:4]
    if len(magic) < 4:
        raise CorruptInput(f"field magic is cut off: the file has {file_bytes} bytes; copy it again.")
    if magic == _MAGIC_NPQ2:
        return _checked(_parse("npq2", head), file_bytes)
    if magic != _MAGIC_V1:
        raise UnsupportedInput(f"field magic is {magic!r}; give an NPQ file, which starts with b'NPQ1' or b'NPQ2'.")
    reasons = {}
    for layout in ("v1", "legacy_a", "legacy_b"):
        try:
            return _checked(_parse(layout, head), file_bytes)
        except (CorruptInput, UnsupportedInput) as error:
            reasons[layout] = error
    raise _most_likely(head, reasons)


def _parse(layout: str, head: bytes) -> NpqHeader:
    """Read a header as one of this layout; vocabularies are known to lie within the file before they are read."""
    fixed, names = _LAYOUTS[layout]
    if len(head) < fixed.size:
        raise CorruptInput(f"the header is cut off: {len(head)} bytes, of {fixed.size} before vocab; copy it again.")
    fields = dict(zip(names.split(), fixed.unpack_from(head), strict=True))
    if fields.get("version", 1) != 1:
        raise UnsupportedInput(f"field version is {fields['version']}; version 1 is read, write the file as that.")
    mode, mid, side = (fields.get(name, 0) for name in ("mode", "k_mid", "k_side"))
    if mode not in (0, 1):
        raise UnsupportedInput(f"field channel mode is {mode}; 0 (mono) and 1 (mid/side) are known.")
    if layout == "npq2" and (mid == 0 or (mode == 0 and side)):
        raise CorruptInput(f"k_mid = {mid} and k_side = {side} contradict channel mode {mode}; copy the file again.")
    count = fields.get("k", mid + side)
    if not 1 <= count <= 2 * _MAX_CODEBOOKS:
        raise CorruptInput(f"field K is {count}, where 1 to {_MAX_CODEBOOKS} codebooks are plausible.")
    is_legacy, further = layout.startswith("legacy"), int("frames" not in fields)  # legacy B has T behind vocab
    end = fixed.size + 4 * (count + further)
    if end > len(head):
        raise CorruptInput(f"field K claims {count} codebooks, but ends after {len(head)} bytes; copy the file again.")
    sizes = np.frombuffer(head, "<i4" if is_legacy else "<u4", count + further, fixed.size).tolist()
    num_frames = sizes.pop() if further else fields["frames"]
    storage, bitrate_kbps = "u16", fields.get("bitrate", 0.0)
    if not is_legacy:
        if end == len(head):
            raise CorruptInput(f"field dtype is cut off: the file ends after {end} bytes; copy it again.")
        if head[end] >= len(_DTYPES):
            raise UnsupportedInput(f"field dtype is {head[end]}; 0 (u8), 1 (u16) and 2 (u32) are known.")
        storage = list(_DTYPES)[head[end]]
    # the bytes of +0.0 alone: -0.0 is no bitrate that a writer would give, and is refused as implausible
    known = None if struct.pack("<f", bitrate_kbps) == bytes(4) else bitrate_kbps
    channels, mid_codebooks = mode + 1 if layout == "npq2" else 0, mid if mode == 1 else None
    return NpqHeader(layout, tuple(sizes), fields["rate"], num_frames, storage, known, channels, mid_codebooks)


def _checked(header: NpqHeader, file_bytes: int) -> NpqHeader:
    if reason := _implausible_field(header):
        raise CorruptInput(f"{reason}; the header is damaged, copy or make the file again.")
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
