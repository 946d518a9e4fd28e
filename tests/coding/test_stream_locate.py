"""Streams whose every checksum is right, and whose segments do not stand as they must."""

import pytest
import stream_cases as cases

from codecbook.coding import inspect, verify
from codecbook.coding.stream import decode_tokens
from codecbook.coding.stream.segment import Segment


def parts_of(tokens, on_disk=(0, 1, 2, 3)):
    """Return header and segments of 10 rows."""
    header = cases.header_of(cases.encoded(tokens, segment_s=0.2))
    rows = header.layout.to_rows(tokens)
    return header, [Segment(i, 10 * i, rows[10 * i : 10 * i + 10]) for i in on_disk]


@pytest.mark.parametrize(
    ("on_disk", "between", "place"),
    [
        ((0, 1, 2, 3), b"foreign" * 10, "segment 1 begins"),
        ((3, 1, 0, 2), b"", "segment 0 begins"),
        ((0, 1, 3, 2), b"", "segment 2 begins"),
        ((0, 1, 2, 3), b"x", "segment 1 begins"),
    ],
)
def test_gaps_and_another_order_are_reported_and_cost_nothing(on_disk, between, place):
    tokens = cases.parallel(40)
    data = cases.forged(*parts_of(tokens, on_disk), between)
    read = decode_tokens(data)
    assert read.tokens == tokens
    assert not read.damage
    (note,) = read.notes
    assert "belong to no segment, or segments are in another order" in note
    assert place in note
    assert verify(data).notes == inspect(data).notes == (note,)


def test_bytes_after_the_last_segment_are_reported():
    tokens = cases.parallel(10)
    data = cases.forged(*parts_of(tokens, (0,)), b"tail")
    (note,) = decode_tokens(data).notes
    assert "the second copy of the header begins at byte" in note


def test_segments_that_follow_each_other_need_no_note():
    tokens = cases.parallel(40)
    data = cases.forged(*parts_of(tokens))
    assert data == cases.encoded(tokens, segment_s=0.2)
    assert verify(data).notes == ()
