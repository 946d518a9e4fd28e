"""Whatever happens to a stream's bytes, every code that comes out is right, and every one that does not is reported."""

import functools
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding import inspect
from codecbook.coding.exact import frames as exact_frames
from codecbook.coding.stream import StreamReader, decode_tokens
from codecbook.coding.stream import header as headers
from codecbook.coding.stream import segment as stream_segment
from codecbook.coding.stream.segment import SEGMENT_HEADER_BYTES, Damage
from codecbook.errors import CorruptInput, UnsupportedInput


@functools.cache
def broken_kind(name):
    tokens, model = {
        "raw": (cases.parallel(250, sizes=(16, 1000)), None),
        "scales": (cases.segmented((10, 10, 7)), None),
        "exact": (cases.parallel(40), cases.exact_model()),
    }[name]
    return tokens, model, cases.encoded(tokens, model, segment_s=1.5 if name == "raw" else 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "scales", "exact"])
def test_every_single_bit_matters_or_is_there_twice(kind):
    tokens, model, data = broken_kind(kind)
    segments = inspect(data).segments
    inside = np.zeros(len(data), dtype=int) - 1
    for number, (start, end, _) in enumerate(segments):
        inside[start:end] = number
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        result = cases.outcome(bytes(changed), tokens, model)
        assert result is not None, f"bit {bit}: one bit never costs the whole stream"
        damage, notes = result
        if inside[bit // 8] < 0:
            assert (len(damage), len(notes)) == (0, 1), f"bit {bit} lies in a part that is there twice"
        else:
            assert [part.segment for part in damage] == [inside[bit // 8]], f"bit {bit} costs its own segment"
            start, end, _ = segments[inside[bit // 8]]
            assert (damage[0].first_byte, damage[0].end_byte) == (start, end)


@pytest.mark.parametrize("kind", ["raw", "scales", "exact"])
def test_a_stream_cut_anywhere_keeps_its_whole_segments(kind):
    tokens, model, data = broken_kind(kind)
    ends = [end for _, end, _ in inspect(data).segments]
    for length in range(len(data)):
        result = cases.outcome(data[:length], tokens, model)
        whole = sum(end <= length for end in ends)
        if whole == 0:
            assert result is None
            continue
        assert result is not None
        damage, notes = result
        assert len(notes) == 1
        assert sum(part.num_segments for part in damage) == len(ends) - whole


@pytest.mark.parametrize("extra", [b"\x00", b"junk" * 100, b"\xc5SEG" * 100, b"\x89CBS\r\n\x1a\n" * 20])
def test_what_follows_a_stream_is_reported_and_does_no_harm(extra):
    tokens, _, data = broken_kind("raw")
    assert [len(part) for part in cases.outcome(data + extra, tokens) or ()] == [0, 1]
    twice = cases.outcome(data + data, tokens)
    assert twice is not None
    assert not twice[0]
    # and with the first header gone, the second copy is found by its mark
    damaged = b"\x00" + data[1:] + extra
    assert [len(part) for part in cases.outcome(damaged, tokens) or ()] == [0, 2]


def test_bytes_lost_or_added_within_a_segment_cost_that_segment_alone():
    tokens, _, data = broken_kind("raw")
    start, end, _ = inspect(data).segments[1]
    for at in range(start, end):
        for changed in (data[:at] + data[at + 1 :], data[:at] + b"\x55" + data[at:]):
            result = cases.outcome(changed, tokens)
            assert result is not None
            # a byte in front of a segment's mark is not a part of it
            assert [part.segment for part in result[0]] == ([] if at == start and len(changed) > len(data) else [1])


def test_random_damage():
    rng = np.random.default_rng(0)
    for _ in range(400):
        tokens, model, data = broken_kind(["raw", "scales", "exact"][rng.integers(3)])
        changed = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            a, b = sorted(rng.integers(0, len(changed) + 1, 2))
            match rng.integers(5):
                case 0:
                    changed[a : a + 4] = rng.bytes(4)
                case 1:
                    del changed[a : min(b, a + 30)]
                case 2:
                    changed[a:a] = rng.bytes(int(rng.integers(1, 50)))
                case 3:
                    changed[a:a] = changed[a : min(b, a + 200)]
                case 4:
                    changed[a : min(b, a + 100)] = bytes(min(b, a + 100) - a)
        cases.outcome(bytes(changed), tokens, model)
    for length in (0, 1, 13, 14, 100, 5000):
        with pytest.raises(CorruptInput):
            StreamReader(rng.bytes(length))


def test_segments_of_another_stream_are_noticed():
    ours, theirs = cases.encoded(cases.parallel(150)), cases.encoded(cases.parallel(150, seed=9))
    start, end, _ = inspect(ours).segments[1]
    spliced = ours[:start] + theirs[start:end] + ours[end:]
    damage, _ = cases.outcome(spliced, cases.parallel(150)) or ((), ())
    assert [(part.segment, part.kind) for part in damage] == [(1, "header")]
    # without the footer too: its header is bound to the other stream
    damage, _ = cases.outcome(spliced[:-5], cases.parallel(150)) or ((), ())
    assert [(part.segment, part.kind) for part in damage] == [(1, "missing")]


def test_segments_that_changed_places_are_noticed():
    tokens = cases.parallel(150)
    data = cases.encoded(tokens)
    (a, b, _), (c, d, _), _ = inspect(data).segments
    swapped = data[:a] + data[c:d] + data[a:b] + data[d:]
    result = cases.outcome(swapped, tokens)
    assert result is not None
    assert [part.segment for part in result[0]] == [0, 1]


def test_damage_says_where_and_why():
    tokens = cases.parallel(150)
    data = bytearray(cases.encoded(tokens))
    start, end, _ = inspect(bytes(data)).segments[2]
    data[end - 1] ^= 128
    read = decode_tokens(bytes(data))
    (damage,) = read.damage
    assert (damage.kind, damage.segment, damage.num_segments) == ("payload", 2, 1)
    assert (damage.first_row, damage.num_rows, damage.first_byte, damage.end_byte) == (100, 50, start, end)
    assert (damage.start_s, damage.end_s) == (2.0, 2.993)
    assert str(damage).startswith(f"Segment 2 (2.000 to 2.993 s, bytes {start} to {end}): its payload's checksum")
    assert not read.tokens.to_frames()[100:].any()


def test_lost_segments_of_the_codec_keep_their_places():
    tokens = cases.segmented((10,) * 6 + (4,))
    data = bytearray(cases.encoded(tokens, segment_s=0.4))
    start, _, _ = inspect(bytes(data)).segments[1]
    data[start + SEGMENT_HEADER_BYTES] ^= 1
    read = decode_tokens(bytes(data))
    assert read.tokens.segment_frames == tokens.segment_frames
    assert read.tokens.scales == (*tokens.scales[:2], 0.0, 0.0, *tokens.scales[4:])


def test_a_model_that_computes_otherwise_is_found_out(monkeypatch):
    tokens = cases.parallel(40)
    data = cases.encoded(tokens, cases.exact_model(), segment_s=0.3)

    class Impostor:
        sha256, codebook_sizes = cases.exact_model().sha256, cases.exact_model().codebook_sizes

    real = exact_frames.decode_frames
    other = cases.exact_model(1)
    monkeypatch.setattr(exact_frames, "decode_frames", lambda _, payload, count: real(other, payload, count))
    with StreamReader(data, Impostor()) as reader:
        kinds = [part.kind for part in reader.segments() if isinstance(part, Damage)]
    assert set(kinds) <= {"coder", "intervals"}
    assert len(kinds) == 3

    monkeypatch.setattr(exact_frames, "decode_frames", lambda _, p, n: (real(cases.exact_model(), p, n)[0], 12345))
    with StreamReader(data, Impostor()) as reader:
        assert {part.kind for part in reader.segments() if isinstance(part, Damage)} == {"intervals"}


def test_codes_that_pass_all_but_their_own_checksum():
    tokens = cases.parallel(40)
    data = bytearray(cases.encoded(tokens, segment_s=9.0))
    header = cases.header_of(bytes(data))
    start, end, _ = inspect(bytes(data)).segments[0]
    # another payload with checksums of its own, but the digest of the right codes
    data[start + 44] ^= 1
    data[start + 20 : start + 24] = zlib.crc32(data[start + 44 : end]).to_bytes(4, "little")
    data[start + 40 : start + 44] = zlib.crc32(header.stream_id + data[start : start + 40]).to_bytes(4, "little")
    segment = stream_segment.unpack_segment_header(bytes(data[start : start + 44]), header)
    with pytest.raises(stream_segment.SegmentError, match="do not pass their checksum"):
        stream_segment.decode_segment(header, None, segment, bytes(data[start + 44 : end]))


# --- headers that lie, with checksums that are right


@pytest.mark.parametrize(
    "lie",
    [
        {"num_rows": headers.MAX_ROWS, "num_segments": headers.MAX_ROWS},
        {"num_rows": headers.MAX_ROWS, "num_segments": headers.MAX_ROWS // 50 + 1},
        {"num_rows": 10**9, "num_segments": 10**9, "rows_per_segment": 300_000},
    ],
)
def test_claims_of_billions_cost_nothing(lie):
    data = cases.encoded(cases.parallel(100))
    honest = cases.header_of(data)
    header = replace(honest, **lie)
    block = headers.pack_header(header)
    body = data[len(headers.pack_header(honest)) :]
    tracemalloc.start()
    with pytest.raises(CorruptInput):
        decode_tokens(block)
    with StreamReader(block + body) as reader:
        parts = list(reader.segments())
        assert len(parts) == 3
        assert parts[-1].num_segments == header.num_segments - 2
        read = reader.read()
    assert len(read.tokens.codes[0]) == 100, "what is missing at the end beyond all measure is left out"
    assert read.damage[-1].num_segments == header.num_segments - 2
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_payload_that_claims_gigabytes():
    data = bytearray(cases.encoded(cases.parallel(50)))
    header = cases.header_of(bytes(data))
    start = len(headers.pack_header(header))
    data[start + 16 : start + 20] = (4_000_000_000).to_bytes(4, "little")
    data[start + 40 : start + 44] = zlib.crc32(header.stream_id + data[start : start + 40]).to_bytes(4, "little")
    with pytest.raises(stream_segment.SegmentError, match="cannot hold"):
        stream_segment.unpack_segment_header(bytes(data[start : start + 44]), header)
    with pytest.raises(CorruptInput, match="None of the stream's segments"):
        decode_tokens(bytes(data))


def test_a_header_of_claimed_gigabytes_and_one_of_a_later_version():
    block = bytearray(cases.encoded(cases.parallel(50)))
    claimed = bytes(block[:10]) + (4_000_000_000).to_bytes(4, "little") + bytes(block[14:100])
    with pytest.raises(CorruptInput):
        StreamReader(claimed)
    length = len(headers.pack_header(cases.header_of(bytes(block))))
    block[8] = 2
    block[length - 4 : length] = zlib.crc32(block[: length - 4]).to_bytes(4, "little")
    with pytest.raises(UnsupportedInput, match="version 2"):
        StreamReader(bytes(block))


@pytest.mark.parametrize("place", [14, 15, 16, 24, 26, 30])
@pytest.mark.parametrize("value", [0x80, 0xFF])
def test_headers_with_impossible_fields_are_refused(place, value):
    header = cases.header_of(cases.encoded(cases.parallel(50)))
    block = bytearray(headers.pack_header(header))
    block[place + (3 if place > 16 else 0)] = value
    block[-4:] = zlib.crc32(block[:-4]).to_bytes(4, "little")
    with pytest.raises(CorruptInput, match=r"contradicts itself|not as its fields"):
        headers.unpack_header(bytes(block))


def test_segments_that_contradict_each_other():
    tokens = cases.parallel(150)
    data = bytearray(cases.encoded(tokens))
    header = cases.header_of(bytes(data))
    start, _, _ = inspect(bytes(data)).segments[1]
    data[start + 8 : start + 12] = (60).to_bytes(4, "little")  # begins ten rows late
    data[start + 40 : start + 44] = zlib.crc32(header.stream_id + data[start : start + 40]).to_bytes(4, "little")
    with StreamReader(bytes(data[:-1])) as reader:
        kinds = [(part.segment, part.kind) for part in reader.segments() if isinstance(part, Damage)]
    assert kinds == [(1, "position")]
