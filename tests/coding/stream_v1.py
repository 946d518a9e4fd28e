"""Writes version 1 of the stream's format, which the package reads alone: from docs/stream-format-1.md."""

import hashlib
import struct
import zlib
from dataclasses import replace

import numpy as np

from codecbook.coding.stream.header import CODERS, ROW_ORDERS, digest_bytes, frame_header, runs_of
from codecbook.coding.stream.segment import code_rows


def header_of(header):
    """Return a header as version 1 keeps it: digests are whole."""
    known = replace(header.format, weights_sha256=(header.format.weights_sha256 * 32)[:64])
    return replace(header, format=known, version=1, stream_id=header.stream_id.ljust(8, b"1"), parity=None)


def pack_header(header):
    known = header.format
    optional = (header.num_samples, known.bandwidth_kbps, known.source_bitrate_kbps, known.mid_codebooks)
    flags = (*(value is not None for value in optional), header.codec_segment_frames > 0, header.has_scales)
    runs = runs_of(known)
    body = struct.pack(
        "<BBHIHIIIQddHII8s32s32s",
        CODERS.index(header.coder), ROW_ORDERS.index(header.order), sum(flag << i for i, flag in enumerate(flags)),
        known.sample_rate_hz, known.channels, header.rows_per_segment, header.num_rows, header.num_segments,
        *(value or 0 for value in optional), header.codec_segment_frames, header.codec_segment_stride,
        header.stream_id, digest_bytes(known.weights_sha256), digest_bytes(header.lm_sha256),
    )  # fmt: skip
    body += struct.pack("<H", len(runs)) + b"".join(struct.pack("<HId", *run) for run in runs)
    for text in (known.codec, known.weights, header.lm_name):
        body += struct.pack("<H", len(text.encode())) + text.encode()
    return frame_header(1, body)


def pack_segment(header, segment, model=None):
    [(coded, interval_hash)] = code_rows(header, model, [segment.rows])
    side = struct.pack("<I", len(segment.codec_segment_frames)) if segment.codec_segment_frames else b""
    side += np.asarray(segment.codec_segment_frames, dtype="<u4").tobytes()
    side += np.asarray(segment.scales, dtype="<f4").tobytes()
    digest = hashlib.sha256(side + np.asarray(segment.rows, dtype="<u4").tobytes()).digest()[:8]
    payload = side + coded
    numbers = (segment.index, segment.first_row, segment.num_rows, len(payload), zlib.crc32(payload))
    head = struct.pack("<4s5I8sQ", b"\xc5SEG", *numbers, digest, interval_hash)
    return head + struct.pack("<I", zlib.crc32(header.stream_id + head)) + payload


def pack_footer(header, entries, start):
    """`entries` are (offset, CRC of the segment's header), by number."""
    index = b"\xc5IDX" + struct.pack("<I", header.num_segments)
    index += b"".join(struct.pack("<QI", *entry) for entry in entries)
    footer = pack_header(header) + index + struct.pack("<I", zlib.crc32(header.stream_id + index))
    ends = struct.pack("<QQ", start, start + len(footer) + 28)
    return footer + ends + struct.pack("<I", zlib.crc32(ends)) + b"\n\x1a\n\rSBC\x89"


def stream_of(header, segments, between=b"", model=None):
    """Make a stream of a header and segments, in the order in which they shall stand in it."""
    data, entries = pack_header(header), {}
    for segment in segments:
        packed = pack_segment(header, segment, model)
        entries[segment.index] = (len(data), int.from_bytes(packed[40:44], "little"))
        data += packed + between
    return data + pack_footer(header, [entries[number] for number in sorted(entries)], len(data))
