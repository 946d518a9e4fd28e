"""Tables and elementary steps, against plain Python and decimal arithmetic."""

import hashlib
import math
from decimal import ROUND_FLOOR, Decimal, localcontext

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.lm.exact import arithmetic


def test_exp2_table_is_the_rounded_power_of_two() -> None:
    table = arithmetic.exp2_table().tolist()
    assert (len(table), table[0], table[256], table[-1]) == (4096, 1 << 16, 1 << 15, 0)
    with localcontext() as context:
        context.prec = 40
        for d, entry in enumerate(table[:-1]):
            power = Decimal(2) ** (Decimal(4096 - d) / 256)
            assert entry == int((power + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def test_exp2_table_never_changes() -> None:
    digest = hashlib.sha256(arithmetic.exp2_table().astype("<u4").tobytes()).hexdigest()
    assert digest == "8fc0f2b0e33313540646cbc9b94b37edfccb5ffb59cc0f69ee2808d6ac00b4d2"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, (1 << 53) - 1) | st.integers(0, 94_906_265).map(lambda root: root * root))
def test_integer_square_root(value: int) -> None:
    near = [max(0, value - 1), value, min(value + 1, (1 << 53) - 1)]
    assert arithmetic.integer_sqrt(np.array(near)).tolist() == [math.isqrt(v) for v in near]


@settings(max_examples=100, deadline=None)
@given(st.integers(-(1 << 24) + 1, (1 << 24) - 1), st.integers(-(1 << 20) + 1, (1 << 20) - 1), st.integers(1, 44))
def test_requantisation_rounds_halves_up(value: int, multiplier: int, shift: int) -> None:
    result = arithmetic.requantise(np.array([value]), np.array([multiplier]), shift)
    assert result.tolist() == [(2 * value * multiplier + 2**shift) // 2 ** (shift + 1)]


def test_norm_follows_the_text() -> None:
    rng = np.random.default_rng(0)
    for scale in (1, 1000, arithmetic.STREAM_MAX):
        stream = rng.integers(-scale, scale + 1, 24)
        gain = rng.integers(-(1 << 19), 1 << 19, 24)
        root = math.isqrt(4096 + sum(x * x for x in stream.tolist()))
        expected = []
        for x, g in zip(stream.tolist(), gain.tolist(), strict=True):
            unit = (x * (2**40 // root) + 2**19) >> 20
            expected.append(min(max((unit * g + 2**27) >> 28, -127), 127))
        assert arithmetic.norm(stream, gain, 28, 4096).tolist() == expected


def test_norm_of_nothing_is_nothing() -> None:
    zeros = np.zeros(8, dtype=np.int64)
    assert not arithmetic.norm(zeros, np.full(8, 1 << 19), 30, 1).any()


def test_attention_shares_sum_to_nearly_one() -> None:
    rng = np.random.default_rng(1)
    for spread in (1, 500, 100_000):
        scores = rng.integers(-spread, spread, (20, 64))
        shares = arithmetic.attention_shares(scores)
        assert shares.min() >= 0
        assert np.abs(shares.sum(axis=-1) - (1 << 16)).max() <= 32 + 2
        even = 2.0 ** (scores / 256 - scores.max(axis=-1, keepdims=True) / 256)
        # powers have 16 bits and shares too: half a unit each, of the greatest
        assert np.abs(shares / 65536 - even / even.sum(axis=-1, keepdims=True)).max() < 2e-5


def test_rotation_keeps_lengths() -> None:
    angle = np.arange(6) * 0.7
    cosine, sine = (np.rint(f(angle) * (1 << 14)).astype(np.int64) for f in (np.cos, np.sin))
    values = np.random.default_rng(2).integers(-1000, 1000, 12)
    turned = arithmetic.rotate(values, cosine, sine)
    expected = np.hypot(values[:6], values[6:]) / 16
    assert np.abs(np.hypot(turned[:6], turned[6:]) - expected).max() < 1.0  # two roundings to whole numbers
