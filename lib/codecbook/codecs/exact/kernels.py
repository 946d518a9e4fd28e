"""Curves of the evaluator, compiled for CPUs: one pass over the numbers where torch takes some fifteen.

Integers come and go as float64, which holds them; in between they are int64.
"""

import numpy as np

from codecbook.codecs.exact.spec import ACTIVATION_MAX, CURVE_BITS, CURVE_END, CURVE_STEP, PHASE_BITS, SINE_STEP
from codecbook.compiled import kernel


@kernel
def snake(x, turns, inverse, nodes, unit, shift, out):
    """Write the Snake of frames ``[N, C]`` of a unit; `nodes` are those of the squared sine, int64."""
    half, rest_mask, phase_mask = np.int64(1) << (shift - 1), (1 << SINE_STEP) - 1, (1 << PHASE_BITS) - 1
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            value = np.int64(x[n, c])
            phase = ((value * turns[c]) >> (unit + 24 - PHASE_BITS)) & phase_mask
            i, rest = phase >> SINE_STEP, phase & rest_mask
            square = ((nodes[i] << SINE_STEP) + (nodes[i + 1] - nodes[i]) * rest + (1 << (SINE_STEP - 1))) >> SINE_STEP
            value += (square * inverse[c] + half) >> shift
            out[n, c] = min(max(value, -ACTIVATION_MAX), ACTIVATION_MAX)


@kernel
def elu(x, nodes, unit, out):
    """Write the ELU of numbers ``[N]`` of a unit; `nodes` are those of the curve, int64, the last one twice."""
    step, shift = unit - CURVE_STEP, CURVE_BITS - CURVE_STEP
    for n in range(x.shape[0]):
        value = np.int64(x[n])
        below = min(max(-value, 0), CURVE_END << unit)
        i = below >> step
        bent = (nodes[i] << step) + (nodes[i + 1] - nodes[i]) * (below - (i << step))
        out[n] = max(value, 0) - ((bent + (np.int64(1) << (shift - 1))) >> shift)
