"""The fault that ``acv=4`` was fixed for, as an exhibit: a count of -1, a CDF that falls, wrong codes, no error.

Before its fix, pull request 95 of encodec nudged ``p * fp_scale`` by 2^-60 before rounding down, and did not clamp it
at 0. A probability of exactly 0 then becomes a count of -1 at every even place: no tuning is needed, the temperature
is 1.0. All that it takes is a code that the model rules out, such as a masked one.
"""

from dataclasses import dataclass

import numpy as np

from codecbook.coding.arithmetic import GridDecoder, GridEncoder
from codecbook.coding.counts import cdf_grid, cdf_grid_unclamped
from codecbook.errors import CodecbookError


@dataclass(frozen=True)
class CountsFault:
    """A message through the faulty CDF, or the fixed one.

    Attributes:
        cdf: int64 ``[T, V]``, of 2^24.
        falling_values: How many values of the CDF lie below the one before.
        rows_falling: How many rows have such a value.
        narrowest: The least width of a code; below 1 it has no interval.
        symbols: How many codes were sent.
        wrong_symbols: How many of those decoded are wrong.
        error: What encoder or decoder raised; empty if nothing.
    """

    cdf: np.ndarray
    falling_values: int
    rows_falling: int
    narrowest: int  # of 2^24
    symbols: int
    wrong_symbols: int
    error: str


def masked_logits(frames: int, codes: int, masked_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits float32 ``[T, V]`` with codes ruled out (-inf), and one possible code per frame, int64 ``[T]``."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2.0, size=(frames, codes)).astype(np.float32)
    logits[random.random(logits.shape) < masked_share] = -np.inf
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    chosen = [random.choice(codes, p=row / row.sum()) for row in weights.astype(np.float64)]
    return logits, np.array(chosen, dtype=np.int64)


def send(logits: np.ndarray, codes: np.ndarray, fixed: bool) -> CountsFault:
    """Encode codes ``[T]`` with the logits ``[T, V]`` at temperature 1.0, decode them, and say what happened.

    Args:
        logits: float32.
        codes: int64.
        fixed: Whether counts are clamped at 0.
    """
    rule = cdf_grid if fixed else cdf_grid_unclamped
    cdf = rule(logits[:, :, None])[:, 0]
    widths = np.diff(cdf, axis=1, prepend=0)
    encoder, sent, error = GridEncoder(check=fixed), codes[None], ""
    decoded = np.full_like(codes, -1)
    try:
        encoder.push_frames(sent, cdf[:, None])
        decoder = GridDecoder(encoder.finish(), check=fixed)
        decoded = decoder.pull_frames(cdf[:, None])[:, 0]
    except CodecbookError as problem:
        error = str(problem)
    falling = widths < 0
    return CountsFault(
        cdf, int(falling.sum()), int(falling.any(axis=1).sum()), int(widths.min()), len(codes),
        int((decoded != codes).sum()), error,
    )  # fmt: skip
