"""Whatever happens to a stream's bytes, every code that comes out is right, and every one that does not is reported."""

import functools
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import stream_cases as cases
import stream_v1

from codecbook.coding import inspect
from codecbook.coding.exact import frames as exact_frames
from codecbook.coding.stream import StreamReader, decode_tokens, version2
from codecbook.coding.stream import header as headers
from codecbook.coding.stream.locate import unpack_header
from codecbook.coding.stream.segment import Damage, SegmentError
from codecbook.coding.stream.version2 import pack_header
from codecbook.errors import CorruptInput, UnsupportedInput


@functools.cache
def broken_kind(name):
    tokens, model = {
        "raw": (cases.parallel(100, sizes=(16, 1000)), None),
        "scales": (cases.segmented((10, 10, 7)), None),
        "exact": (cases.parallel(40), cases.exact_model()),
    }[name]
    return tokens, model, cases.encoded(tokens, model, segment_s=0.6 if name == "raw" else 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "scales", "exact"])
def test_every_single_bit_matters_or_is_there_twice(kind):
    tokens, model, data = broken_kind(kind)
    cases.check_every_bit(data, tokens, model)


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


@pytest.mark.parametrize("extra", [b"\x00", b"junk" * 100, b"\xc5S" * 200, b"\x89CBS\r\n\x1a\n" * 20])
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
    assert [(part.segment, part.kind) for part in damage] == [(1, "missing")]
    # without the footer too: its header is bound to the other stream
    damage, _ = cases.outcome(spliced[:-5], cases.parallel(150)) or ((), ())
    assert [(part.segment, part.kind) for part in damage] == [(1, "missing")]


def test_segments_that_changed_places_are_noticed_and_cost_nothing():
    tokens = cases.parallel(150)
    data = cases.encoded(tokens)
    (a, b, _), (c, d, _), _ = inspect(data).segments
    swapped = data[:a] + data[c:d] + data[a:b] + data[d:]
    result = cases.outcome(swapped, tokens)
    assert result is not None
    assert not result[0]
    assert "segments are not in the order" in result[1][0]


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


def test_what_is_there_of_raw_codes_is_salvaged_on_demand():
    tokens = cases.parallel(150)
    data = bytearray(cases.encoded(tokens))
    _, end, _ = inspect(bytes(data)).segments[1]
    data[end - 1] ^= 16
    with StreamReader(bytes(data)) as reader:
        plain, read = reader.read(), reader.read(salvage=True)
    assert plain.damage == read.damage
    assert (plain.lost.sum(), read.lost.sum()) == (50, 0)
    assert not plain.tokens.to_frames()[50:100].any()
    wrong = read.tokens.to_frames() != tokens.to_frames()
    assert wrong.sum() == 1
    assert wrong[99].any()
    # of a segment that is cut off, the rows that are there
    with StreamReader(bytes(data[: end - 20])) as reader:
        (_, damage, _) = reader.segments()
        rows = damage.salvaged
        assert 30 < len(rows) < 50
        np.testing.assert_array_equal(rows, tokens.to_frames()[50 : 50 + len(rows)])
    # what a language model has coded is lost from the damage on, and not salvaged
    with StreamReader(
        bytes(cases.encoded(cases.parallel(40), cases.exact_model())[:-150]), cases.exact_model()
    ) as reader:
        assert all(part.salvaged is None for part in reader.segments() if isinstance(part, Damage))


def test_lost_segments_of_the_codec_keep_their_places():
    tokens = cases.segmented((10,) * 6 + (4,))
    data = bytearray(cases.encoded(tokens, segment_s=0.4))
    _, end, _ = inspect(bytes(data)).segments[1]
    data[end - 1] ^= 1
    read = decode_tokens(bytes(data))
    assert read.tokens.segment_frames == tokens.segment_frames
    assert read.tokens.scales == (*tokens.scales[:2], 0.0, 0.0, *tokens.scales[4:])


def test_a_model_that_computes_otherwise_is_found_out(monkeypatch):
    tokens = cases.parallel(40)
    data = cases.encoded(tokens, cases.exact_model(), segment_s=0.3)

    class Impostor:
        sha256, codebook_sizes = cases.exact_model().sha256, cases.exact_model().codebook_sizes
        config = cases.exact_model().config

    real = exact_frames.decode_many
    other = cases.exact_model(1)
    monkeypatch.setattr(exact_frames, "decode_many", lambda _, *given: real(other, *given))
    with StreamReader(data, Impostor()) as reader:
        kinds = [part.kind for part in reader.segments() if isinstance(part, Damage)]
    assert set(kinds) <= {"coder", "intervals"}
    assert len(kinds) == 3

    def with_other_hash(_, *given):
        return [(rows, 12345) for rows, _ in real(cases.exact_model(), *given)]

    monkeypatch.setattr(exact_frames, "decode_many", with_other_hash)
    with StreamReader(data, Impostor()) as reader:
        assert {part.kind for part in reader.segments() if isinstance(part, Damage)} == {"intervals"}


def with_payload(data, change, number=0, **fields):
    """Change the payload of a segment, or fields of its header, and compute the checksums of both anew."""
    header = cases.header_of(bytes(data))
    start, end, _ = inspect(bytes(data)).segments[number]
    found = version2.unpack_head(bytes(data[start:end]), header, start)
    payload = bytearray(data[start + found.head_bytes : end])
    change(payload)
    found = replace(found, **fields)
    numbers = (found.index, found.num_rows, found.first_row, found.payload_bytes)
    head = version2._pack_head(header, version2.SEGMENT_MARK, numbers, found.check, payload)
    return bytes(data[:start]) + head + bytes(payload) + bytes(data[end:])


def test_codes_that_pass_all_but_their_own_checksum():
    data = cases.encoded(cases.parallel(40), segment_s=9.0)

    def flip(payload):
        payload[0] ^= 1

    with StreamReader(with_payload(data, flip)) as reader:
        (part,) = reader.segments()
    assert part.kind == "tokens"
    assert "do not pass their checksum" in part.reason


# --- headers that lie, with checksums that are right


@pytest.mark.parametrize(
    "lie",
    [
        {"num_rows": headers.MAX_ROWS, "num_segments": headers.MAX_ROWS},
        {"num_rows": headers.MAX_ROWS, "num_segments": headers.MAX_ROWS // 50 + 1},
        {"num_rows": 10**9, "num_segments": 10**9},
    ],
)
def test_claims_of_billions_cost_nothing(lie):
    data = cases.encoded(cases.parallel(100))
    honest = cases.header_of(data)
    header = replace(honest, **lie)
    block = pack_header(header)
    body = data[len(pack_header(honest)) :]
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
    data = with_payload(cases.encoded(cases.parallel(50)), lambda payload: None, payload_bytes=4_000_000_000)
    with StreamReader(data) as reader:
        (part,) = reader.segments()
    assert (part.kind, part.num_segments) == ("missing", 1)
    with pytest.raises(CorruptInput, match="No segment can be decoded"):
        decode_tokens(data)
    header = cases.header_of(cases.encoded(cases.parallel(50)))
    head = version2._pack_head(header, version2.SEGMENT_MARK, (0, 50, 0, 4_000_000_000), bytes(8), b"")
    with pytest.raises(SegmentError, match="cannot hold"):
        version2.unpack_head(head, header, 0)


def test_a_header_of_claimed_gigabytes_and_one_of_a_later_version():
    block = bytearray(cases.encoded(cases.parallel(50)))
    claimed = bytes(block[:10]) + (4_000_000_000).to_bytes(4, "little") + bytes(block[14:100])
    with pytest.raises(CorruptInput):
        StreamReader(claimed)
    length = len(pack_header(cases.header_of(bytes(block))))
    block[8] = 3
    block[length - 4 : length] = zlib.crc32(block[: length - 4]).to_bytes(4, "little")
    with pytest.raises(UnsupportedInput, match="version 3; 1 to 2 are read"):
        StreamReader(bytes(block))


@pytest.mark.parametrize("version", [1, 2])
def test_headers_with_impossible_fields_are_refused(version):
    header = cases.header_of(cases.encoded(cases.parallel(50)))
    block = pack_header(header) if version == 2 else stream_v1.pack_header(stream_v1.header_of(header))
    rng, refused = np.random.default_rng(0), []
    for place in range(14, len(block) - 4):
        for value in (0x80, 0xFF, int(rng.integers(256))):
            changed = bytearray(block)
            changed[place] = value
            changed[-4:] = zlib.crc32(changed[:-4]).to_bytes(4, "little")
            try:
                unpack_header(bytes(changed))
            except CorruptInput as error:
                refused.append(str(error))
    assert all("contradicts itself" in reason or "not as its fields" in reason for reason in refused)
    assert len(refused) > len(block) - 18, "of three changes of a byte, one is refused on average"


def test_segments_that_contradict_each_other():
    tokens = cases.parallel(150)
    data = cases.encoded(tokens)
    data = with_payload(data, lambda payload: None, 1, first_row=60)  # begins ten rows late
    with StreamReader(bytes(data[:-1])) as reader:
        kinds = [(part.segment, part.kind) for part in reader.segments() if isinstance(part, Damage)]
    assert kinds == [(1, "position")]
