"""Logits to integer CDFs: the border where a token model's numbers become an entropy coder's intervals.

Encoder and decoder must agree on every integer here; one that differs desynchronises all that follows. Three rules:

- `cdf_upstream`: package ``encodec`` 0.1.1. Float softmax, so equal only where the softmax rounds equally. Of a tensor
  on a GPU it is computed there, as the package does.
- `cdf_grid`: ``acv=4`` of encodec's pull request 95. Logits are rounded to a grid first, which makes a
  difference between machines rarer, not impossible.
- `cdf_exact`: integers from the logits on, so equal on every machine for equal integer logits.

All take logits ``[T, V, K]`` (or a column ``[V]``), arrays and tensors alike, and return a CDF of
`codecbook.coding.cdf`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbook.coding.cdf import as_array, as_columns
from codecbook.coding.exact.counts import cdf_exact as cdf_exact  # the third rule is found here as well
from codecbook.errors import CorruptInput, UnsupportedInput, require_one_of

TOTAL_BITS = 24
"""The coders of encodec divide 2^24 among the codes."""
TOTAL = 1 << TOTAL_BITS

_UPSTREAM_ROUNDOFF = 1e-8
_UPSTREAM_MIN_RANGE = 2
_LOGITS_AT_ONCE = 1 << 18  # bounds the float64 intermediates; frames do not interact


@dataclass(frozen=True)
class GridDialect:
    """Parameters of ``acv=4``; by default those of its pull request's text, "qstep128".

    The number has two meanings (`GRID_DIALECTS`), which a header tells apart by `fp_scale` alone.
    """

    qstep: float = 1 / 128  # step of the logit grid, in nats, > 0
    fp_scale: int = 65536  # counts before the CDF is made: floor(p * fp_scale), 1 to 2^32 (header key fp)
    min_range: int = 1  # least width of a code's interval, of 2^24 (header key mr)
    lm_dtype: str = "float32"  # "float32" or "float64", of the language model and of the division by qstep
    tau: float = 1.0  # temperature that divides the logits, > 0 (header key tau)

    def __post_init__(self) -> None:
        for name, value in (("qstep", self.qstep), ("tau", self.tau)):
            if not (math.isfinite(value) and value > 0):
                raise UnsupportedInput(f"{name}={value} is not a positive number; the default is 1/128 and 1.0.")
        if not 1 <= self.fp_scale <= 1 << 32:
            raise UnsupportedInput(f"fp_scale={self.fp_scale} is outside 1..2^32; acv=4 uses 65536 or 8192.")
        require_one_of("lm_dtype", self.lm_dtype, ("float32", "float64"))

    def check_alphabet(self, num_codes: int) -> None:
        """Raise UnsupportedInput where so many codes of `min_range` do not fit."""
        if not 1 <= self.min_range <= TOTAL // num_codes:
            raise UnsupportedInput(
                f"min_range={self.min_range} with {num_codes} codes does not fit 2^24; use 1..{TOTAL // num_codes}."
            )

    def cdf(self, logits: Any) -> np.ndarray:
        """Return `cdf_grid` of the logits ``[T, V, K]`` with these parameters."""
        return _by_frames(lambda part, _: _grid_cdf(part, self), logits)


GRID_DIALECTS = {
    "qstep128": GridDialect(),
    "qstep64": GridDialect(qstep=1 / 64, fp_scale=8192, min_range=2, lm_dtype="float64"),
}


def cdf_upstream(logits: Any) -> np.ndarray:
    """Return the CDF that package ``encodec`` 0.1.1 codes with.

    The softmax is torch's, one frame at a time as in upstream's loop; see `cdf_upstream_from_pdf` for the rest. One
    frame at a time matters: with 8 codebooks and more, torch's vector code rounds differently for a lone column, for
    several frames at once, and for another number of threads, so that **equal logits** give different CDFs.

    Logits are float32 or float64 ``[T, V, K]`` (or ``[V]``) in nats; -inf is probability 0. A tensor's device is where
    softmax and CDF are computed. The CDF is int64 ``[T, K, V]``, widths >= 2. Its last value is **near** 2^24, seldom
    equal: rounding down loses up to one per code, and float32 rounding up may gain a few (see
    `codecbook.coding.arithmetic.UpstreamEncoder`).

    Raises:
        CorruptInput: A column has NaN, +inf, or nothing but -inf; check the model that made it.
        UnsupportedInput: Another dtype or shape, or more than 2^23 codes.
    """
    return _upstream(logits, are_logits=True)


def cdf_upstream_from_pdf(pdf: Any) -> np.ndarray:
    """Return upstream's CDF for probabilities, which is what its ``LMModel`` puts out; see `cdf_upstream`.

    With ``r = 1e-8``, in the dtype of `pdf`: ``q = floor(p / r) * r``; ``width = floor(((1 - 2V/2^24) 2^24) q) + 2``;
    the CDF is their running sum. Division, product and floor are IEEE operations and the sum is of integers, so that
    equal probabilities give equal CDFs on every CPU. Not on every device: torch's CUDA kernel divides by a number as
    it multiplies by its reciprocal (``BinaryDivTrueKernel.cu``), and 1e-8 is no float, so that ``p / r`` falls on the
    other side of an integer now and then: in one row of ten with 1024 codes. Oracle:
    ``encodec.quantization.ac.build_stable_quantized_cdf``.
    """
    return _upstream(pdf, are_logits=False)


def cdf_grid(
    logits: Any,
    qstep: float = 1 / 128,
    fp_scale: int = 65536,
    min_range: int = 1,
    tau: float = 1.0,
    lm_dtype: str = "float32",
) -> np.ndarray:
    """Return the CDF of ``acv=4`` (encodec pull request 95), either dialect; see `GridDialect` and `GRID_DIALECTS`.

    1. ``y = (logits / tau) / qstep`` in `lm_dtype`; ``q = floor(y + 1/2 - 2^-40)`` in float64; value ``q * qstep``.
    2. Softmax in float64: subtract the maximum, ``exp``, divide by the last element of the running sum. A column
       whose sum is not finite or not positive becomes uniform.
    3. ``count = floor(max(0, p * fp_scale))``; a column of zeros becomes one of ones.
    4. ``alloc = 2^24 - V * min_range`` is shared as ``alloc * count // sum(count)``; what is left goes one each to
       the largest remainders, ties to the lower index; then `min_range` is added to all.

    The pull request also nudges ``p * fp_scale`` by 2^-60 where it lies within 2^-40 of an integer. After the clamp at
    0 that cannot change a count (above 1, 2^-60 is below half a unit in the last place; below 2^-40 the floor is 0
    either way), so it is absent here; `cdf_grid_unclamped` shows what it does without the clamp.

    Logits are float32 or float64 ``[T, V, K]`` (or ``[V]``) in nats. The CDF is int64 ``[T, K, V]``, its widths at
    least `min_range`, its last value 2^24. A parameter out of range, or another dtype or shape, raises
    UnsupportedInput.
    """
    return GridDialect(qstep, fp_scale, min_range, lm_dtype, tau).cdf(logits)


def cdf_grid_unclamped(logits: Any) -> np.ndarray:
    """Return the **faulty** CDF that ``acv=4`` had before its fix: an exhibit, never to be coded with.

    Without the clamp, a probability of 0, or so small that ``p * fp_scale < 2^-60``, gives ``floor(-2^-60) = -1`` at
    every even place of the ``[V, K]`` matrix. Where its share outweighs `min_range` the CDF falls, and a binary search
    over it returns wrong codes without any error. Places count over the matrix that is passed, so here a column alone
    and the same column inside a matrix differ.

    As `cdf_grid` with its defaults, but widths may be zero or negative.
    """
    return _by_frames(lambda part, _: _grid_cdf(part, GRID_DIALECTS["qstep128"], _nudged), logits)


def _upstream(values: Any, are_logits: bool) -> np.ndarray:
    """Return upstream's CDF with the package's own operations, on the device of `values`."""
    import torch  # here, as the integer rules of this room need numpy alone

    device = values.device if isinstance(values, torch.Tensor) else "cpu"

    def cdf(columns: np.ndarray, start: int) -> np.ndarray:
        V, pdf = columns.shape[1], torch.from_numpy(columns)
        if _UPSTREAM_MIN_RANGE * V > TOTAL:
            raise UnsupportedInput(f"{V} codes with a width of 2 each exceed 2^24; use a smaller codebook.")
        if are_logits:
            pdf = torch.cat([torch.softmax(frame[None].to(device), dim=1) for frame in pdf])
        pdf = pdf.to(device)
        invalid = torch.nonzero(~(torch.isfinite(pdf) & (pdf >= 0)))
        if len(invalid):
            t, v, k = invalid[0].tolist()
            raise CorruptInput(f"Frame {start + t}, codebook {k}, code {v}: probability {pdf[t, v, k]}; check it.")
        share = (1 - _UPSTREAM_MIN_RANGE * V / TOTAL) * TOTAL
        floored = (pdf / _UPSTREAM_ROUNDOFF).floor() * _UPSTREAM_ROUNDOFF
        widths = (share * floored).floor().long() + _UPSTREAM_MIN_RANGE
        return torch.cumsum(widths.transpose(1, 2), dim=2).cpu().numpy()

    return _by_frames(cdf, values)


def _grid_cdf(
    logits: np.ndarray, dialect: GridDialect, nudge: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Return the CDF ``[T, K, V]`` of logits ``[T, V, K]``; with `nudge`, which leaves out the clamp, the old fault."""
    dialect.check_alphabet(logits.shape[1])
    # infinite logits leave NaN, which is what makes their column uniform
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        steps = ((logits.astype(dialect.lm_dtype) / dialect.tau) / dialect.qstep).astype(np.float64)
        value = np.floor(steps + (0.5 - 2.0**-40)) * dialect.qstep
        weight = np.exp(value - value.max(axis=1, keepdims=True))
        pdf = weight / np.cumsum(weight, axis=1)[:, -1:, :]
    scaled = np.where(np.isfinite(pdf).all(axis=1, keepdims=True), pdf, 1.0) * dialect.fp_scale
    counts = np.floor(scaled if nudge is None else nudge(scaled)).astype(np.int64)
    counts = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, 1)
    return _share_out(counts.transpose(0, 2, 1), dialect.min_range)


def _nudged(scaled: np.ndarray) -> np.ndarray:
    """Move values ``[T, V, K]`` next to an integer by 2^-60, up at odd and down at even places."""
    fraction = scaled - np.floor(scaled)
    near_integer = (fraction <= 2.0**-40) | (fraction >= 1 - 2.0**-40)
    V, K = scaled.shape[1:]
    upwards = np.arange(V * K).reshape(V, K) % 2 == 1
    return np.where(near_integer, scaled + np.where(upwards, 2.0**-60, -(2.0**-60)), scaled)


def _share_out(counts: np.ndarray, min_range: int) -> np.ndarray:
    """Share 2^24 in proportion to counts ``[T, K, V]``, largest remainders first."""
    V = counts.shape[2]
    alloc = TOTAL - min_range * V
    widths, remainder = np.divmod(alloc * counts, counts.sum(axis=2, keepdims=True))
    left = alloc - widths.sum(axis=2, keepdims=True)
    # the rank in a stable order: of equal remainders the lower index comes first
    order = np.argsort(-remainder, axis=2, kind="stable")
    bonus = np.zeros_like(widths)
    np.put_along_axis(bonus, order, (np.arange(V) < left).astype(np.int64), axis=2)
    return np.cumsum(widths + bonus + min_range, axis=2)


def _by_frames(function: Callable[[np.ndarray, int], np.ndarray], values: Any) -> np.ndarray:
    """Apply `function(part [T', V, K], first frame) -> [T', K, V]` to blocks of frames of float values."""
    array = as_array(values)
    if array.dtype not in (np.float32, np.float64):
        raise UnsupportedInput(f"Logits and probabilities must be float32 or float64, not {array.dtype}; cast them.")
    columns, shape = as_columns(array, "Logits and probabilities")
    T, V, K = columns.shape
    cdf = np.empty((T, K, V), dtype=np.int64)
    step = max(1, _LOGITS_AT_ONCE // max(1, V * K))
    for start in range(0, T, step):
        part = np.ascontiguousarray(columns[start : start + step])
        cdf[start : start + len(part)] = function(part, start)
    return cdf.reshape(shape)
