"""Which packets a network loses, seeded."""

import numpy as np

from codecbook.errors import UnsupportedInput


def independent(num_packets: int, loss_rate: float, seed: int = 0) -> np.ndarray:
    """Return which packets are lost, bool ``[P]``, each with the same probability from 0 to 1."""
    _check_share("loss_rate", loss_rate)
    return np.random.default_rng(seed).random(num_packets) < loss_rate


def gilbert_elliott(num_packets: int, loss_rate: float, mean_burst_packets: float, seed: int = 0) -> np.ndarray:
    """Return which packets are lost, bool ``[P]``, on a channel that changes between a good and a bad state.

    A Markov chain of two states: it stays in the bad one, in which every packet is lost, for `mean_burst_packets` on
    average; the share of time spent in it is `loss_rate` (the "simple" Gilbert model).

    Source: Gilbert, Bell System Technical Journal 39(5), 1960; Elliott, the same 42(5), 1963.

    Raises UnsupportedInput: a rate that is no share, or one that such bursts cannot reach.
    """
    _check_share("loss_rate", loss_rate)
    if not 1 <= mean_burst_packets < np.inf:
        raise UnsupportedInput(f"mean_burst_packets={mean_burst_packets}; give 1 or more.")
    leave = 1 / mean_burst_packets if loss_rate < 1 else 0.0
    enter = leave * loss_rate / (1 - loss_rate) if loss_rate < 1 else 1.0
    if enter > 1:
        raise UnsupportedInput(
            f"Bursts of {mean_burst_packets:g} lose {1 / (1 + leave):.3f} at most, not {loss_rate:.3f}; lower the rate."
        )
    random = np.random.default_rng(seed)
    is_bad, lost = bool(random.random() < loss_rate), []
    for _, change in random.random((num_packets, 2)).tolist():  # the first of each pair is what a good state would lose
        lost.append(is_bad)
        is_bad ^= change < (leave if is_bad else enter)
    return np.array(lost, dtype=bool)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UnsupportedInput(f"{name}={value} is no share; give a number from 0 to 1.")
