"""Constants, tables and elementary steps of exact evaluation, in numpy int64; ``docs/exact-lm.md`` defines them.

These are the functions of the specification: the reference evaluator is made of them, and the others are tested
against it.
"""

import functools
import math

import numpy as np

ACTIVATION_MAX = 127
"""Greatest int8 activation or weight; -128 is not used."""
STREAM_MAX = (1 << 20) - 1
"""Where the residual streams saturate."""
PRODUCT_LIMIT = 1 << 24
"""Every sum of int8 products is proved to stay below, so that float32 holds it in whatever order it is added up."""
MULTIPLIER_LIMIT = 1 << 20
MIN_SHIFT, MAX_SHIFT = 1, 44
RECIPROCAL_BITS, UNIT_BITS = 40, 20
"""Divisions are by way of ``2^40 // divisor``; a normalised element of a stream keeps 20 bits."""
UNITS_PER_BIT = 256
"""Scores and logits count in 2^-8 bit."""
EXP2_SIZE, EXP2_BITS = 4096, 16
SHARE_BITS = 16
"""Attention weights sum up to about 2^16."""
SHARE_SHIFT = RECIPROCAL_BITS - SHARE_BITS
GELU_SIZE = 4096
ROTATION_BITS = 14
ROTATION_EXTRA_BITS = 4
"""Queries and keys that are rotated keep this many more bits until they are."""
ROTATION_INPUT_MAX = 4095


@functools.cache
def exp2_table() -> np.ndarray:
    """Return ``E[d] = floor(2^(16 - d/256) + 1/2)`` for ``d`` = 0..4094 and ``E[4095] = 0``; int64, read-only.

    Made by integer roots, as `codecbook.coding.exact.counts.exact_exp_table` is: with ``d = 256 o + f`` and
    ``R[f] = floor(2^(17 - f/256))``, the integer 256th root of ``2^(4352 - f)``, E is ``((R[f] >> o) + 1) >> 1``.
    The last entry stands for all greater distances.
    """
    roots = []
    for f in range(256):
        root = 1 << ((EXP2_BITS + 1) * 256 - f)
        for _ in range(8):
            root = math.isqrt(root)
        roots.append(root)
    table = np.array([((root >> octave) + 1) >> 1 for octave in range(16) for root in roots], dtype=np.int64)
    table[-1] = 0
    table.flags.writeable = False
    return table


def requantise(values: np.ndarray, multiplier: np.ndarray, shift: int) -> np.ndarray:
    """Return ``floor((values * multiplier + 2^(shift - 1)) / 2^shift)``, int64."""
    return (values.astype(np.int64) * multiplier.astype(np.int64) + (1 << (shift - 1))) >> shift


def saturate(stream: np.ndarray) -> np.ndarray:
    """Return a residual stream within its limits."""
    return np.clip(stream, -STREAM_MAX, STREAM_MAX)


def as_activation(values: np.ndarray) -> np.ndarray:
    """Return values within the range of an activation."""
    return np.clip(values, -ACTIVATION_MAX, ACTIVATION_MAX)


def integer_sqrt(values: np.ndarray) -> np.ndarray:
    """Return ``floor(sqrt(values))`` of int64 from 0 to below 2^53."""
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    return root + ((root + 1) * (root + 1) <= values)


def norm(stream: np.ndarray, gain: np.ndarray, shift: int, epsilon: int) -> np.ndarray:
    """Return activations ``[..., D]`` of a residual stream ``[..., D]``: RMSNorm in integers."""
    root = integer_sqrt((stream * stream).sum(axis=-1, keepdims=True) + epsilon)
    reciprocal = (1 << RECIPROCAL_BITS) // root
    units = (stream * reciprocal + (1 << (UNIT_BITS - 1))) >> UNIT_BITS
    return as_activation(requantise(units, gain, shift))


def gelu(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return activations by a table of 4096 entries, whose middle stands for 0."""
    half = GELU_SIZE // 2
    return table[np.clip(values, -half, half - 1) + half].astype(np.int64)


def rotate(values: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Return queries or keys ``[..., d]`` turned by their position's tables ``[..., d / 2]``, as activations."""
    wide = np.clip(values, -ROTATION_INPUT_MAX, ROTATION_INPUT_MAX)
    first, second = np.split(wide, 2, axis=-1)
    cosine, sine = cosine.astype(np.int64), sine.astype(np.int64)
    turned = np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)
    bits = ROTATION_BITS + ROTATION_EXTRA_BITS
    return as_activation((turned + (1 << (bits - 1))) >> bits)


def attention_shares(scores: np.ndarray) -> np.ndarray:
    """Return the weights ``[..., P]``, in 2^-16, that scores ``[..., P]`` in 2^-8 bit give to their keys."""
    distance = scores.max(axis=-1, keepdims=True) - scores
    powers = exp2_table()[np.minimum(distance, EXP2_SIZE - 1)]
    reciprocal = (1 << RECIPROCAL_BITS) // powers.sum(axis=-1, keepdims=True)
    return (powers * reciprocal + (1 << (SHARE_SHIFT - 1))) >> SHARE_SHIFT
