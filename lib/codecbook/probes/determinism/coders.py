"""The five coders that are compared: where each takes its logits from, and how these become intervals."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from codecbook.coding.arithmetic import GridDecoder, GridEncoder, UpstreamDecoder, UpstreamEncoder
from codecbook.coding.counts import GRID_DIALECTS, TOTAL_BITS, GridDialect, cdf_exact, cdf_upstream
from codecbook.coding.exact_counts import EXACT_TOTAL_BITS
from codecbook.coding.range_coder import RangeDecoder, RangeEncoder

NUMBERS = ("float32", "float64", "exact")
"""Kinds of logits: of the float model in one of two types, or of its exact twin."""


class Encoder(Protocol):
    """What all encoders offer."""

    def push(self, symbol: int, cdf_row: np.ndarray) -> None:
        """Encode a symbol."""
        ...

    def push_frames(self, symbols: np.ndarray, cdf: np.ndarray) -> None:
        """Encode symbols ``[K, T]`` of rows ``[T, K, V]``."""
        ...

    def finish(self) -> bytes:
        """Return all bytes."""
        ...


class Decoder(Protocol):
    """What all decoders offer."""

    def pull(self, cdf_row: np.ndarray) -> int:
        """Decode a symbol."""
        ...


@dataclass(frozen=True)
class Coder:
    """From logits to bytes.

    Attributes:
        name: Key of results.
        title: What readers see.
        numbers: One of `NUMBERS`.
        dialect: Grid and counts; None for upstream's rule, and for the exact one.
    """

    name: str
    title: str
    numbers: str
    dialect: GridDialect | None = None

    @property
    def total_bits(self) -> int:
        """Intervals are shares of two to this power."""
        return EXACT_TOTAL_BITS if self.numbers == "exact" else TOTAL_BITS

    def cdf(self, logits: np.ndarray) -> np.ndarray:
        """Return CDF rows int64 ``[R, V]`` of logits ``[R, V]``.

        Each row is computed as a lone column, as a decoder must where codes of a frame depend on one another.
        """
        columns = logits[:, :, None]
        if self.numbers == "exact":
            return cdf_exact(columns)[:, 0]
        return (cdf_upstream(columns) if self.dialect is None else self.dialect.cdf(columns))[:, 0]

    def encoder(self) -> Encoder:
        """Return a fresh encoder."""
        if self.numbers == "exact":
            return RangeEncoder()
        return UpstreamEncoder() if self.dialect is None else GridEncoder()

    def decoder(self, data: bytes) -> Decoder:
        """Return a decoder of one segment's bytes."""
        if self.numbers == "exact":
            return RangeDecoder(data)
        return UpstreamDecoder(data) if self.dialect is None else GridDecoder(data)


_Q64 = GRID_DIALECTS["qstep64"]
CODERS = {
    coder.name: coder
    for coder in (
        Coder("upstream", "upstream (float32 softmax)", "float32"),
        Coder("grid128", "acv=4, grid 1/128, float32", "float32", GRID_DIALECTS["qstep128"]),
        Coder("grid64", "grid 1/64, float32", "float32", replace(_Q64, lm_dtype="float32")),
        Coder("float64", "acv=4, grid 1/64, float64", "float64", _Q64),
        Coder("exact", "exact integers", "exact"),
    )
}
"""By name. ``grid64`` is the coarser grid alone; with float64 in addition it is the dialect qstep64 as it stands."""
