"""Frames of tokens to bytes and back with an exact language model: what a stream's segments consist of. Normative.

A segment is coded on its own. Frame ``t`` is predicted from the frames before it in the segment, starting from BOS; a
model with rotary positions starts from BOS again at every ``W``-th frame (``t mod W = 0``). Within a frame, codebook
after codebook: the logits of `codecbook.lm.exact` become counts by
`codecbook.coding.exact_counts.cdf_exact` with a total of 2^20, and the code's interval ``[low, high)`` goes to the
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

from codecbook.coding import range_kernels
from codecbook.coding.cdf import ideal_bits
from codecbook.coding.exact_counts import EXACT_TOTAL_BITS, exact_exp_table
from codecbook.coding.exact_segment_kernels import FNV_OFFSET, code_frames, hash_intervals
from codecbook.coding.range_coder import RangeEncoder
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.batches import checked_codes
from codecbook.lm.exact.arithmetic import exp2_table
from codecbook.lm.exact.kernel_state import kernel_state, kernel_weights
from codecbook.lm.exact.model import ExactLM

_ENCODER_ROWS = 16
"""Known frames that go through the model together."""
_CHUNK_FRAMES = 1024
_BYTES_PER_SYMBOL = 3


@dataclass(frozen=True)
class Segment:
    """Frames as bytes.

    Attributes:
        payload: Bytes of the range coder.
        interval_hash: 64-bit hash of the intervals that were coded.
        ideal_bits: Information of the frames under the model's counts, in bits.
    """

    payload: bytes
    interval_hash: int
    ideal_bits: float


class _Side:
    """What encoder and decoder share: the model, prepared, and its restarts."""

    def __init__(self, model: ExactLM, streams: int, rows: int) -> None:
        config = model.config
        if config.codebook_size >= 1 << EXACT_TOTAL_BITS:
            raise UnsupportedInput(
                f"{config.codebook_size} codes do not fit a total of 2^{EXACT_TOTAL_BITS}; use a smaller vocabulary."
            )
        self.model = model
        self._weights = kernel_weights(model)
        self._lm = kernel_state(model, streams, rows)
        self._restart = config.window_frames if config.rotary else 0
        self._tables = (exp2_table(), exact_exp_table())
        self._hashes = [FNV_OFFSET] * streams
        self._before = np.zeros((streams, config.num_codebooks), dtype=np.int64)
        self._firsts = np.zeros(streams, dtype=np.int64)
        self._status = np.zeros(streams, dtype=np.int64)

    def _code(
        self, is_decoding: bool, counts: np.ndarray, codes: np.ndarray,
        coders: np.ndarray, data: np.ndarray, ends: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Encode or decode ``counts[s]`` frames of ``[S, T, K]``; return the intervals, int64 ``[S, T, K]``."""
        low, high = np.zeros_like(codes), np.zeros_like(codes)
        code_frames(
            self._weights, self._lm, is_decoding, counts, self._before, self._firsts, self._restart, self._tables,
            coders, data, ends, self._status, codes, low, high,
        )  # fmt: skip
        for s, count in enumerate(counts.tolist()):
            if count:
                self._before[s] = codes[s, count - 1]
                self._hashes[s] = np.uint64(hash_intervals(self._hashes[s], low[s, :count], high[s, :count]))
        self._firsts += counts
        return low, high


class FrameEncoder(_Side):
    """Encode one segment as frames come.

    Args:
        model: The language model.

    Raises:
        UnsupportedInput: A vocabulary of 2^20 codes or more.
    """

    def __init__(self, model: ExactLM) -> None:
        super().__init__(model, 1, _ENCODER_ROWS)
        self._coder = range_kernels.fresh_state()
        self._buffer = np.zeros(64, dtype=np.uint8)
        self._ideal_bits = 0.0

    def push(self, frames: Any) -> int:
        """Encode further frames.

        Args:
            frames: Integers ``[T, K]``.

        Returns:
            Number of bytes so far. They are not given out before `finish`, as a carry may still change them.

        Raises:
            UnsupportedInput: Another number of codebooks, or no integers.
            CorruptInput: A code outside its codebook.
        """
        codes = checked_codes(np.asarray(frames), self.model.codebook_sizes, "The frames")
        if codes.ndim != 2:
            raise UnsupportedInput(f"Frames have the axes [T, K]; received {list(codes.shape)}.")
        for start in range(0, len(codes), _CHUNK_FRAMES):
            self._push(
                codes[start : start + _CHUNK_FRAMES].copy()
            )  # read-only arrays are another type to numba
        return int(self._coder[range_kernels.POSITION])

    def _push(self, codes: np.ndarray) -> None:
        needed = int(self._coder[range_kernels.POSITION]) + _BYTES_PER_SYMBOL * codes.size + 8
        if needed > len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.zeros(needed, dtype=np.uint8)])
        nothing = np.frombuffer(b"", dtype=np.uint8)
        counts, ends = np.array([len(codes)]), np.zeros(2, dtype=np.int64)
        low, high = self._code(False, counts, codes[None], self._coder[None], nothing, ends)
        low, high = low[0], high[0]
        range_kernels.encode_all(self._coder, self._buffer, low.ravel(), high.ravel(), EXACT_TOTAL_BITS)
        self._ideal_bits += ideal_bits(low, high, 1 << EXACT_TOTAL_BITS)

    def finish(self) -> Segment:
        """Return the segment; the encoder then begins another one."""
        range_kernels.encode_end(self._coder, self._buffer)
        payload = self._buffer[: self._coder[range_kernels.POSITION]].tobytes()
        segment = Segment(payload, int(self._hashes[0]), self._ideal_bits)
        self._coder = range_kernels.fresh_state()
        self._hashes[0] = FNV_OFFSET
        self._firsts[0], self._ideal_bits = 0, 0.0
        return segment


class _Decoder(_Side):
    """Decode several segments side by side, which share the model's matrices while those are in the cache."""

    def __init__(self, model: ExactLM, payloads: Sequence[bytes]) -> None:
        S = len(payloads)
        super().__init__(model, S, S)
        self._payloads = [bytes(payload) for payload in payloads]
        self._data = np.frombuffer(b"".join(self._payloads), dtype=np.uint8)
        self._ends = np.cumsum([0] + [len(payload) for payload in self._payloads])
        self._coders = np.stack([range_kernels.fresh_state() for _ in range(S)])
        for s in range(S):
            range_kernels.start_decoding(self._coders[s], self._data[self._ends[s] : self._ends[s + 1]])
        self._encoders = [RangeEncoder() for _ in range(S)]

    def pull(self, counts: np.ndarray) -> list[np.ndarray]:
        """Decode further frames of each segment: int64 ``[counts[s], K]``; fewer where one broke off."""
        S, K = self._before.shape
        shape = (S, int(counts.max(initial=0)), K)
        codes = np.zeros(shape, dtype=np.int64)
        done = np.where(self._status == 0, counts, 0).astype(np.int64)
        low, high = self._code(True, done, codes, self._coders, self._data, self._ends)
        for s, count in enumerate(done.tolist()):
            self._encoders[s].push_intervals(low[s, :count], high[s, :count])
        return [codes[s, :count] for s, count in enumerate(done.tolist())]

    def broken(self, s: int) -> CorruptInput | None:
        """Return why a segment broke off, if it did."""
        if self._status[s] == 0:
            return None
        reason = "used up" if self._status[s] == range_kernels.EXHAUSTED else "beyond all symbols"
        return CorruptInput(
            f"The segment breaks off after {self._firsts[s]} frames: its {len(self._payloads[s])} bytes are {reason}; "
            "it is truncated or damaged, or was made with another model."
        )

    def finish(self, s: int) -> int:
        """Return a segment's interval hash, having checked that its codes have exactly these bytes."""
        problem = self.broken(s)
        if problem is not None:
            raise problem
        written = self._encoders[s].finish()
        if written != self._payloads[s]:
            raise CorruptInput(
                f"The {self._firsts[s]} frames that these bytes decode to are written as {len(written)} other bytes "
                f"than the segment's {len(self._payloads[s])}; it is damaged, of another length, or was made with "
                "another model."
            )
        return int(self._hashes[s])


class FrameDecoder:
    """Decode one segment as its frames are wanted. Until `finish`, frames of damaged bytes look like any others.

    Args:
        model: The language model of the encoder.
        payload: All bytes of the segment.

    Raises:
        UnsupportedInput: A vocabulary of 2^20 codes or more.
    """

    def __init__(self, model: ExactLM, payload: bytes) -> None:
        self._decoder = _Decoder(model, [payload])

    def pull(self, num_frames: int) -> np.ndarray:
        """Return the next frames, int64 ``[num_frames, K]``.

        Raises:
            CorruptInput: The bytes are used up, or point beyond all symbols.
        """
        # in pieces: a damaged header may ask for more frames than there is memory
        parts = [np.zeros((0, self._decoder.model.num_codebooks), dtype=np.int64)]
        for start in range(0, num_frames, _CHUNK_FRAMES):
            parts += self._decoder.pull(np.array([min(_CHUNK_FRAMES, num_frames - start)]))
            problem = self._decoder.broken(0)
            if problem is not None:
                raise problem
        return np.concatenate(parts)

    def finish(self) -> int:
        """Return the interval hash of the frames pulled.

        Raises:
            CorruptInput: These frames' encoder would have written other bytes.
        """
        return self._decoder.finish(0)


def encode_frames(model: ExactLM, frames: Any) -> Segment:
    """Encode a segment.

    Args:
        model: The language model.
        frames: Integers ``[T, K]``; T may be 0.

    Raises:
        UnsupportedInput: Another number of codebooks, or no integers.
        CorruptInput: A code outside its codebook.
    """
    encoder = FrameEncoder(model)
    encoder.push(frames)
    return encoder.finish()


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
    """
    decoder = FrameDecoder(model, payload)
    return decoder.pull(num_frames), decoder.finish()


def decode_many(
    model: ExactLM, payloads: Sequence[bytes], num_frames: Sequence[int]
) -> list[tuple[np.ndarray, int] | CorruptInput]:
    """Decode several segments side by side, which takes less time than one after the other.

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
        raise UnsupportedInput(
            f"{len(payloads)} segments were given with {len(num_frames)} numbers of frames."
        )
    if not payloads:
        return []
    decoder = _Decoder(model, payloads)
    left = np.array(num_frames, dtype=np.int64)
    parts: list[list[np.ndarray]] = [[np.zeros((0, model.num_codebooks), dtype=np.int64)] for _ in payloads]
    while left.any():
        wanted = np.minimum(left, _CHUNK_FRAMES)
        for s, frames in enumerate(decoder.pull(wanted)):
            parts[s].append(frames)
            left[s] = 0 if decoder.broken(s) else left[s] - wanted[s]
    results: list[tuple[np.ndarray, int] | CorruptInput] = []
    for s, frames in enumerate(parts):
        try:
            results.append((np.concatenate(frames), decoder.finish(s)))
        except CorruptInput as error:
            results.append(error)
    return results
