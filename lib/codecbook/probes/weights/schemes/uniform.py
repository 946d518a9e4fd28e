"""Entropy-coded uniform quantisation with error feedback: as few bits as a stated loss allows.

Errors ``E`` of a matrix ``[R, C]`` cause, to second order, the loss ``tr(E' G E H)``. ``G [R, R]`` says how much the
rows matter (of a layer, the second moment of its outputs' gradients), ``H [C, C]`` how much the columns do (of its
inputs): the Kronecker factors of K-FAC (Martens and Grosse 2015). An entry's error is fed back to what is not yet
rounded, along columns as in GPTQ (Frantar et al. 2022) and along rows alike. With feedback, the loss is a sum over
entries, each with a weight of its row and one of its column, and steps are inverse to their roots: every entry then
costs the same loss, which is how bits are spent best at high rates. One number is left to choose, the step.

Both factors are damped, by shares of their means. Little damping (0.01) is best for fine steps. With coarse ones the
second order no longer holds, so that whatever looks as if it did not matter has to be kept nevertheless (1 and 10).
"""

import numpy as np

from codecbook.compiled import kernel
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes.entropy import decode_integers, encode_integers
from codecbook.probes.weights.schemes.packing import pack, unpack

_NO_FEEDBACK = np.zeros((0, 0))
_ROOT = np.array([1.0, 2.0**0.5])  # 2^(n / 2) for n of 0 and 1
_MOST_HALVINGS = 1000


def encode_uniform(
    matrix: np.ndarray,
    *,
    step: float,
    gram: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    damping: tuple[float, float] = (0.01, 0.01),
    **_unused: object,
) -> bytes:
    """Return the bytes of a matrix float32 ``[R, C]``.

    Args:
        matrix: Weights, finite.
        step: Of an entry whose row and column have weight 1.
        gram: `H`, float64 ``[C, C]``, or ``[B, C, C]`` for each of ``B`` equal blocks of rows. None: the same for all
            columns, so that a step of 1 is the root mean square of the matrix.
        rows: `G`, float64 ``[R, R]``, or its diagonal ``[R]``, which feeds nothing back. None: the same for all rows.
        damping: Of rows, where they are a matrix, and of columns.

    Raises UnsupportedInput: moments of other shapes, or a step that is not above 0.
    """
    R, C = matrix.shape
    if gram is None:
        gram = np.eye(C) / (float(np.mean(matrix.astype(float) ** 2)) or 1.0)
    rows, grams = np.ones(R) if rows is None else rows, gram.reshape(-1, *gram.shape[-2:])
    if (
        rows.shape not in ((R,), (R, R))
        or grams.shape[1:] != (C, C)
        or R % len(grams)
        or not 0 < np.float32(step) < np.inf
    ):
        raise UnsupportedInput(
            f"Moments of rows {list(rows.shape)} and columns {list(gram.shape)} and a step of {step} do not fit a "
            f"matrix of {R} x {C}; measure them on the same model, and give a step above 0."
        )
    row_weights, row_feedback = rows + 1e-30, _NO_FEEDBACK
    if rows.ndim == 2:
        row_weights, row_feedback = _conditional(rows, damping[0])
    columns = [_conditional(block, damping[1]) for block in grams]
    row_halves = _halves(row_weights)
    column_halves = _halves(np.exp(np.mean([np.log(weights) for weights, _ in columns], axis=0)))
    # blocks share their columns' steps; their overall weights go to their rows
    row_halves += np.repeat([round(np.mean(_halves(w) - column_halves)) for w, _ in columns], R // len(columns))
    entries, unit = np.zeros((R, C), dtype=np.int64), float(np.float32(step))
    targets = matrix.astype(float)
    for block, (_, feedback) in enumerate(columns):
        part = slice(block * (R // len(columns)), (block + 1) * (R // len(columns)))
        steps = _powers(row_halves[part]) * unit, _powers(column_halves)
        rows_of_block = row_feedback if len(columns) == 1 else _NO_FEEDBACK
        _round(targets[part], *steps, rows_of_block, feedback, entries[part])
    halves = [encode_integers(np.diff(h, prepend=0)[:, None]) for h in (row_halves, column_halves)]
    parts = [np.frombuffer(data, dtype=np.uint8) for data in (*halves, encode_integers(entries))]
    return pack(np.array([step], dtype=np.float32), *parts)


def decode_uniform(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``, the same bits on every machine; raise CorruptInput for other bytes."""
    step, *parts = unpack(data)
    if len(parts) != 3 or step.shape != (1,) or not np.isfinite(step[0]):
        raise CorruptInput(f"A coded matrix has {len(parts)} parts, not 3; the file is damaged, fetch it again.")
    halves = [np.cumsum(decode_integers(parts[n].tobytes(), (shape[n], 1))[:, 0]) for n in range(2)]
    if max(int(np.abs(h).max(initial=0)) for h in halves) > _MOST_HALVINGS:
        raise CorruptInput("Steps of a coded matrix are beyond any float; the file is damaged, fetch it again.")
    entries = decode_integers(parts[2].tobytes(), shape)
    return (entries * ((_powers(halves[0]) * float(step[0]))[:, None] * _powers(halves[1]))).astype(np.float32)


def _conditional(moment: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what an error costs once all later ones have answered it, ``[C]``, and their answer ``[C, C]``.

    From the Cholesky factor of the inverse, as GPTQ does; row ``c`` of the answer has 1 at ``c`` and zeros before.
    """
    size = len(moment)
    inverse = np.linalg.inv(moment + (damping * np.trace(moment) / size or 1.0) * np.eye(size))
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    diagonal = np.diag(upper)
    return 1 / diagonal**2, upper / diagonal[:, None]


def _halves(weights: np.ndarray) -> np.ndarray:
    """Return int64 exponents of the steps of entries of such weights, in half octaves."""
    return np.rint(-np.log2(weights)).astype(np.int64)


def _powers(halves: np.ndarray) -> np.ndarray:
    """Return ``2^(n / 2)``, the same on every machine."""
    return np.ldexp(_ROOT[halves & 1], (halves >> 1).astype(np.int32))


@kernel
def _round(targets, row_steps, column_steps, row_feedback, column_feedback, entries):
    """Round targets ``[R, C]``, which change, to entries, multiples of ``row_steps[r] * column_steps[c]``."""
    R, C = targets.shape
    errors = np.zeros(C)
    for r in range(R):
        row = targets[r].copy()
        for c in range(C):
            step = row_steps[r] * column_steps[c]
            entries[r, c] = np.int64(np.rint(row[c] / step))
            rounded = entries[r, c] * step
            errors[c] = targets[r, c] - rounded
            error = row[c] - rounded
            for d in range(c + 1, C):
                row[d] -= error * column_feedback[c, d]
        if row_feedback.shape[0]:
            for s in range(r + 1, R):
                for c in range(C):
                    targets[s, c] -= row_feedback[r, s] * errors[c]
