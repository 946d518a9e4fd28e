"""Frames of tokens to bytes and back with an exact language model: what a stream's segments consist of. Normative.

A segment is coded on its own. Frame ``t`` is predicted from the frames before it in the segment, starting from BOS; a
model with rotary positions starts from BOS again at every ``W``-th frame (``t mod W = 0``). Within a frame, codebook
after codebook: the logits of `codecbook.lm.exact` become counts by
`codecbook.coding.exact.counts.cdf_exact` with a total of 2^20, and the code's interval ``[low, high)`` goes to the
coder of `codecbook.coding.range_coder`. The payload is that coder's bytes.

The interval hash is a 64-bit FNV-1a over the intervals instead of bytes: ``h = 0xcbf29ce484222325``, then for each
code in coding order ``h = ((h xor low) * 0x100000001b3) mod 2^64`` and the same with ``high``. Encoder and decoder
have equal hashes exactly where every interval agreed (but for a chance of 2^-64), so a decoder whose model differs in
one interval is found out even if its bytes happened to end well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codecbook.coding.cdf import ideal_bits
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, exact_exp_table
from codecbook.coding.exact.kernels import FNV_OFFSET, code_frames, hash_intervals
from codecbook.coding.range_coder import EXHAUSTED, RangeEncoder, fresh_state, start_decoding
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.spec import ExactLM, exp2_table
from codecbook.lm.exact.stepper import kernel_state, kernel_weights
from codecbook.tokens.checks import checked_codes

_ENCODER_ROWS = 16
"""Known frames that go through the model together."""
_CHUNK_FRAMES = 1024


@dataclass(frozen=True)
class CodedFrames:
    """Frames as bytes."""

    payload: bytes  # of the range coder
    interval_hash: int  # 64-bit hash of the intervals that were coded
    ideal_bits: float  # information of the frames under the model's counts, in bits


class _Segments:
    """A model made ready for S segments side by side, and how far each of them has come."""

    def __init__(self, model: ExactLM, payloads: Sequence[bytes], rows: int) -> None:
        config, S = model.config, len(payloads)
        if config.codebook_size >= 1 << EXACT_TOTAL_BITS:
            raise UnsupportedInput(
                f"{config.codebook_size} codes do not fit a total of 2^{EXACT_TOTAL_BITS}; use a smaller vocabulary."
            )
        self._weights, self._lm = kernel_weights(model), kernel_state(model, S, rows)
        self._restart = config.window_frames if config.rotary else 0
        self._tables = (exp2_table(), exact_exp_table())
        self._before = np.zeros((S, config.num_codebooks), dtype=np.int64)
        self._data = np.frombuffer(b"".join(payloads), dtype=np.uint8)
        self._ends = np.cumsum([0] + [len(payload) for payload in payloads])
        self._coders = np.stack([fresh_state() for _ in payloads])
        for s in range(S):
            start_decoding(self._coders[s], self._data[self._ends[s] : self._ends[s + 1]])
        self.done = np.zeros(S, dtype=np.int64)  # frames
        self.status = np.zeros(S, dtype=np.int64)  # below 0 where a segment broke off
        self.hashes = [int(FNV_OFFSET)] * S
        self.encoders = [RangeEncoder() for _ in payloads]
        self.ideal_bits = 0.0

    def code(self, is_decoding: bool, counts: np.ndarray, codes: np.ndarray) -> None:
        """Encode or decode ``counts[s]`` frames of ``[S, T, K]``; lower the count of a segment that breaks off."""
        low, high = np.zeros_like(codes), np.zeros_like(codes)
        code_frames(
            self._weights, self._lm, is_decoding, counts, self._before, self.done, self._restart, self._tables,
            self._coders, self._data, self._ends, self.status, codes, low, high,
        )  # fmt: skip
        for s, count in enumerate(counts.tolist()):
            ends = low[s, :count], high[s, :count]
            self.encoders[s].push_intervals(*ends)
            self.ideal_bits += ideal_bits(*ends, 1 << EXACT_TOTAL_BITS)
            if count:
                self._before[s] = codes[s, count - 1]
                self.hashes[s] = int(hash_intervals(np.uint64(self.hashes[s]), *ends))
        self.done += counts


def encode_frames(model: ExactLM, frames: Any) -> CodedFrames:
    """Encode a segment.

    Args:
        model: The language model.
        frames: Integers ``[T, K]``; T may be 0.

    Raises:
        UnsupportedInput: Another number of codebooks, no integers, or a vocabulary of 2^20 codes or more.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(np.asarray(frames), model.codebook_sizes, "The frames")
    if codes.ndim != 2:
        raise UnsupportedInput(f"Frames have the axes [T, K]; received {list(codes.shape)}.")
    segment = _Segments(model, [b""], _ENCODER_ROWS)
    for start in range(0, len(codes), _CHUNK_FRAMES):
        part = codes[start : start + _CHUNK_FRAMES].copy()  # read-only arrays are another type to numba
        segment.code(False, np.array([len(part)]), part[None])
    return CodedFrames(segment.encoders[0].finish(), segment.hashes[0], segment.ideal_bits)


def decode_frames(model: ExactLM, payload: bytes, num_frames: int) -> tuple[np.ndarray, int]:
    """Decode a segment of `encode_frames`.

    Args:
        model: The language model of the encoder.
        payload: Its bytes, neither more nor fewer.
        num_frames: ``T``.

    Returns:
        int64 ``[T, K]``, and the interval hash, which is the encoder's if the models agree.

    Raises:
        CorruptInput: The bytes end early, go on, or are not those of any ``T`` frames. Damage may also decode to other
            frames, which only a checksum finds.
        UnsupportedInput: A vocabulary of 2^20 codes or more.
    """
    (result,) = decode_many(model, [payload], [num_frames])
    if isinstance(result, CorruptInput):
        raise result
    return result


def decode_many(
    model: ExactLM, payloads: Sequence[bytes], num_frames: Sequence[int]
) -> list[tuple[np.ndarray, int] | CorruptInput]:
    """Decode several segments side by side, sharing the model's matrices while those are in the cache.

    Args:
        model: The language model of the encoder.
        payloads: Bytes of each segment.
        num_frames: ``T`` of each.

    Returns:
        For each segment what `decode_frames` returns, or the error that it would raise.

    Raises:
        UnsupportedInput: Another number of lengths than of segments.
    """
    if len(payloads) != len(num_frames):
        raise UnsupportedInput(f"{len(payloads)} segments were given with {len(num_frames)} numbers of frames.")
    if not payloads:
        return []
    S, K = len(payloads), model.num_codebooks
    segments = _Segments(model, payloads, S)
    left = np.array(num_frames, dtype=np.int64)
    parts: list[list[np.ndarray]] = [[np.zeros((0, K), dtype=np.int64)] for _ in payloads]
    while left.any():  # in pieces: a damaged header may ask for more frames than there is memory
        counts = np.minimum(left, _CHUNK_FRAMES)
        left -= counts
        codes = np.zeros((S, counts.max(), K), dtype=np.int64)
        segments.code(True, counts, codes)
        for s, count in enumerate(counts.tolist()):
            parts[s].append(codes[s, :count])
        left[segments.status < 0] = 0
    problems = [_problem(segments, s, payload) for s, payload in enumerate(payloads)]
    return [
        problem or (np.concatenate(frames), interval_hash)
        for problem, frames, interval_hash in zip(problems, parts, segments.hashes, strict=True)
    ]


def _problem(segments: _Segments, s: int, payload: bytes) -> CorruptInput | None:
    """Return what is wrong with a segment: it broke off, or its codes do not have exactly these bytes."""
    if segments.status[s] < 0:
        reason = "used up" if segments.status[s] == EXHAUSTED else "beyond all symbols"
        return CorruptInput(
            f"The segment breaks off after {segments.done[s]} frames: its {len(payload)} bytes are {reason}; it is "
            "truncated or damaged, or was made with another model."
        )
    written = segments.encoders[s].finish()
    if written != payload:
        return CorruptInput(
            f"The {segments.done[s]} frames that these bytes decode to are written as {len(written)} other bytes than "
            f"the segment's {len(payload)}; it is damaged, of another length, or was made with another model."
        )
    return None
