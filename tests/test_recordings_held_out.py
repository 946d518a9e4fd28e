"""Sides of a split: decided by each clip alone, and never empty."""

import doctest

import numpy as np
import pytest

from codecbook import recordings
from codecbook.errors import UnsupportedInput
from codecbook.recordings import content_identity, held_out, is_held_out

NAMES = [f"clip {number}" for number in range(1000)]


def test_the_rule_is_as_its_example_says() -> None:
    assert doctest.testmod(recordings).failed == 0


def test_a_side_is_a_function_of_the_identity_alone() -> None:
    assert is_held_out("caf\u00e9", 0.5) == is_held_out("caf\u00e9".encode(), 0.5)
    apart = held_out(NAMES, 0.1)
    assert apart == {name for name in NAMES if is_held_out(name, 0.1)}
    # binomial: 100 expected, five standard deviations
    assert abs(len(apart) - 100) < 5 * np.sqrt(1000 * 0.1 * 0.9)
    for kept in (NAMES[:500], NAMES[::3], NAMES[700:]):
        assert held_out(kept, 0.1) == apart & set(kept)


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_no_side_is_empty_where_there_are_two(count: int, share: float) -> None:
    for start in range(0, 900, 9):
        names = NAMES[start : start + count]
        apart = held_out([*names, *names], share)
        assert 0 < len(apart) < count
        for name in names:
            rest = [other for other in names if other != name]
            moved = held_out(rest, share) ^ (apart - {name})
            assert len(moved) <= 1, "only the exception's clip gives way"


def test_one_alone_is_not_held_out() -> None:
    assert held_out([], 0.5) == frozenset()
    assert {held_out([name, name], 0.5) for name in NAMES[:20]} == {frozenset()}


def test_content_is_known_by_type_shape_and_values() -> None:
    codes = np.arange(6)
    assert content_identity(codes) == content_identity(codes.astype(codes.dtype.newbyteorder()))
    assert content_identity(codes[::2]) == content_identity(codes[::2].copy())
    others = [codes[:5], codes.reshape(2, 3), codes.reshape(3, 2), codes.astype(np.int32), codes + 1, codes[:0]]
    assert len({content_identity(other) for other in [codes, *others]}) == 7


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_empties_a_side_is_refused(share: float) -> None:
    with pytest.raises(UnsupportedInput, match="above 0 and below 1"):
        held_out(NAMES, share)
    with pytest.raises(UnsupportedInput, match="above 0 and below 1"):
        is_held_out("a", share)


def test_names_that_are_no_utf8_have_a_side() -> None:
    assert is_held_out("caf\udce9.wav", 0.5) == is_held_out(b"caf\xe9.wav", 0.5)
