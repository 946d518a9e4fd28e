"""Frames of tokens to bytes and back with an exact language model: what a stream's segments consist of. Normative.

A segment is coded on its own. Frame ``t`` is predicted from the frames before it in the segment, starting from BOS; a
model with rotary positions starts from BOS again at every ``W``-th frame (``t mod W = 0``). Within a frame, codebook
after codebook: the logits of `codecbook.lm.exact`, with the bias of `codecbook.coding.exact.adapt` if that has a step,
become counts by `codecbook.coding.exact.counts.cdf_exact` with a total of 2^20, and the code's interval ``[low, high)``
goes to the coder of `codecbook.coding.range_coder`. The payload is that coder's bytes.

The interval hash is a 64-bit FNV-1a over the intervals instead of bytes: ``h = 0xcbf29ce484222325``, then for each
code in coding order ``h = ((h xor low) * 0x100000001b3) mod 2^64`` and the same with ``high``. Encoder and decoder
have equal hashes exactly where every interval agreed (but for a chance of 2^-64), so a decoder whose model differs in
one interval is found out even if its bytes happened to end well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from codecbook.coding.cdf import ideal_bits
from codecbook.coding.exact.adapt import add_bias, learn
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, exact_exp_table, exact_row
from codecbook.coding.range_coder import EXHAUSTED, RangeEncoder, decode_step, fresh_state, start_decoding
from codecbook.compiled import kernel, kernel_or, on_threads, thread_count
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.kernels import head_rows, push_rows, read_rows
from codecbook.lm.exact.spec import ExactLM, exp2_table
from codecbook.lm.exact.stepper import kernel_state, kernel_weights
from codecbook.tokens.tokens import checked_codes

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
_ENCODER_ROWS = 64
"""Known frames that go through the model together."""
_DECODER_ROWS = 16
"""Segments that are decoded side by side,"""
_DECODER_BYTES = 1 << 26
"""if what they remember takes no more than this."""
_CHUNK_FRAMES = 1024


@dataclass(frozen=True, eq=False)
class CodedFrames:
    """Frames as bytes."""

    payload: bytes  # of the range coder
    interval_hash: int  # 64-bit hash of the intervals that were coded
    low: np.ndarray  # these intervals, int64 [T, K]
    high: np.ndarray

    @property
    def ideal_bits(self) -> float:
        """Information of the frames under the model's counts, in bits."""
        return ideal_bits(self.low, self.high, 1 << EXACT_TOTAL_BITS)


def encode_frames(model: ExactLM, frames: Any, adapt_step: int = 0) -> CodedFrames:
    """Encode a segment of frames, integers ``[T, K]``; T may be 0.

    `adapt_step` is the step of `codecbook.coding.exact.adapt`, 0 for none.

    Raises CodecbookError: as `checked_codes`, or a vocabulary of 2^20 codes or more.
    """
    codes = checked_codes(np.asarray(frames), model.codebook_sizes, "The frames")
    if codes.ndim != 2:
        raise UnsupportedInput(f"Frames have the axes [T, K]; received {list(codes.shape)}.")
    coder = _FrameCoder(model, [b""], _ENCODER_ROWS, adapt_step)
    known = codes[None].copy()  # read-only arrays are another type to numba
    low, high = coder.code(False, np.array([len(codes)]), known)
    return CodedFrames(coder.encoders[0].finish(), coder.hashes[0], low[0], high[0])


def encode_many(
    model: ExactLM, segments: Sequence[np.ndarray], adapt_step: int = 0, threads: int | None = None
) -> list[CodedFrames]:
    """Encode several segments as `encode_frames` does each of them, on threads as `decode_many` takes them."""
    kernel_weights(model)  # made ready once, not by each thread
    return on_threads(lambda frames: encode_frames(model, frames, adapt_step), segments, threads)


def decode_frames(model: ExactLM, payload: bytes, num_frames: int, adapt_step: int = 0) -> tuple[np.ndarray, int]:
    """Decode a segment of `encode_frames`, made with the same model and step: all of its bytes, to `num_frames` frames.

    Returns int64 ``[T, K]``, and the interval hash, which is the encoder's if the models agree. Bytes that end early,
    go on, or are not those of any ``T`` frames raise CorruptInput (damage may also decode to other frames, which only a
    checksum finds); a vocabulary of 2^20 codes or more UnsupportedInput.
    """
    (result,) = decode_many(model, [payload], [num_frames], adapt_step)
    if isinstance(result, CorruptInput):
        raise result
    return result


def decode_many(
    model: ExactLM,
    payloads: Sequence[bytes],
    num_frames: Sequence[int],
    adapt_step: int = 0,
    threads: int | None = None,
) -> list[tuple[np.ndarray, int] | CorruptInput]:
    """Decode several segments at once: on each thread some, side by side, that share what the cache holds of the model.

    Returns for each payload and its number of frames what `decode_frames` returns, or the error that it would raise.
    `threads` are at most as many; None takes as many as numba does (``NUMBA_NUM_THREADS``).
    """
    if not payloads:
        return []
    kernel_weights(model)
    segments = list(zip(payloads, num_frames, strict=True))
    count = thread_count(len(segments), threads)
    shares = [segments[i::count] for i in range(count)]
    parts = on_threads(partial(_decode_side_by_side, model, adapt_step), shares, count)
    return [parts[i % count][i // count] for i in range(len(segments))]


def _decode_side_by_side(
    model: ExactLM, adapt_step: int, segments: Sequence[tuple[bytes, int]]
) -> list[tuple[np.ndarray, int] | CorruptInput]:
    payloads = [payload for payload, _ in segments]
    S, K = len(payloads), model.num_codebooks
    coder = _FrameCoder(model, payloads, S, adapt_step)
    left = np.array([count for _, count in segments], dtype=np.int64)
    parts: list[list[np.ndarray]] = [[np.zeros((0, K), dtype=np.int64)] for _ in payloads]
    while left.any():  # in pieces: a damaged header may ask for more frames than there is memory
        counts = np.minimum(left, _CHUNK_FRAMES)
        left -= counts
        codes = np.zeros((S, counts.max(), K), dtype=np.int64)
        coder.code(True, counts, codes)
        for s, count in enumerate(counts.tolist()):
            parts[s].append(codes[s, :count])
        left[coder.status < 0] = 0
    return [
        coder.problem(s, payload) or (np.concatenate(parts[s]), coder.hashes[s]) for s, payload in enumerate(payloads)
    ]


def streams_side_by_side(model: ExactLM) -> int:
    """Return how many segments `decode_many` should be given at once: enough for speed, within bounded memory."""
    c = model.config
    memory_bytes = 2 * c.layers * c.window_frames * c.dim  # keys and values of a segment, about
    return max(1, min(_DECODER_ROWS, _DECODER_BYTES // memory_bytes))


class _FrameCoder:
    """A model made ready for S segments side by side, and how far each of them has come."""

    def __init__(self, model: ExactLM, payloads: Sequence[bytes], rows: int, adapt_step: int) -> None:
        config, S = model.config, len(payloads)
        if config.codebook_size >= 1 << EXACT_TOTAL_BITS:
            raise UnsupportedInput(
                f"{config.codebook_size} codes do not fit a total of 2^{EXACT_TOTAL_BITS}; use a smaller vocabulary."
            )
        self._weights, self._lm = kernel_weights(model), kernel_state(model, S, rows)
        self._restart = config.window_frames if config.rotary else 0
        self._before = np.zeros((S, config.num_codebooks), dtype=np.int64)
        shape = (S, config.num_codebooks, config.codebook_size if adapt_step else 0)
        self._adapting = np.zeros(shape, dtype=np.int32), adapt_step
        self._data = np.frombuffer(b"".join(payloads), dtype=np.uint8)
        self._ends = np.cumsum([0] + [len(payload) for payload in payloads])
        self._coders = np.stack([fresh_state() for _ in payloads])
        for s in range(S):
            start_decoding(self._coders[s], self._data[self._ends[s] : self._ends[s + 1]])
        self.done = np.zeros(S, dtype=np.int64)  # frames
        self.status = np.zeros(S, dtype=np.int64)  # below 0 where a segment broke off
        self.hashes = [int(FNV_OFFSET)] * S
        self.encoders = [RangeEncoder() for _ in payloads]

    def code(self, is_decoding: bool, counts: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode or decode ``counts[s]`` frames of ``[S, T, K]``, and return their intervals.

        The count of a segment that breaks off is lowered.
        """
        low, high = np.zeros_like(codes), np.zeros_like(codes)
        _code_frames(
            self._weights, self._lm, is_decoding, counts, self._before, self.done, self._restart,
            (exp2_table(), exact_exp_table()), self._adapting, self._coders, self._data, self._ends, self.status, codes,
            low, high,
        )  # fmt: skip
        for s, count in enumerate(counts.tolist()):
            ends = low[s, :count], high[s, :count]
            self.encoders[s].push_intervals(*ends)
            if count:
                self._before[s] = codes[s, count - 1]
                self.hashes[s] = int(_hash_intervals(np.uint64(self.hashes[s]), *ends))
        self.done += counts
        return low, high

    def problem(self, s: int, payload: bytes) -> CorruptInput | None:
        """Return what is wrong with a decoded segment: it broke off, or its codes do not have exactly these bytes."""
        if self.status[s] < 0:
            reason = "used up" if self.status[s] == EXHAUSTED else "beyond all symbols"
            return CorruptInput(
                f"The segment breaks off after {self.done[s]} frames: its {len(payload)} bytes are {reason}; it is "
                "truncated or damaged, or was made with another model."
            )
        written = self.encoders[s].finish()
        if written != payload:
            return CorruptInput(
                f"The {self.done[s]} frames that these bytes decode to are written as {len(written)} other bytes than "
                f"the segment's {len(payload)}; it is damaged, of another length, or was made with another model."
            )
        return None


def _hash_in_python(value: np.uint64, low: np.ndarray, high: np.ndarray) -> np.uint64:
    # products wrap at 2^64, of which numpy's scalars warn
    state, prime, mask = int(value), int(FNV_PRIME), (1 << 64) - 1
    for end in np.stack((low, high), axis=-1).ravel().tolist():
        state = ((state ^ end) * prime) & mask
    return np.uint64(state)


@kernel_or(_hash_in_python)
def _hash_intervals(value, low, high):
    """Return the interval hash continued over the intervals of int64 ``[T, K]``."""
    for t in range(low.shape[0]):
        for k in range(low.shape[1]):
            value = (value ^ np.uint64(low[t, k])) * FNV_PRIME
            value = (value ^ np.uint64(high[t, k])) * FNV_PRIME
    return value


@kernel
def _code_frames(
    weights, lm, is_decoding, counts, before, firsts, restart, tables, adapting, coders, data, ends, status, codes,
    low, high,
):  # fmt: skip
    """Find what the codes of S segments own, decoding them first where they are not known.

    Decoding: `codes`, int64 ``[S, T, K]``, are written, ``counts[s]`` frames of each segment, all segments side by
    side. ``data[ends[s] : ends[s + 1]]`` are a segment's bytes, ``coders[s]`` its coder. A segment that breaks off gets
    a negative ``status[s]``, as `decode_step` says, and the number of its whole frames in ``counts[s]``.

    Encoding: `codes` are read, one segment's, and as many frames as `lm` has rows go through the model at a time.

    `low` and `high`, int64 ``[S, T, K]``, get the intervals. ``before[s]`` is the frame before the first of this call,
    ``firsts[s]`` that one's number in its segment; `restart` is the number of frames between two BOS, or 0.
    `adapting` is a bias, int32 ``[S, K, V]``, and the step with which it learns, or 0.
    """
    exp2, exp = tables
    bias, step = adapting
    S, T, K = codes.shape
    V, rows = weights.logits_multiplier.shape[1], lm.hidden.shape[0]
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
                at = firsts[s] + frame  # in its segment
                is_start = at == 0 or (restart > 0 and at % restart == 0)
                for k in range(K):
                    if is_start:
                        inputs[N, k] = V  # BOS
                    else:
                        inputs[N, k] = codes[s, frame - 1, k] if frame > 0 else before[s, k]
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
                if step:
                    add_bias(logits[n], bias[s, k])
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
                if step:
                    learn(bias[s, k], cdf, code, step)
            push_rows(weights, lm, k, known[:N])
        t += 1 if is_decoding else N
