"""The loops of `codecbook.coding.exact.segments`, compiled: model, counts and range coder, symbol by symbol."""

import numpy as np

from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, exact_row
from codecbook.coding.range_coder import decode_step
from codecbook.compiled import kernel, kernel_or
from codecbook.lm.exact.kernels import head_rows, push_rows, read_rows

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)


def _hash_in_python(value: np.uint64, low: np.ndarray, high: np.ndarray) -> np.uint64:
    # products wrap at 2^64, of which numpy's scalars warn
    state, prime, mask = int(value), int(FNV_PRIME), (1 << 64) - 1
    for end in np.stack((low, high), axis=-1).ravel().tolist():
        state = ((state ^ end) * prime) & mask
    return np.uint64(state)


@kernel_or(_hash_in_python)
def hash_intervals(value, low, high):
    """Return the interval hash continued over the intervals of int64 ``[T, K]``."""
    for t in range(low.shape[0]):
        for k in range(low.shape[1]):
            value = (value ^ np.uint64(low[t, k])) * FNV_PRIME
            value = (value ^ np.uint64(high[t, k])) * FNV_PRIME
    return value


@kernel
def _input_frame(codes, before, t, first, restart, bos, out):
    """Write what the model reads to predict frame t of `codes`, which is frame ``first + t`` of its segment."""
    at = first + t
    is_start = at == 0 or (restart > 0 and at % restart == 0)
    for k in range(out.shape[0]):
        if is_start:
            out[k] = bos
        else:
            out[k] = codes[t - 1, k] if t > 0 else before[k]


@kernel
def code_frames(
    weights, lm, is_decoding, counts, before, firsts, restart, tables, coders, data, ends, status, codes, low, high
):  # fmt: skip
    """Find what the codes of S streams own, decoding them first where they are not known.

    Decoding: `codes`, int64 ``[S, T, K]``, are written, ``counts[s]`` frames of each stream, all streams side by side.
    ``data[ends[s] : ends[s + 1]]`` are a stream's bytes, ``coders[s]`` its coder. A stream that breaks off gets
    a negative ``status[s]``, as `decode_step` says, and the number of its whole frames in ``counts[s]``.

    Encoding: `codes` are read, one stream's, and as many frames as `lm` has rows go through the model at a time.

    `low` and `high`, int64 ``[S, T, K]``, get the intervals. ``before[s]`` is the frame before the first of this call,
    ``firsts[s]`` that one's number in its segment; `restart` is the number of frames between two BOS, or 0.
    """
    exp2, exp = tables
    S, T, K = codes.shape
    V, rows = weights.logits_weight.shape[1], lm.hidden.shape[0]
    streams, frames = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
    inputs, known = np.empty((rows, K), dtype=np.int64), np.empty(rows, dtype=np.int64)
    logits, cdf = np.empty((rows, V), dtype=np.int32), np.empty(V, dtype=np.int64)
    t = 0
    while t < T:
        N = np.int64(0)  # not the literal 0, for which all callees would be compiled again
        for n in range(S if is_decoding else min(rows, T - t)):
            s, frame = (n, t) if is_decoding else (0, t + n)
            if frame < counts[s]:
                streams[N], frames[N] = s, frame
                _input_frame(codes[s], before[s], frame, firsts[s], restart, V, inputs[N])
                N += 1
        if N == 0:
            return
        read_rows(weights, lm, inputs[:N], streams[:N], exp2)
        for k in range(K):
            head_rows(weights, lm, k, N, logits)
            for n in range(N):
                s, frame = streams[n], frames[n]
                known[n] = 0
                if status[s] < 0:
                    continue  # the rest of a frame that broke off
                exact_row(logits[n], exp, EXACT_TOTAL_BITS, cdf)
                if is_decoding:
                    code = decode_step(coders[s], data[ends[s] : ends[s + 1]], cdf, EXACT_TOTAL_BITS)
                    if code < 0:
                        status[s], counts[s] = code, frame
                        continue
                    codes[s, frame, k] = code
                code = codes[s, frame, k]
                known[n] = code
                low[s, frame, k] = cdf[code - 1] if code > 0 else 0
                high[s, frame, k] = cdf[code]
            push_rows(weights, lm, k, known[:N])
        t += 1 if is_decoding else N
