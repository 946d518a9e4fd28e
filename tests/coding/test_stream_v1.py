"""Version 1 of the stream's format, which is read and no longer written: streams made by its last writer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stream_cases as cases
import stream_v1

from codecbook.coding import inspect, verify
from codecbook.coding.stream import StreamReader, decode_tokens
from codecbook.coding.stream.segment import Segment
from codecbook.lm.exact.files import load_exact

GOLDEN = Path(__file__).parents[1] / "golden" / "coding" / "stream_v1"


def golden(kind):
    """Return a stream, its tokens, and its exact model: integers that lie beside it, as exporting rounds floats."""
    tokens = cases.parallel(40) if kind == "exact" else cases.KINDS[kind]
    whole = replace(tokens, weights_sha256=(tokens.weights_sha256 * 32)[:64])
    model = load_exact(GOLDEN / "toy_lm") if kind == "exact" else None
    return (GOLDEN / f"{kind.replace(' ', '_')}.cbs").read_bytes(), whole, model


@pytest.mark.parametrize("kind", [*cases.KINDS, "exact"])
def test_streams_of_every_kind_are_read(kind):
    data, tokens, model = golden(kind)
    with StreamReader(data, model) as reader:
        read = reader.read()
        assert reader.header.version == 1
        parts = list(reader.segments())
    assert read.tokens == tokens
    assert (read.damage, read.notes) == ((), ())
    assert stream_v1.stream_of(inspect(data).header, parts, model=model) == data


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["odd sizes", "segments and scales", "exact"])
def test_single_bits_matter_or_are_there_twice(kind):
    cases.check_every_bit(*golden(kind), every=3)  # so that bits from all over the bytes are among them


def test_a_stream_cut_anywhere_keeps_its_whole_segments():
    data, tokens, _ = golden("parallel")
    ends = [end for _, end, _ in inspect(data).segments]
    for length in range(len(data)):
        result = cases.outcome(data[:length], tokens)
        whole = sum(end <= length for end in ends)
        assert (result is None) == (whole == 0)
        assert result is None or sum(part.num_segments for part in result[0]) == len(ends) - whole


def parts_of(tokens, on_disk=(0, 1, 2, 3)):
    """Return header and segments of 10 rows."""
    header = stream_v1.header_of(cases.header_of(cases.encoded(tokens, segment_s=0.2)))
    rows = header.layout.to_rows(tokens)
    return header, [Segment(i, 10 * i, rows[10 * i : 10 * i + 10]) for i in on_disk]


@pytest.mark.parametrize(
    ("on_disk", "between", "place"),
    [
        ((0, 1, 2, 3), b"foreign" * 10, "segment 1 begins"),
        ((3, 1, 0, 2), b"", "segment 1 begins"),
        ((0, 1, 3, 2), b"", "segment 2 begins"),
        ((0, 1, 2, 3), b"x", "segment 1 begins"),
    ],
)
def test_gaps_and_another_order_are_reported_and_cost_nothing(on_disk, between, place):
    tokens = cases.parallel(40)
    header, segments = parts_of(tokens, on_disk)
    data = stream_v1.stream_of(header, segments, between)
    read = decode_tokens(data)
    np.testing.assert_array_equal(read.tokens.to_frames(), tokens.to_frames())
    assert not read.damage
    (note,) = read.notes
    assert "Bytes are of no segment, or segments are not in the order" in note
    assert place in note
    assert verify(data).notes == inspect(data).notes == (note,)


def test_bytes_after_the_last_segment_are_reported():
    tokens = cases.parallel(10)
    header, segments = parts_of(tokens, (0,))
    (note,) = decode_tokens(stream_v1.stream_of(header, segments, b"tail")).notes
    assert "the second copy of the header begins at byte" in note
