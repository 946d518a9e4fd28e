"""Floats to integers, the same ones on every machine, and the signal that says how large these become."""

from decimal import Decimal, localcontext

import numpy as np

from codecbook.codecs.exact import spec
from codecbook.errors import UnsupportedInput


def rounded(values: np.ndarray) -> np.ndarray:
    """Return the nearest integers, halves to even, int64; values of 2^53 or more raise UnsupportedInput."""
    if np.abs(values).max(initial=0.0) >= spec.SUM_LIMIT:
        raise UnsupportedInput(f"A parameter is {np.abs(values).max():g} units, over 2^53; the weights are degenerate.")
    return np.rint(values).astype(np.int64)


def quantised(weight: np.ndarray, rows: int) -> tuple[np.ndarray, int]:
    """Return weights as int32, and how many of their bits are after the point; `rows` of them are summed each."""
    peak = float(np.abs(weight).max(initial=0.0))
    bits = spec.WEIGHT_MAX.bit_length() - 1 - (int(np.frexp(peak)[1]) if peak else 0)
    while True:
        integers = rounded(weight * 2.0**bits)
        # a quarter of the limit is left for the bias and for what else is added
        if int(np.abs(integers).reshape(rows, -1).sum(axis=1).max()) * spec.ACTIVATION_MAX < spec.SUM_LIMIT // 4:
            return integers.astype(np.int32), bits
        bits -= 1


def fsq_thresholds(count: int, unit: int) -> list[int]:
    """Return from which integer of a unit on a scalar has a digit greater than 0, 1 .. ``count - 2``.

    ``vector_quantize_pytorch`` rounds ``tanh(z + shift) half - offset``; by Mentzer et al. 2023, section 3, with
    ``half = (count - 1) 1.001 / 2``, ``offset`` 1/2 for an even count, and ``shift = artanh(offset / half)``.
    """
    with localcontext() as context:
        context.prec = 40

        def artanh(x: Decimal) -> Decimal:
            return ((1 + x) / (1 - x)).ln() / 2

        half = Decimal(count - 1) * Decimal("1.001") / 2
        offset = Decimal(0) if count % 2 else Decimal("0.5")
        edges = [Decimal(q - count // 2) + Decimal("0.5") + offset for q in range(count - 1)]
        values = [artanh(edge / half) - artanh(offset / half) for edge in edges]
        return [int((value * (1 << unit)).to_integral_value(rounding="ROUND_CEILING")) for value in values]


def random_integers(count: int) -> np.ndarray:
    """Return integers of 0 to below 2^20; of numpy's generators, this raw stream alone never changes."""
    return (np.random.PCG64(0).random_raw(count) >> np.uint64(44)).astype(np.int64)


def calibration_signal(num_samples: int, channels: int) -> np.ndarray:
    """Return integers ``[C, S]`` of unit 2^-20: white and brown noise, a sawtooth, bursts, silence."""
    noise = random_integers(num_samples) - (1 << 19)
    time = np.arange(num_samples)
    saw = (time * 4817) % (1 << 20) - (1 << 19)  # about 110 Hz at 24 kHz
    brown = np.cumsum(noise) >> 5
    brown = np.abs(brown % (1 << 21) - (1 << 20)) - (1 << 19)  # folded, so that it stays within 1/2
    bursts = np.where(time // 600 % 4 == 0, noise + saw, 0)
    fifth = -(-num_samples // 5)
    mono = np.choose(time // fifth, [2 * noise, 2 * brown, 2 * saw, bursts, time * 0])
    return np.stack([np.roll(mono, 7 * c) * (4 - c) // 4 for c in range(channels)])
