"""Sound for gaps from what lies around them: pitch periods repeated, and codes drawn from a language model."""

from collections.abc import Callable

import numpy as np

from codecbook.lm.exact.spec import UNITS_PER_BIT, ExactLM
from codecbook.lm.exact.stepper import ExactStepper

CONTEXT_ROWS = 48
"""Rows before a gap that a model reads."""
AHEAD_ROWS = 6
"""Rows after it by whose likelihood samples are judged."""
_PITCH_S = (0.0025, 0.0160)  # 62 to 400 Hz


def repeat_pitch(before: np.ndarray, after: np.ndarray, length: int, sample_rate_hz: int) -> np.ndarray:
    """Return samples ``[C, length]`` for a gap: its two ends' last pitch periods, one fading into the other.

    As G.711 Appendix I does with the past alone. `before` and `after`, float32 ``[C, S]``, are what lies around it; of
    one that is too short the other is taken alone, and of two there are zeros.
    """
    sides = [_periods(before, length, sample_rate_hz), _periods(after[:, ::-1], length, sample_rate_hz)[:, ::-1]]
    there = [side for side in sides if side.shape[1] == length]
    if not there:
        return np.zeros((before.shape[0], length), dtype=np.float32)
    share = (np.arange(length) + 0.5) / length
    return (there[0] * (1 - share) + there[-1] * share).astype(np.float32)


def _periods(wave: np.ndarray, length: int, sample_rate_hz: int) -> np.ndarray:
    """Continue a wave by its last period, found by normalised autocorrelation; nothing where it is too short."""
    least, most = (round(time_s * sample_rate_hz) for time_s in _PITCH_S)
    if wave.shape[1] < 3 * most:
        return wave[:, :0]
    mono = wave[:, -3 * most :].mean(axis=0, dtype=np.float64)
    tail = mono[-2 * most :]
    scores = [
        float(tail @ part) / (float(np.sqrt((tail @ tail) * (part @ part))) + 1e-12)
        for part in (mono[most - lag : -lag] for lag in range(least, most + 1))
    ]
    lag = least + int(np.argmax(scores))
    overlap = lag // 4
    period = wave[:, -lag:].copy()
    fade = (np.arange(overlap) + 1.0) / (overlap + 1)
    # the end of a period leads to its beginning; the first begins where the wave is
    period[:, -overlap:] = period[:, -overlap:] * (1 - fade) + wave[:, -lag - overlap : -lag] * fade
    repeated = np.tile(period, -(-length // lag))[:, :length]
    overlap = min(overlap, length)
    jump = wave[:, -1:] - wave[:, -lag - 1 : -lag]
    repeated[:, :overlap] += jump * (1 - fade[:overlap])
    return repeated


def draw_rows(
    model: ExactLM, rows: np.ndarray, known: np.ndarray, gap: tuple[int, int], samples: int = 16, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows for a gap from an exact language model, which reads what is before it, and judges what it drew.

    The gap is from a row to another of int64 ``[T, K]``, of which bool ``[T]`` are known. Equal seeds give equal rows.

    Returns int64 ``[N, end - start, K]``, and float64 ``[N]``: the bits of the rows after the gap under each.
    """
    first = start = gap[0]
    stop = end = gap[1]
    limit = model.config.window_frames - (end - start) - AHEAD_ROWS - 1
    while first > 0 and known[first - 1] and start - first < min(CONTEXT_ROWS, limit):
        first -= 1
    while stop < len(rows) and known[stop] and stop - end < AHEAD_ROWS:
        stop += 1
    stepper = ExactStepper(model)
    for row in rows[first:start]:
        stepper.push(row[None])
    stepper.fork(samples)
    rng = np.random.default_rng((seed, start))
    drawn = [_step(model, stepper, samples, lambda _, bits: _draw(bits, rng))[0] for _ in range(end - start)]
    bits = np.zeros(samples)
    for row in rows[end:stop]:
        bits += _step(model, stepper, samples, lambda k, _, row=row: np.full(samples, row[k]))[1]
    return np.stack(drawn, axis=1), bits


def _step(
    model: ExactLM, stepper: ExactStepper, samples: int, choose: Callable[[int, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a row's codes ``[N, K]`` one after the other, and push it; return it and its bits ``[N]``."""
    row, total = np.zeros((samples, 0), dtype=np.int64), np.zeros(samples)
    for k, size in enumerate(model.codebook_sizes):
        logits = stepper.logits(row)[:, :size] / UNITS_PER_BIT
        top = logits.max(axis=1, keepdims=True)
        bits = np.log2(np.exp2(logits - top).sum(axis=1, keepdims=True)) + top - logits
        codes = choose(k, bits)
        total += bits[np.arange(len(bits)), codes]
        row = np.concatenate((row, codes[:, None]), axis=1)
    stepper.push(row)
    return row, total


def _draw(bits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a code for each row of code lengths ``[N, V]``."""
    ends = np.exp2(-bits).cumsum(axis=1)
    return np.minimum((ends < rng.random((len(bits), 1)) * ends[:, -1:]).sum(axis=1), bits.shape[1] - 1)
