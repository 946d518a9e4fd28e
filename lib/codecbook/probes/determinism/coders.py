"""The five coders that are compared: where each takes its logits from, and how these become intervals and bytes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codecbook.coding.arithmetic import GridDecoder, GridEncoder, UpstreamDecoder, UpstreamEncoder
from codecbook.coding.counts import GRID_DIALECTS, TOTAL_BITS, GridDialect, cdf_exact, cdf_upstream
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS
from codecbook.coding.range_coder import RangeDecoder, RangeEncoder
from codecbook.probes.determinism.compare import intervals


@dataclass(frozen=True)
class Coder:
    """From logits to bytes."""

    name: str  # key of results
    title: str  # what readers see
    numbers: str  # "float32" or "float64", logits of the float model, or "exact", of its exact twin
    dialect: GridDialect | None = None  # grid and counts; None for upstream's rule, and for the exact one
    # where upstream's rule computes softmax and CDF: on its model's device, as the package does; others on the CPU
    device: str = "cpu"

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
        if self.dialect is not None:
            return self.dialect.cdf(columns)[:, 0]
        return cdf_upstream(columns if self.device == "cpu" else _on(self.device, columns))[:, 0]

    def encoder(self) -> Any:
        """Return a fresh encoder, with ``push(symbol, row)``, ``push_frames(symbols [K, T], cdf)`` and ``finish()``."""
        if self.numbers == "exact":
            return RangeEncoder()
        return UpstreamEncoder() if self.dialect is None else GridEncoder()

    def decoder(self, data: bytes) -> Any:
        """Return a decoder of one segment's bytes, with ``pull(row)``."""
        if self.numbers == "exact":
            return RangeDecoder(data)
        return UpstreamDecoder(data) if self.dialect is None else GridDecoder(data)


def _on(device: str, columns: np.ndarray) -> Any:
    import torch  # here, as the exact coder needs numpy alone

    return torch.from_numpy(np.ascontiguousarray(columns)).to(device)


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


def encode_segments(coder: Coder, cdf: np.ndarray, codes: np.ndarray) -> list[bytes]:
    """Return the bytes of each segment, for CDFs ``[N, T, K, V]`` and codes ``[N, T, K]``.

    Raises:
        UnsupportedInput: A code that upstream's coder cannot express.
    """
    streams = []
    for segment, rows in zip(codes, cdf, strict=True):
        encoder = coder.encoder()
        encoder.push_frames(segment.T, rows)
        streams.append(encoder.finish())
    return streams


def ideal_bits(coder: Coder, cdf: np.ndarray, codes: np.ndarray) -> float:
    """Return what the codes cost under these CDFs, in bits: no coder undercuts it."""
    ends = intervals(cdf, codes)
    return float((coder.total_bits - np.log2(ends[..., 1] - ends[..., 0])).sum())
