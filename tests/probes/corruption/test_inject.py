from typing import Any

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.corruption.inject import BYTE_KINDS, CHUNK_KINDS, KINDS, draw

DATA = bytes(range(1, 251))
CHUNKS = [range(0, 50), range(50, 120), range(120, 250)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutation_is_its_seed_and_its_record(kind: str) -> None:
    first, again, other = (draw(DATA, kind, seed, chunks=CHUNKS, other=DATA[::-1], size=3) for seed in (7, 7, 8))
    assert first == again
    assert first.apply(DATA) == again.apply(DATA) != DATA
    assert kind in CHUNK_KINDS or first != other
    assert all(edit.end <= later.start for edit, later in zip(first.edits, first.edits[1:], strict=False))


def test_bytes_change_where_they_may_and_as_the_kind_says() -> None:
    places = [range(10, 20), range(100, 110)]
    for kind in BYTE_KINDS:
        mutation = draw(DATA, kind, 1, places=places, size=5, where="there")
        damaged = mutation.apply(DATA)
        masks = {i: a ^ b for i, (a, b) in enumerate(zip(DATA, damaged, strict=True)) if a != b}
        assert len(masks) == 5
        assert all(any(i in place for place in places) for i in masks)
        assert mutation.first_byte == min(masks)
        if kind == "low_bit":
            assert set(masks.values()) == {1}
        elif kind == "flip":
            assert all(mask.bit_count() == 1 for mask in masks.values())


def test_a_rate_hits_each_place_by_itself() -> None:
    data = bytes(20_000)
    hits = [len(draw(data, "substitute", seed, rate=0.01).edits) for seed in range(20)]
    assert len(set(hits)) > 5
    assert abs(np.mean(hits) - 200) < 5 * np.sqrt(200 / 20)
    assert draw(data, "flip", 0, rate=0.0).first_byte == -1


def test_runs_and_chunks() -> None:
    at: Any = {"places": [range(100, 101)]}
    assert draw(DATA, "truncate", 0, **at).apply(DATA) == DATA[:100]
    assert draw(DATA, "delete", 0, size=4, **at).apply(DATA) == DATA[:100] + DATA[104:]
    assert draw(DATA, "zero", 0, size=4, **at).apply(DATA) == DATA[:100] + bytes(4) + DATA[104:]
    longer = draw(DATA, "insert", 0, size=4, **at).apply(DATA)
    assert (longer[:100], longer[104:]) == (DATA[:100], DATA[100:])
    burst = draw(DATA, "burst", 0, size=40, **at).apply(DATA)
    assert (burst[:100], burst[140:], len(burst)) == (DATA[:100], DATA[140:], len(DATA))
    assert draw(DATA, "splice", 0, other=bytes(500), **at).apply(DATA) == DATA[:100] + bytes(300)
    parts = [DATA[chunk.start : chunk.stop] for chunk in CHUNKS]
    kept = {draw(DATA, "lose", seed, chunks=CHUNKS).apply(DATA) for seed in range(20)}
    assert kept == {b"".join(parts[:i] + parts[i + 1 :]) for i in range(3)}
    swapped = {draw(DATA, "swap", seed, chunks=CHUNKS).apply(DATA) for seed in range(20)}
    assert swapped == {parts[1] + parts[0] + parts[2], parts[0] + parts[2] + parts[1]}
    twice = {draw(DATA, "repeat", seed, chunks=CHUNKS).apply(DATA) for seed in range(20)}
    assert twice == {b"".join([*parts[: i + 1], *parts[i:]]) for i in range(3)}


def test_refusals() -> None:
    with pytest.raises(UnsupportedInput, match="no mutation 'fold'"):
        draw(DATA, "fold", 0)
    with pytest.raises(UnsupportedInput, match="no bytes to hit in 'length'"):
        draw(DATA, "flip", 0, places=[range(5, 5)], where="length")
    with pytest.raises(UnsupportedInput, match="two chunks or more; received 1"):
        draw(DATA, "swap", 0, chunks=CHUNKS[:1])
