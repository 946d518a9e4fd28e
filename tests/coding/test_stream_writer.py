"""Segments of a codec's own: whole ones, all of one length but for shorter ones at the end."""

import io

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding import verify
from codecbook.coding.stream import StreamReader, StreamWriter, encode_tokens
from codecbook.coding.stream.segment import Segment
from codecbook.errors import UnsupportedInput


def writer_of(frames):
    return StreamWriter(io.BytesIO(), cases.parallel().format, codec_segment_frames=frames)


def test_no_segment_is_longer_than_the_one_before_it():
    def write(writer, *frames):
        writer.write(np.zeros((sum(frames), 3), int), frames)

    writer = writer_of(10)
    for frames in ((10,), (10, 10), (9,), (9, 3), (1,)):
        write(writer, *frames)
    for frames in ((2,), (10,), (0,)):
        with pytest.raises(UnsupportedInput, match="comes where 1 to 1 fit"):
            write(writer, *frames)
    with pytest.raises(UnsupportedInput, match="11 frames comes where 1 to 10 fit"):
        write(writer_of(10), 11)
    with pytest.raises(UnsupportedInput, match="5 frames comes where 1 to 4 fit"):
        write(writer_of(10), 4, 5)


def test_a_reader_reports_what_a_writer_may_not_write():
    tokens = cases.segmented((10,) * 4, scales=False)
    header = cases.header_of(encode_tokens(tokens, segment_s=0.4))
    rows = header.layout.to_rows(tokens)
    last = Segment(1, 20, rows[20:], (10, 10))
    within = [Segment(0, 0, rows[:20], (9, 10, 1)), last]
    (damage,) = verify(cases.forged(header, within)).damage
    assert (damage.segment, damage.kind) == (0, "coder")
    assert "longer than the one before it" in damage.reason
    across = [Segment(0, 0, rows[:20], (10, 9, 1)), last]
    report = verify(cases.forged(header, across))
    assert not report.damage
    assert report.notes == (
        "Segment 1 begins with a longer segment of the codec than the one before it; times from there on are wrong.",
    )


def test_a_tail_of_shorter_segments_is_found_by_time():
    tokens = cases.segmented((10, 10, 10, 4), scales=False)
    with StreamReader(encode_tokens(tokens, codec_segment_stride=190, segment_s=0.2)) as reader:
        assert [part.first_row for part in reader.segments()] == [0, 10, 20, 30]
        assert reader.read(0.57, 0.58).first_row == 30
