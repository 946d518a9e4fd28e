import math
from dataclasses import replace

import pytest

from codecbook.coding.ecdc.segments import MODEL_SHAPES, chunks_of, scale_at
from codecbook.errors import CorruptInput


@pytest.mark.parametrize("num_samples", [1, 80, 47519, 47520, 47521, 48000, 48001, 95520, 120000, 480000])
@pytest.mark.parametrize("stride", [47520, 24000, 48000])
def test_segments_are_the_packages(num_samples: int, stride: int) -> None:
    shape = replace(MODEL_SHAPES["encodec_48khz"], stride_samples=stride)
    starts = list(range(0, num_samples, stride))
    samples = [min(num_samples - start, 48000) for start in starts]
    assert shape.num_segments(num_samples) == len(starts)
    assert shape.segments(num_samples) == samples
    assert [shape.frames(n) for n in samples] == [math.ceil(n / 320) for n in samples]


def test_frames_are_counted_in_integers() -> None:
    # the package's floats count a frame too many here
    assert math.ceil(6720 / 24000 * 75) == 22
    shape = MODEL_SHAPES["encodec_24khz"]
    assert (shape.segments(6720), shape.frames(6720)) == ([6720], 21)


def test_chunks() -> None:
    data = b"head" + b"\0\0\0\2\0\0\0\7ab" + b"\0\0\0\0\0\0\0\1"
    assert [(chunk.start, chunk.end, chunk.expected) for chunk in chunks_of(data, 4, 2)] == [(12, 14, 7), (22, 22, 1)]
    with pytest.raises(CorruptInput, match="before chunk 2 of 3"):
        chunks_of(data, 4, 3)
    with pytest.raises(CorruptInput, match="8 bytes follow the last of 1 chunks"):
        chunks_of(data, 4, 1)
    with pytest.raises(CorruptInput, match="Chunk 0 of 2 claims 2 of 1 bytes"):
        chunks_of(data[:13], 4, 2)


@pytest.mark.parametrize("data", [b"\x7f\xc0\0\0", b"\x7f\x80\0\0", b"\xbf\x80\0\0", b"\0\0\0\0", b"\x3f\x80\0"])
def test_bad_scales(data: bytes) -> None:
    with pytest.raises(CorruptInput, match=r"[sS]egment 3"):
        scale_at(data, 0, 3)
    assert scale_at(b"\x3f\x80\0\0", 0, 3) == 1.0
