"""Damage to an ``.ecdc`` stream, and what it does to the audio."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbook.audio import Clip
from codecbook.coding.ecdc_header import parse_header
from codecbook.coding.ecdc_models import network_of
from codecbook.coding.ecdc_segments import chunks_of, layout_of
from codecbook.errors import CorruptInput, UnsupportedInput

BAD_SAMPLE_THRESHOLD = 1e-3
"""A sample is bad where damage changes a channel by more than this, of full scale 1."""


@dataclass(frozen=True)
class Corruption:
    """What damage did to decoded audio, against the undamaged stream's.

    Attributes:
        mae: Mean absolute difference.
        max_abs: Greatest absolute difference.
        first_bad_sample: First sample above `BAD_SAMPLE_THRESHOLD` in any channel; None if there is none.
        last_bad_sample: Last such sample.
        bad_duration_s: From the first to the last, both included.
    """

    mae: float  # of full scale
    max_abs: float  # of full scale
    first_bad_sample: int | None  # samples
    last_bad_sample: int | None  # samples
    bad_duration_s: float | None  # s


@dataclass(frozen=True)
class FlippedByte:
    """A stream with the lowest bit of one byte flipped.

    Attributes:
        data: The damaged stream.
        absolute_byte: Which byte.
        payload_byte: The same from the header's end.
        chunk_index: In which chunk, of an acv=4 stream.
        chunk_byte: Which byte of its payload.
    """

    data: bytes
    absolute_byte: int
    payload_byte: int
    chunk_index: int | None
    chunk_byte: int | None


def flip_byte(data: bytes, model: Any, fraction: float) -> FlippedByte:
    """Flip the lowest bit of one byte of a stream's payload; in an acv=4 stream, of its chunks' payloads.

    Args:
        data: An undamaged stream.
        model: Its ``EncodecModel`` or an adapter of one.
        fraction: Which byte: 0 is the first, 1 the last.

    Raises:
        UnsupportedInput: A fraction outside 0 to 1.
        CorruptInput: The stream is damaged already, or has no payload.
    """
    if not 0 <= fraction <= 1:
        raise UnsupportedInput(f"fraction={fraction} is outside 0 to 1.")
    header, body = parse_header(data)
    ranges = [(body, len(data))]
    if header.is_chunked:
        count = layout_of(network_of(model), header.num_samples).count
        ranges = [(start, end) for start, end, _ in chunks_of(data, body, count)]
    total = sum(end - start for start, end in ranges)
    if total == 0:
        raise CorruptInput("The stream has no payload to damage; it is cut off.")
    left = min(total - 1, int(total * fraction))
    index = 0
    while left >= ranges[index][1] - ranges[index][0]:
        left -= ranges[index][1] - ranges[index][0]
        index += 1
    place = ranges[index][0] + left
    damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    if header.is_chunked:
        return FlippedByte(damaged, place, place - body, index, left)
    return FlippedByte(damaged, place, place - body, None, None)


def compare_decodes(clean: Clip, corrupt: Clip, threshold: float = BAD_SAMPLE_THRESHOLD) -> Corruption:
    """Return where and how much decoded audio differs from that of the undamaged stream.

    Args:
        clean: Decoded from the undamaged stream.
        corrupt: Decoded from the damaged one; samples beyond the shorter of the two are left out.
        threshold: Absolute difference above which a sample is bad.

    Raises:
        UnsupportedInput: Other rates or channels.
    """
    if clean.sample_rate_hz != corrupt.sample_rate_hz or clean.num_channels != corrupt.num_channels:
        raise UnsupportedInput(
            f"The clean clip has {clean.num_channels} channel(s) at {clean.sample_rate_hz} Hz, the other "
            f"{corrupt.num_channels} at {corrupt.sample_rate_hz} Hz; compare two decodes of one codec."
        )
    length = min(clean.num_samples, corrupt.num_samples)
    difference = np.abs(
        corrupt.samples[:, :length].astype(np.float64) - clean.samples[:, :length].astype(np.float64)
    )
    bad = np.flatnonzero(difference.max(axis=0) > threshold)
    first, last = (int(bad[0]), int(bad[-1])) if bad.size else (None, None)
    duration_s = None if first is None or last is None else (last - first + 1) / clean.sample_rate_hz
    return Corruption(float(difference.mean()), float(difference.max()), first, last, duration_s)
