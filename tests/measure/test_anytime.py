"""Under optional stopping: errors at most as often as stated, and a fixed-n p-value, planted, fails the same check."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from codecbook.book.labels import ASSETS
from codecbook.errors import UnsupportedInput
from codecbook.measure.anytime import e_values, evidence, mean_sequence

ALPHA = 0.05
LISTENERS, TRIALS = 4000, 100
# a rate of 0.05 is seen below this in all but one of a thousand simulations of so many listeners
TOLERATED = binom.ppf(0.999, LISTENERS, ALPHA) / LISTENERS


def e_process_p(correct: np.ndarray) -> np.ndarray:
    return 1 / np.maximum(1, np.maximum.accumulate(e_values(correct), axis=-1))


def binomial_p(correct: np.ndarray) -> np.ndarray:
    """The planted one: valid after a number of trials that was fixed before."""
    return binom.sf(np.cumsum(correct, axis=-1) - 1, np.arange(1, correct.shape[-1] + 1), 0.5)


def share_of_false_alarms(p_values) -> float:
    """Let listeners guess, look at p after each trial, and stop at the best moment."""
    guesses = np.random.default_rng(0).integers(0, 2, (LISTENERS, TRIALS))
    return float((p_values(guesses).min(axis=-1) <= ALPHA).mean())


def test_who_guesses_and_stops_at_the_best_moment_is_rarely_believed():
    assert share_of_false_alarms(e_process_p) <= TOLERATED
    assert share_of_false_alarms(binomial_p) > 3 * ALPHA


def test_e_values_are_the_integral_that_they_stand_for():
    for answers in ([1], [0], [1, 1, 0, 1], [1] * 7 + [0] * 3, [0] * 20):
        n, k = len(answers), sum(answers)
        expected = 2 * quad(lambda s, k=k, n=n: s**k * (1 - s) ** (n - k), 0.5, 1)[0] * 2**n
        assert e_values(np.array(answers))[-1] == pytest.approx(expected, rel=1e-9)
    assert e_values(np.ones(7))[-1] > 20 > e_values(np.ones(6))[-1], "seven in a row are needed"


def test_shares_are_covered_at_all_times():
    rng = np.random.default_rng(1)
    for share in (0.5, 0.9):
        missed = 0
        for _ in range(300):
            found = evidence(rng.random(60) < share).share
            missed += not found.low <= share <= found.high  # ends never widen, so the last interval tells of all times
        assert missed <= binom.ppf(0.999, 300, ALPHA)


def draws(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, float]:
    """Differences of scores between -100 and 100, and their mean."""
    if kind == "skewed":
        return 100 * rng.beta(0.5, 4, 50), 100 / 9
    if kind == "two values":
        return np.where(rng.random(50) < 0.3, 100.0, -100.0), -40.0
    return np.clip(rng.normal(0, 15, 50), -100, 100), 0.0


@pytest.mark.parametrize("kind", ["skewed", "two values", "bell"])
def test_means_are_covered_at_all_times(kind):
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(300):
        values, mean = draws(rng, kind)
        found = mean_sequence(values, -100, 100)
        missed += not found.low <= mean <= found.high
    assert missed <= binom.ppf(0.999, 300, ALPHA)


def test_intervals_become_narrow():
    values = np.random.default_rng(3).normal(30, 12, 40)
    few, many = mean_sequence(values[:5], -100, 100), mean_sequence(values, -100, 100)
    assert many.low > 0
    assert many.high - many.low < few.high - few.low
    assert mean_sequence([], -100, 100).low == -100
    assert evidence([]).p == 1


def test_values_out_of_bounds_are_refused():
    for values in ([101.0], [float("nan")], [[1.0]]):
        with pytest.raises(UnsupportedInput, match="must be -100 to 100"):
            mean_sequence(values, -100, 100)
    with pytest.raises(UnsupportedInput, match="one per trial"):
        evidence(np.ones((2, 2)))


def test_a_page_computes_the_same(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no node here; install nodejs")
    rng = np.random.default_rng(4)
    answers = [(rng.random(n) < 0.8).tolist() for n in (1, 2, 9, 40)]
    values = [np.clip(rng.normal(10, 30, n), -100, 100).tolist() for n in (1, 3, 25)]
    module = tmp_path / "anytime.mjs"
    module.write_text((ASSETS / "anytime.js").read_text())
    program = (
        f"import {{ evidence, meanSequence }} from {json.dumps(module.as_uri())};\n"
        f"console.log(JSON.stringify([{json.dumps(answers)}.map(evidence),"
        f"{json.dumps(values)}.map((v) => meanSequence(v, -100, 100))]));"
    )
    done = subprocess.run(["node", "--input-type=module", "-e", program], capture_output=True, text=True, check=True)
    theirs_of_answers, theirs_of_values = json.loads(done.stdout)
    for given, theirs in zip(answers, theirs_of_answers, strict=True):
        ours = evidence(given)
        # a different order of additions; ends lie on one grid, and are equal but for rounding
        assert [theirs["e"], theirs["p"], theirs["share"]["low"], theirs["share"]["high"]] == pytest.approx(
            [ours.e_value, ours.p, ours.share.low, ours.share.high], rel=1e-9, abs=1e-12
        )
    for given, theirs in zip(values, theirs_of_values, strict=True):
        ours = mean_sequence(given, -100, 100)
        assert [theirs["mean"], theirs["low"], theirs["high"]] == pytest.approx(
            [ours.mean, ours.low, ours.high], rel=1e-9, abs=1e-9
        )
