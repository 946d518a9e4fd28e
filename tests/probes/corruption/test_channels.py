"""Loss patterns have the rates and burst lengths that theory gives them; settings are checked."""

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.corruption import channels

N = 200_000


def run_lengths(lost: np.ndarray) -> np.ndarray:
    """Return the lengths of all runs of True that have both ends."""
    edges = np.diff(lost.astype(int))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    ends = ends[ends > starts[0]]
    return ends - starts[: len(ends)]


def test_independent_loss_is_binomial_and_a_prefix_of_longer_patterns():
    lost = channels.independent(N, 0.1, seed=1)
    # 5 standard deviations of a binomial share
    assert abs(lost.mean() - 0.1) < 5 * np.sqrt(0.1 * 0.9 / N)
    assert abs(run_lengths(lost).mean() - 1 / 0.9) < 0.02
    assert np.array_equal(lost[:1000], channels.independent(1000, 0.1, seed=1))
    assert not np.array_equal(lost[:1000], channels.independent(1000, 0.1, seed=2))


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 1.0), (0.1, 3.0), (0.3, 2.5)])
def test_gilbert_bursts_are_geometric(rate: float, burst: float):
    lost = channels.gilbert_elliott(N, rate, burst, seed=4)
    lengths = run_lengths(lost)
    assert abs(lost.mean() - rate) < 0.01
    assert abs(lengths.mean() - burst) < 0.06
    assert abs(lengths.std() - np.sqrt(burst * (burst - 1))) < 0.1


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_none_and_all(rate: float):
    for lost in (channels.independent(9, rate), channels.gilbert_elliott(9, rate, 3)):
        assert (lost == bool(rate)).all()
        assert len(lost) == 9
    assert len(channels.gilbert_elliott(0, 0.1, 2)) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: channels.independent(9, 1.5), "loss_rate=1.5"),
        (lambda: channels.independent(9, float("nan")), "loss_rate=nan"),
        (lambda: channels.gilbert_elliott(9, 0.1, 0.5), "mean_burst_packets=0.5"),
        (lambda: channels.gilbert_elliott(9, 0.9, 1), "0.500"),
    ],
)
def test_settings_out_of_range_are_refused(call, said: str):
    with pytest.raises(UnsupportedInput, match=said):
        call()
