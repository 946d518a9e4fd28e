"""Make the golden NPQ files beside this script: ``python make_npq.py [folder]``.

Every byte is written by `struct.pack` from the format's description and nothing of codecbook is imported, so that
the files test its reader and writer independently. Code k of frame t is ``(7 t + 31 k) mod V``.
"""

import struct
import sys
from pathlib import Path


def payload(num_frames: int, vocabularies: list[int], letter: str) -> bytes:
    codes = [(7 * t + 31 * k) % size for t in range(num_frames) for k, size in enumerate(vocabularies)]
    return struct.pack(f"<{len(codes)}{letter}", *codes)


def v1(num_frames: int, vocabularies: list[int], dtype: int, rate: float, bitrate: float) -> bytes:
    count = len(vocabularies)
    return (
        b"NPQ1"
        + struct.pack("<HHffI", 1, count, rate, bitrate, num_frames)
        + struct.pack(f"<{count}IB", *vocabularies, dtype)
        + payload(num_frames, vocabularies, "BHI"[dtype])
    )


def legacy_a(num_frames: int, vocabularies: list[int], rate: float, bitrate: float) -> bytes:
    count = len(vocabularies)
    return (
        b"NPQ1"
        + struct.pack(f"<iffi{count}i", count, rate, bitrate, num_frames, *vocabularies)
        + payload(num_frames, vocabularies, "H")
    )


def legacy_b(num_frames: int, vocabularies: list[int], rate: float) -> bytes:
    count = len(vocabularies)
    return (
        b"NPQ1"
        + struct.pack(f"<if{count}ii", count, rate, *vocabularies, num_frames)
        + payload(num_frames, vocabularies, "H")
    )


def npq2(num_frames: int, mode: int, mid: list[int], side: list[int], rate: float, bitrate: float) -> bytes:
    vocabularies = mid + side
    return (
        b"NPQ2"
        + struct.pack("<HBHHffI", 1, mode, len(mid), len(side), rate, bitrate, num_frames)
        + struct.pack(f"<{len(vocabularies)}IB", *vocabularies, 1)
        + payload(num_frames, vocabularies, "H")
    )


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def files() -> dict[str, bytes]:
    good = v1(12, [1024, 1024, 512], 1, 75.0, 192.0)
    stereo = npq2(6, 1, [1024, 1024], [256], 86.1328125, 256.0)
    first_code = 21 + 4 * 3
    return {
        "v1_u8.npq": v1(9, [256, 256], 0, 50.0, 0.0),
        "v1_u16.npq": good,
        "v1_u32.npq": v1(5, [65536], 2, 12.5, 128.0),
        "v1_no_frames.npq": v1(0, [1024], 1, 75.0, 0.0),
        "legacy_a.npq": legacy_a(8, [1024, 1024, 1024], 86.1328125, 192.0),
        "legacy_a_one_codebook.npq": legacy_a(8, [1024], 75.0, 64.0),
        "legacy_b.npq": legacy_b(8, [1024, 1024, 1024], 86.1328125),
        # read as legacy A, "T" would be the second vocabulary of 40, and the file has bytes enough for 40 frames
        "legacy_b_long.npq": legacy_b(60, [64, 40, 64], 86.1328125),
        "npq2_mid_side.npq": stereo,
        "npq2_mono.npq": npq2(6, 0, [1024, 1024], [], 86.1328125, 0.0),
        "bad_magic.npq": replaced(good, 3, b"X"),
        "bad_version.npq": replaced(good, 4, struct.pack("<H", 9)),
        "bad_K_zero.npq": replaced(good, 6, struct.pack("<H", 0)),
        "bad_K_huge.npq": replaced(good, 6, struct.pack("<H", 65535)),
        "bad_rate_nan.npq": replaced(good, 8, struct.pack("<f", float("nan"))),
        "bad_rate_zero.npq": replaced(good, 8, struct.pack("<f", 0.0)),
        "bad_bitrate_negative.npq": replaced(good, 12, struct.pack("<f", -1.0)),
        "bad_T_huge.npq": replaced(good, 16, struct.pack("<I", 0xFFFFFFFF)),
        "bad_vocab_zero.npq": replaced(good, 20, struct.pack("<I", 0)),
        "bad_vocab_beyond_dtype.npq": replaced(good, 24, struct.pack("<I", 1 << 20)),
        "bad_dtype.npq": replaced(good, first_code - 1, b"\x07"),
        "bad_code.npq": replaced(good, first_code + 2 * (4 * 3 + 1), struct.pack("<H", 1024)),
        "bad_truncated.npq": good[:-1],
        "bad_trailing_bytes.npq": good + b"\x00\x00",
        "bad_header_only.npq": good[:15],
        "bad_npq2_channel_mode.npq": replaced(stereo, 6, b"\x02"),
        "bad_npq2_no_mid.npq": replaced(stereo, 7, struct.pack("<HH", 0, 3)),
        "bad_npq2_side_in_mono.npq": replaced(stereo, 6, b"\x00"),
        "bad_npq2_version.npq": replaced(stereo, 4, struct.pack("<H", 2)),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, data in files().items():
        (folder / name).write_bytes(data)
