"""Rates of readings with known bits; and for every claim of the notebook, stand-ins that deserve its failure."""

import math
from typing import Any

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.lm.training.options import Evaluation
from codecbook.measure.rates.bits_per_second import (
    floor_of,
    fuller,
    least_below_raw,
    level_rise,
    model_over_counts,
    orders_differ,
    rate_of,
    saved,
    still_falling,
    utilisation,
)
from codecbook.measure.rates.streams import code_stream
from codecbook.measure.rates.study import COUNTS, MODEL, RAW, Learned
from codecbook.tokens import tokens_from_frames

CLIPS = 12


def reading(model: Any, size: int = 1024, order: str = "parallel", **more: Any) -> Learned:
    """Return the reading of clips of a second each and 100 frames; `model` are bits per token, ``[clips, levels]``."""
    per_token = np.atleast_2d(np.asarray(model, dtype=float))
    clips, levels = per_token.shape
    tokens = {f"c{i:02d}": tokens_from_frames(np.zeros((100, levels), dtype=int), size, 100.0) for i in range(clips)}
    stream = code_stream("c", tokens, order)
    raw = np.full(per_token.shape, 100 * math.log2(size))
    given = {"level_bits": {MODEL: 100 * per_token, COUNTS: 0.95 * raw, RAW: raw}, "trunk_parameters": 1000}
    found = given | {"row_parameters": 1500, "tokens_seen": 140, "passes": 1.0, "evaluations": ()} | more
    return Learned(
        stream=stream, clips=stream.columns.clips, level_tokens=np.full(per_token.shape, 100),
        durations_s=np.ones(clips), distinct_share=1.0, weights_sha256="", **found,
    )  # fmt: skip


def noisy(mean: Any, spread: float = 0.05, seed: int = 0) -> np.ndarray:
    """Return bits per token of `CLIPS` clips around a mean of each level."""
    levels = np.atleast_1d(np.asarray(mean, dtype=float))
    return levels + np.random.default_rng(seed).normal(0, spread, (CLIPS, len(levels)))


UNIFORM = np.full((CLIPS, 4), 10.0)
"""What a model that knows nothing says of codes of 10 bits; shuffled tokens come to the same."""


def without_counts(found: Learned) -> dict[str, np.ndarray]:
    return {MODEL: found.level_bits[MODEL], COUNTS: found.level_bits[RAW], RAW: found.level_bits[RAW]}


def nothing_known(order: str = "parallel") -> Learned:
    return reading(UNIFORM, order=order, level_bits=without_counts(reading(UNIFORM)))


def test_quantities_of_a_case_computed_by_hand() -> None:
    # 2 clips of a second with 100 frames of 2 codes of 10 bits; 6 and 8 bits per token by level, 70 rows seen
    found = rate_of(reading([[6, 8], [6, 8]]), {"c00": "x" * 30, "c01": "y" * 20})
    assert found == pytest.approx(
        {
            "code": MODEL,
            "bits_per_token": 7.0,
            "model_bits_per_token": 7.0,
            "tokens_per_s": 200.0,
            "bits_per_s": 1400.0,
            "bits_per_s_low": 1400.0,
            "bits_per_s_high": 1400.0,
            "capacity_bits_per_s": 2000.0,
            "utilisation": 0.7,
            "bits_per_byte": 2800 / 50,
            "container_bits": 16,
            "information_per_storage": 7 / 16,
            "trunk_parameters": 1000,
            "inference_flops_per_bit": 2 * 1500 / 14,
            "training_flops": 6 * 1500 * 70.0,
            "duration_s": 2.0,
            "clips": 2,
        }
    )


def test_flat_streams_have_the_capacity_of_their_levels() -> None:
    found = [rate_of(reading(noisy([6, 8]), order=order)) for order in ("flat", "parallel")]
    assert found[0]["capacity_bits_per_s"] == found[1]["capacity_bits_per_s"] == 2000
    assert found[0]["container_bits"] == 16


def test_without_transcripts_there_are_no_bits_per_byte() -> None:
    assert math.isnan(rate_of(reading([[6.0], [7.0]]))["bits_per_byte"])
    with pytest.raises(UnsupportedInput, match="no text"):
        rate_of(reading([[6.0], [7.0]]), {"c00": "x"})


def test_one_clip_has_no_interval() -> None:
    found = rate_of(reading([[6.0]]))
    assert math.isnan(found["bits_per_s_low"])
    assert found["bits_per_s"] == 600


def test_clips_without_information_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="some information"):
        rate_of(reading([[0.0], [0.0]]))


@pytest.mark.parametrize(("size", "width"), [(2, 8), (256, 8), (257, 16), (65_536, 16)])
def test_container(size: int, width: int) -> None:
    assert rate_of(reading([[0.5]], size))["container_bits"] == width


def test_a_model_that_is_worse_than_guessing_is_not_quoted() -> None:
    # of codes of 10 bits it says 11.2 at the coarse level, which a good deeper level hides in the sum
    found = reading(noisy([11.2, 6.0]), level_bits=without_counts(reading(noisy([11.2, 6.0]))))
    assert found.shortest == (COUNTS, MODEL)
    assert (found.shortest_bits.sum(axis=0) <= found.raw_level_bits.sum(axis=0)).all()
    assert rate_of(found)["utilisation"] < 1
    assert not least_below_raw(found).above(0)


def test_every_level_is_below_its_own_size() -> None:
    assert least_below_raw(reading(noisy([7, 8, 9, 9.5]))).above(0)
    assert not least_below_raw(nothing_known()).above(0)


def test_a_model_beats_pairs() -> None:
    assert model_over_counts(reading(noisy([7, 8]))).above(0)  # pairs take 9.5
    assert not model_over_counts(nothing_known()).above(0)
    assert not model_over_counts(reading(noisy([9.5, 9.5], spread=0.5))).above(0)


def test_orders_come_to_the_same() -> None:
    parallel = reading(noisy([7, 8]))
    flat = reading(noisy([7.1, 8.05], seed=1), order="flat")
    assert orders_differ([parallel, flat]).below(0.03)
    # a flat model that has not learned which codebook comes next says a bit more of every token
    assert not orders_differ([parallel, reading(noisy([8, 9], seed=1), order="flat")]).below(0.03)


def test_only_the_same_tokens_compare() -> None:
    with pytest.raises(UnsupportedInput, match="of other clips"):
        saved(reading(noisy([7, 8])), reading(noisy([7])))


@pytest.mark.parametrize(
    "stand_in", [UNIFORM, noisy([7, 8, 0, 0], 0.0), noisy([8, 8, 8, 8])], ids=["uniform", "unused levels", "even"]
)
def test_deeper_levels_cost_more(stand_in: np.ndarray) -> None:
    assert level_rise(reading(noisy([7, 7.5, 8, 8.5]))).above(0)
    assert not level_rise(reading(stand_in)).above(0)
    with pytest.raises(UnsupportedInput, match="one level"):
        level_rise(reading(noisy([7])))


def test_a_person_is_harder_to_predict() -> None:
    voice, person = reading(noisy([4.5]), 512), reading(noisy([7, 8]))
    assert fuller([voice], [person])[0] is True
    assert fuller([person], [voice])[0] is False
    assert fuller([voice], [voice])[0] is False
    uniform = reading(np.full((CLIPS, 1), 9.0), 512, level_bits={MODEL: np.full((CLIPS, 1), 900.0)})
    assert fuller([uniform], [nothing_known()])[0] is False
    assert fuller([reading([[4.0]], 512)], [person])[0] is None
    assert utilisation(voice).mean == pytest.approx(0.5, abs=0.01)


def looks(*bits: float) -> list[Evaluation]:
    return [Evaluation(i, (i + 1) / len(bits), 0.0, 0, 0.0, b, (b,)) for i, b in enumerate(bits)]


def test_a_curve_that_falls_is_told_from_one_that_has_ended() -> None:
    ended, falling = looks(9, 8, 7.2, 7.01, 7.0), looks(9, 8.5, 8, 7.5, 7)
    assert still_falling(ended) < 0.02 < still_falling(falling)
    assert still_falling(looks(9, 7, 7.5, 8, 8.5)) == 0  # it rose: the lowest point is the one kept


def test_the_floor_of_a_curve_is_found() -> None:
    shares, durations_s = [0.125, 0.25, 0.5, 1.0], np.ones(30)
    around = np.random.default_rng(0).normal(1, 0.02, 30)
    bits = np.array([100 + 20 * share**-0.5 for share in shares])[:, None] * around
    floor = floor_of(shares, bits, durations_s)
    assert floor.mean == pytest.approx(100, rel=0.03)
    assert floor.low <= floor.mean <= floor.high
    with pytest.raises(UnsupportedInput, match="four"):
        floor_of(shares[:3], bits[:3], durations_s)
