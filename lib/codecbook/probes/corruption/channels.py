"""Which packets a network loses, seeded."""

import numpy as np

from codecbook.errors import UnsupportedInput


def independent(num_packets: int, loss_rate: float, seed: int = 0) -> np.ndarray:
    """Return which packets are lost, bool ``[P]``, each with the same probability from 0 to 1."""
    _check_share("loss_rate", loss_rate)
    return np.random.default_rng(seed).random(num_packets) < loss_rate


def gilbert_elliott(
    num_packets: int,
    loss_rate: float,
    mean_burst_packets: float,
    seed: int = 0,
    good_loss: float = 0.0,
    bad_loss: float = 1.0,
) -> np.ndarray:
    """Return which packets are lost, bool ``[P]``, on a channel that changes between a good and a bad state.

    A Markov chain of two states: it stays in the bad one for `mean_burst_packets` on average, and loses packets with
    probability `bad_loss` there and `good_loss` else; the share of time spent in it follows from `loss_rate`. With the
    default probabilities the bad state is a burst of lost packets (the "simple" Gilbert model).

    Source: Gilbert, Bell System Technical Journal 39(5), 1960; Elliott, the same 42(5), 1963.

    Raises UnsupportedInput: a rate outside of what the two states lose, or one that such bursts cannot reach.
    """
    for name, value in (("loss_rate", loss_rate), ("good_loss", good_loss), ("bad_loss", bad_loss)):
        _check_share(name, value)
    if not good_loss < bad_loss or not good_loss <= loss_rate <= bad_loss:
        raise UnsupportedInput(f"loss_rate={loss_rate} must be between good_loss={good_loss} and bad_loss={bad_loss}.")
    if not 1 <= mean_burst_packets < np.inf:
        raise UnsupportedInput(f"mean_burst_packets={mean_burst_packets}; give 1 or more.")
    bad_share = (loss_rate - good_loss) / (bad_loss - good_loss)
    leave = 1 / mean_burst_packets if bad_share < 1 else 0.0
    enter = leave * bad_share / (1 - bad_share) if bad_share < 1 else 1.0
    if enter > 1:
        raise UnsupportedInput(
            f"Bursts of {mean_burst_packets:g} lose {1 / (1 + leave):.3f} at most, not {bad_share:.3f}; lower the rate."
        )
    random = np.random.default_rng(seed)
    is_bad, lost = bool(random.random() < bad_share), []
    for lose, change in random.random((num_packets, 2)).tolist():
        lost.append(lose < (bad_loss if is_bad else good_loss))
        is_bad ^= change < (leave if is_bad else enter)
    return np.array(lost, dtype=bool)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UnsupportedInput(f"{name}={value} is no share; give a number from 0 to 1.")
