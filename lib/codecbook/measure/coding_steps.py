"""One symbol on its way into a stream, with every number in between."""

from dataclasses import dataclass

import numpy as np

from codecbook.coding import range_coder as kernels
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, cdf_exact
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import ExactLM, ExactStepper
from codecbook.tokens.checks import checked_codes


@dataclass(frozen=True)
class CoderState:
    """The range coder between two symbols.

    Attributes:
        low: Where the interval begins, of 2^56.
        range: Its width.
        num_bytes: Bytes written so far; a carry may still change them.
    """

    low: int
    range: int
    num_bytes: int


@dataclass(frozen=True, eq=False)
class CodedSymbol:
    """One symbol as the exact coder codes it.

    Attributes:
        frame: Which frame of the segment.
        codebook: Which codebook of the frame.
        code: Its value.
        logits: int32 ``[V]``, in 2^-8 bit.
        counts: int64 ``[V]``, widths of all codes' intervals, of sum ``total``.
        low: Where the code's interval begins, of ``total``.
        high: Where it ends.
        before: The coder before the symbol.
        after: The coder after it.
    """

    frame: int
    codebook: int
    code: int
    logits: np.ndarray
    counts: np.ndarray
    low: int
    high: int
    before: CoderState
    after: CoderState

    @property
    def total(self) -> int:
        """What all counts add up to."""
        return 1 << EXACT_TOTAL_BITS

    @property
    def bits(self) -> float:
        """Information of the symbol: ``log2(total / count)``."""
        return float(np.log2(self.total / (self.high - self.low)))


def trace_symbol(model: ExactLM, codes: np.ndarray, frame: int, codebook: int) -> CodedSymbol:
    """Encode a segment up to one symbol and keep what happens at it.

    Args:
        model: Exact language model.
        codes: Integers ``[T, K]``.
        frame: Which frame.
        codebook: Which codebook.

    Raises:
        UnsupportedInput: There is no such frame or codebook.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(np.asarray(codes), model.codebook_sizes, "The clip")
    T, K = codes.shape
    if not (0 <= frame < T and 0 <= codebook < K):
        raise UnsupportedInput(
            f"Frame {frame}, codebook {codebook} of {T} frames of {K} codebooks; choose one of them."
        )
    state, buffer = kernels.fresh_state(), np.zeros(3 * codes.size + 8, dtype=np.uint8)
    stepper = ExactStepper(model)
    for t in range(frame + 1):
        stepper.begin_frame()
        for k in range(K):
            logits, code = stepper.logits(k), int(codes[t, k])
            cdf = cdf_exact(logits)
            low, high = (int(cdf[code - 1]) if code else 0), int(cdf[code])
            before = _snapshot(state)
            kernels.encode_step(state, buffer, low, high, EXACT_TOTAL_BITS)
            if (t, k) == (frame, codebook):
                counts = np.diff(cdf, prepend=0)
                return CodedSymbol(t, k, code, logits, counts, low, high, before, _snapshot(state))
            stepper.push(k, code)
    raise AssertionError("the symbol is inside the frames")


def _snapshot(state: np.ndarray) -> CoderState:
    return CoderState(int(state[kernels.LOW]), int(state[kernels.RANGE]), int(state[kernels.POSITION]))
