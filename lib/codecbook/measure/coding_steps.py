"""One symbol on its way into a stream, with every number in between."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codecbook.coding import range_coder as kernels
from codecbook.coding.cdf import coded_intervals
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, cdf_exact
from codecbook.coding.stream.segment import Damage
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.tokens.tokens import checked_codes


@dataclass(frozen=True)
class CoderState:
    """The range coder between two symbols."""

    low: int  # where the interval begins, of 2^56
    range: int  # its width
    num_bytes: int  # written so far; a carry may still change them


@dataclass(frozen=True, eq=False)
class CodedSymbol:
    """One symbol as the exact coder codes it."""

    frame: int  # of the segment
    codebook: int
    code: int
    logits: np.ndarray  # int32 [V], in 2^-8 bit
    counts: np.ndarray  # int64 [V], widths of all codes' intervals
    low: int  # where the code's interval begins, of `total`
    high: int  # where it ends
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
    """Encode a segment, integers ``[T, K]``, up to one symbol and keep what happens at it.

    Raises:
        UnsupportedInput: There is no such frame or codebook.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(np.asarray(codes), model.codebook_sizes, "The clip")
    T, K = codes.shape
    if not (0 <= frame < T and 0 <= codebook < K):
        raise UnsupportedInput(f"Frame {frame}, codebook {codebook} of {T} frames of {K} codebooks; choose one.")
    coded = codes[: frame + 1]
    logits = kernel_logits(model, coded)  # [T, K, V]
    cdf = cdf_exact(logits.transpose(0, 2, 1))
    low, high = (ends.ravel().tolist() for ends in coded_intervals(coded.T, cdf))
    state, buffer = kernels.fresh_state(), np.zeros(3 * codes.size + 8, dtype=np.uint8)
    place = frame * K + codebook
    for i in range(place):
        kernels.encode_step(state, buffer, low[i], high[i], EXACT_TOTAL_BITS)
    before = _snapshot(state)
    kernels.encode_step(state, buffer, low[place], high[place], EXACT_TOTAL_BITS)
    return CodedSymbol(
        frame, codebook, int(codes[frame, codebook]), logits[frame, codebook],
        np.diff(cdf[frame, codebook], prepend=0), low[place], high[place], before, _snapshot(state),
    )  # fmt: skip


def worked_out(symbol: CodedSymbol) -> CoderState:
    """Return the state after a symbol as the text has it, before settled bytes go out: with no help from the coder."""
    unit = symbol.before.range // symbol.total
    low, width = symbol.before.low + unit * symbol.low, unit * (symbol.high - symbol.low)
    return CoderState(low, width, symbol.before.num_bytes)


def settled(state: CoderState, num_bytes: int) -> CoderState:
    """Return a state once so many bytes are written in all."""
    shift = 8 * (num_bytes - state.num_bytes)
    return CoderState((state.low << shift) % (1 << 56), state.range << shift, num_bytes)


def wrong_frames(sent: np.ndarray, decoded: np.ndarray, damage: Iterable[Damage]) -> tuple[int, int]:
    """Return how many frames of ``[T, K]`` lie in what is reported as damaged, and how many others are wrong."""
    lost = np.zeros(len(sent), dtype=bool)
    for item in damage:
        lost[item.first_row : item.first_row + item.num_rows] = True
    return int(lost.sum()), int((decoded[~lost] != sent[~lost]).any(axis=1).sum())


def _snapshot(state: np.ndarray) -> CoderState:
    return CoderState(int(state[kernels.LOW]), int(state[kernels.RANGE]), int(state[kernels.POSITION]))
