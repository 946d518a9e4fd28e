"""Adaptation in integers: a bias on the logits that learns within a segment. Normative.

Each codebook has a bias ``b[v]``, 0 when a segment begins, in 2^-12 of a logit's unit. A logit becomes
``z[v] + ((b[v] + 2^11) >> 12)``. After each code ``c`` of the codebook, with ``w[v]`` what each code owned of 2^20 and
`step` in a logit's unit, the bias takes a step towards what came and away from what was expected::

    b[v] = max(b[v] - ((step * w[v]) >> 8), -2^26)      for all v
    b[c] = min(b[c] + step * 2^12, 2^26)

That is gradient descent on the code's length. Limited, the bias moves a logit by 2^14 at most, 64 bits, for which the
model's certificate leaves room.
"""

import numpy as np

from codecbook.compiled import kernel
from codecbook.lm.exact.spec import BIAS_BITS, BIAS_MAX

DEFAULT_STEP = 222
"""0.6 nats, in 2^-8 bit."""
MAX_STEP = 1023


@kernel
def add_bias(logits, bias):
    """Add a codebook's bias, int32 ``[V]`` in 2^-12 unit, to its logits, int32 ``[V]``."""
    half = np.int32(1 << (BIAS_BITS - 1))
    for v in range(logits.shape[0]):
        logits[v] += np.int32(np.int32(bias[v] + half) >> BIAS_BITS)


@kernel
def learn(bias, cdf, code, step):
    """Move a codebook's bias after a code that was coded by `cdf`, int64 ``[V]`` with a total of 2^20."""
    # in int32 throughout, of which a processor computes most at a time
    factor, least, before = np.int32(step), np.int32(-BIAS_MAX), np.int32(0)
    for v in range(bias.shape[0]):
        end = np.int32(cdf[v])
        expected = np.int32(np.int32(factor * np.int32(end - before)) >> (20 - BIAS_BITS))
        bias[v] = max(np.int32(bias[v] - expected), least)
        before = end
    bias[code] = min(bias[code] + (step << BIAS_BITS), BIAS_MAX)
