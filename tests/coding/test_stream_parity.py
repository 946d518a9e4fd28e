"""Lost segments are restored from parity, exactly, up to as many as there is parity for; more are reported."""

from itertools import combinations

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding import inspect, verify
from codecbook.coding.stream import StreamReader, decode_tokens, encode_tokens
from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.parity import group_of, parity_of, restore
from codecbook.coding.stream.segment import Segment
from codecbook.coding.stream.version2 import pack_parity
from codecbook.errors import UnsupportedInput


def places_of(data):
    """Return (is_parity, number, offset, end) of all segments, as they lie in the stream."""
    with StreamReader(data) as reader:
        located = reader._located
    found = [(False, segment.index, segment.offset, segment.end) for segment in located.in_place]
    found += [(True, number, head.offset, head.end) for number, head in located.parities.items()]
    return sorted(found, key=lambda entry: entry[2])


def without(data, entries):
    """Take segments out of a stream."""
    for _, _, start, end in sorted(entries, key=lambda entry: -entry[2]):
        data = data[:start] + data[end:]
    return data


def damaged(data, entries, at=-1):
    """Change a byte of each of these segments: the last one, or the first of its mark."""
    changed = bytearray(data)
    for _, _, start, end in entries:
        changed[end - 1 if at < 0 else start + at] ^= 0x41
    return bytes(changed)


TOKENS = cases.parallel(400, sizes=(16, 1000))
WAYS = {"payload": damaged, "header": lambda data, entries: damaged(data, entries, 3), "gone": without}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parity", [Parity(10, 1), Parity(5, 2), Parity(4, 1, 3), Parity(20, 3)])
def test_as_many_as_there_is_parity_for_are_restored(parity, way):
    data = encode_tokens(TOKENS, segment_s=0.4, parity=parity)  # 20 segments
    places = places_of(data)
    rng = np.random.default_rng(0)
    groups: dict[int, list] = {}
    for entry in places:
        is_parity, number = entry[:2]
        row, group = divmod(number, parity.groups)
        size = parity.count * parity.groups
        key = (row // parity.parity, group) if is_parity else (number // size, number % parity.groups)
        groups.setdefault(key, []).append(entry)
    for members in groups.values():
        for lost in [members[: parity.parity], *(rng.choice(len(members), parity.parity, False) for _ in range(4))]:
            chosen = [members[i] for i in lost] if isinstance(lost, np.ndarray) else lost
            read = decode_tokens(WAYS[way](data, chosen))
            assert read.tokens == TOKENS
            assert not read.damage
            restored = [note for note in read.notes if "was restored from parity" in note]
            assert len(restored) == sum(not is_parity for is_parity, *_ in chosen)
        if len(members) > parity.parity + 1:
            chosen = [entry for entry in members if not entry[0]][: parity.parity + 1]
            assert sum(part.num_segments for part in decode_tokens(WAYS[way](data, chosen)).damage) == len(chosen)


def test_a_burst_of_three_costs_nothing_with_three_groups():
    data = encode_tokens(TOKENS, segment_s=0.2, parity=Parity(10, 1, 3))
    places = places_of(data)
    for first in range(len(places) - 2):
        for way in WAYS.values():
            read = decode_tokens(way(data, places[first : first + 3]))
            assert read.tokens == TOKENS
            assert not read.damage


def test_damage_that_decoding_finds_is_restored_in_every_way_of_reading():
    data = encode_tokens(TOKENS, segment_s=0.4, parity=Parity(10, 1))
    (entry,) = [entry for entry in places_of(data) if entry[:2] == (False, 4)]
    changed = damaged(data, [entry])
    assert verify(changed).damage == ()
    assert "Segment 4 was lost or damaged, and was restored" in verify(changed).notes[0]
    with StreamReader(changed) as reader:
        assert reader.read(1.7, 1.8).tokens == decode_read(data, 1.7, 1.8)
        again = [part.num_rows for part in reader.segments() if isinstance(part, Segment)]
        assert again == [20] * 20
        assert len(reader.notes) == 1, "what was restored once is not reported twice"


def decode_read(data, start_s, end_s):
    with StreamReader(data) as reader:
        return reader.read(start_s, end_s).tokens


def test_lost_segments_and_a_lost_index():
    data = encode_tokens(TOKENS, segment_s=0.4, parity=Parity(10, 1))
    places = places_of(data)
    for entry in places:
        read = decode_tokens(without(data, [entry])[:-1])
        assert read.tokens == TOKENS


def test_a_parity_that_is_cut_off_restores_nothing():
    data = encode_tokens(TOKENS, segment_s=4.0, parity=Parity(2, 1))
    (first, second, parity) = places_of(data)
    header = inspect(data).header
    short = pack_parity(header, 0, [end - start for *_, start, end in (first, second)], data[-40:])
    cut = data[: second[2]] + short  # its checksums are right, and most of its payload is not there
    assert [part.segment for part in decode_tokens(cut).damage] == [1]
    assert parity[0]


def test_random_damage_never_makes_a_wrong_code():
    rng = np.random.default_rng(1)
    data = encode_tokens(TOKENS, segment_s=0.4, parity=Parity(5, 2, 2))
    restored = 0
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 12)):
            at = int(rng.integers(len(changed)))
            changed[at : at + int(rng.integers(1, 30))] = rng.bytes(int(rng.integers(0, 30)))
        result = cases.outcome(bytes(changed), TOKENS)
        restored += result is not None and any("restored" in note for note in result[1])
    assert restored > 100


@pytest.mark.parametrize("kind", ["segments and scales", "tree", "no codes", "one code"])
def test_every_kind_of_tokens(kind):
    tokens = cases.KINDS[kind]
    data = encode_tokens(tokens, segment_s=0.4, parity=Parity(3, 1))
    assert decode_tokens(data).tokens == tokens
    for entry in places_of(data):
        assert decode_tokens(damaged(data, [entry])).tokens == tokens


def test_a_stream_has_each_number_once_and_groups_hold_each_segment_once():
    for parity in (Parity(3, 2, 2), Parity(1, 1), Parity(10, 1, 4)):
        data = encode_tokens(TOKENS, segment_s=0.3, parity=parity)
        header, order = inspect(data).header, [entry[:2] for entry in places_of(data)]
        blocks = -(-header.num_segments // (parity.count * parity.groups))
        assert len(set(order)) == len(order) <= header.num_segments + blocks * parity.parity * parity.groups
        held = [n for is_parity, number in order if is_parity for n in group_of(header, number)]
        assert sorted(held) == sorted(list(range(header.num_segments)) * parity.parity)


def test_every_pair_of_a_small_code():
    rng = np.random.default_rng(0)
    members = [rng.bytes(int(count)) for count in rng.integers(1, 9, 6)]
    parities = {p: parity_of(members, p) for p in range(2)}
    for lost in combinations(range(8), 2):
        kept = {i: member for i, member in enumerate(members) if i not in lost}
        rest = {p: payload for p, payload in parities.items() if 6 + p not in lost}
        found = restore(kept, rest, list(map(len, members)))
        assert found == {i: members[i] for i in lost if i < 6}


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (250, 7, 1), (1, 1, 5000)])
def test_impossible_parities(numbers):
    with pytest.raises(UnsupportedInput, match="parity segments for each"):
        Parity(*numbers)
