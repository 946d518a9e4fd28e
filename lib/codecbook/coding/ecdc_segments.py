"""How ``.ecdc`` cuts a clip into segments, how many frames each has, and what stands between them in the stream."""

import math
import struct
from dataclasses import dataclass
from typing import Any

from codecbook.errors import CorruptInput

CHUNK = struct.Struct(">II")
"""What precedes a segment in ``acv`` 4: length and CRC-32 of the payload."""
SCALE = struct.Struct(">f")
"""What precedes the codes of a segment of a model that normalises."""


@dataclass(frozen=True)
class SegmentLayout:
    """Segments of a clip: each `length` samples, or what is left, and starting `stride` samples after the last.

    Frames are ``ceil(samples * frame_rate / sample_rate)``, in integers. The package computes the same in floats
    (``samples / sample_rate * frame_rate``), which rounds up to a frame too many for some lengths: at 24 kHz already
    for 6720 samples, 22 in place of 21. It writes such streams and cannot read them; here they are read.

    Attributes:
        num_samples: Of the clip, per channel.
        length: Samples in a whole segment.
        stride: Samples from one segment's start to the next one's.
        sample_rate_hz: Samples per second.
        frame_rate_hz: Frames per second.
    """

    num_samples: int  # samples
    length: int  # samples
    stride: int  # samples
    sample_rate_hz: int  # Hz
    frame_rate_hz: int  # Hz

    @property
    def count(self) -> int:
        """Number of segments."""
        return -(-self.num_samples // self.stride)

    def start(self, segment: int) -> int:
        """Return the first sample of a segment."""
        return segment * self.stride

    def samples(self, segment: int) -> int:
        """Return the samples of a segment."""
        return min(self.num_samples - self.start(segment), self.length)

    def frames(self, segment: int) -> int:
        """Return the frames of a segment."""
        return -(-self.samples(segment) * self.frame_rate_hz // self.sample_rate_hz)

    @property
    def num_whole(self) -> int:
        """How many segments, all at the beginning, have `length` samples."""
        if self.num_samples < self.length:
            return 0
        return (self.num_samples - self.length) // self.stride + 1

    @property
    def num_frames(self) -> int:
        """Frames of all segments."""
        whole = self.num_whole * self.frames(0)
        return whole + sum(self.frames(segment) for segment in range(self.num_whole, self.count))


def layout_of(network: Any, num_samples: int) -> SegmentLayout:
    """Return how a clip is cut for an ``EncodecModel``; without segments of its own, the clip is one segment."""
    return SegmentLayout(
        num_samples=num_samples,
        length=network.segment_length or num_samples,
        stride=network.segment_stride or num_samples,
        sample_rate_hz=int(network.sample_rate),
        frame_rate_hz=int(network.frame_rate),
    )


def chunks_of(data: bytes, body: int, count: int) -> list[tuple[int, int, int]]:
    """Return ``(first byte, end byte, checksum)`` of the payload of each chunk of an ``acv`` 4 stream.

    A chunk whose length is damaged cannot be found again, nor can those after it; so the lengths must lead to the
    stream's end exactly.

    Args:
        data: The stream.
        body: Where the first chunk begins.
        count: Number of chunks.

    Raises:
        CorruptInput: They do not.
    """
    chunks = []
    position = body
    for index in range(count):
        start = position + CHUNK.size
        if start > len(data):
            raise CorruptInput(
                f"The stream ends at byte {len(data)}, before chunk {index} of {count}; it is cut off."
            )
        length, checksum = CHUNK.unpack_from(data, position)
        position = start + length
        if position > len(data):
            raise CorruptInput(
                f"Chunk {index} of {count} claims {length} bytes, where {len(data) - start} follow; the stream is cut "
                "off, or a length is damaged."
            )
        chunks.append((start, position, checksum))
    if position != len(data):
        raise CorruptInput(
            f"{len(data) - position} bytes follow the last of {count} chunks; the stream goes on, or a length is "
            "damaged."
        )
    return chunks


def scale_at(data: bytes, position: int, segment: int) -> float:
    """Return the scale of a segment.

    Raises:
        CorruptInput: The stream ends before it, or it is no positive number.
    """
    if position + SCALE.size > len(data):
        raise CorruptInput(f"The stream ends before segment {segment}; it is cut off.")
    (scale,) = SCALE.unpack_from(data, position)
    if not (math.isfinite(scale) and scale > 0):
        raise CorruptInput(
            f"Segment {segment} has the scale {scale}, which must be above 0; the stream is damaged."
        )
    return scale
