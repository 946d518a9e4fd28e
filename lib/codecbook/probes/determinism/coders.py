"""The five coders that are compared: where each takes its logits from, and how these become intervals and bytes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codecbook.coding.arithmetic import GridDecoder, GridEncoder, UpstreamDecoder, UpstreamEncoder
from codecbook.coding.cdf import Decoder, Encoder, ideal_bits
from codecbook.coding.counts import GRID_DIALECTS, TOTAL, cdf_upstream
from codecbook.coding.exact.counts import EXACT_TOTAL_BITS, cdf_exact
from codecbook.coding.range_coder import RangeDecoder, RangeEncoder
from codecbook.probes.determinism.compare import intervals


@dataclass(frozen=True)
class Coder:
    """From logits to bytes."""

    name: str  # key of results
    title: str  # what readers see
    numbers: str  # "float32" or "float64", logits of the float model, or "exact", of its exact twin
    counts: Callable[[Any], np.ndarray]  # CDF [T, K, V] of logits [T, V, K]
    encoder: Callable[[], Encoder]
    decoder: Callable[[bytes], Decoder]  # of one segment's bytes
    qstep: float = float("nan")  # step of its grid in nats
    # where upstream's rule computes softmax and CDF: on its model's device, as the package does; others on the CPU
    device: str = "cpu"

    @property
    def total(self) -> int:
        """What intervals are shares of."""
        return 1 << EXACT_TOTAL_BITS if self.numbers == "exact" else TOTAL

    def cdf(self, logits: np.ndarray) -> np.ndarray:
        """Return CDF rows int64 ``[R, V]`` of logits ``[R, V]``.

        Each row is computed as a lone column, as a decoder must where codes of a frame depend on one another.
        """
        columns = logits[:, :, None]
        on_device = self.name == "upstream" and self.device != "cpu"
        return self.counts(_on(self.device, columns) if on_device else columns)[:, 0]

    def encode(self, cdf: np.ndarray, codes: np.ndarray) -> list[bytes]:
        """Return the bytes of each segment, for CDFs ``[N, T, K, V]`` and codes ``[N, T, K]``."""
        return [self.encoder().encode(segment.T, rows) for segment, rows in zip(codes, cdf, strict=True)]

    def bits(self, cdf: np.ndarray, codes: np.ndarray) -> float:
        """Return what the codes cost under these CDFs, in bits: no coder undercuts it."""
        ends = intervals(cdf, codes)
        return ideal_bits(ends[..., 0], ends[..., 1], self.total)


def _on(device: str, columns: np.ndarray) -> Any:
    import torch  # here, as the exact coder needs numpy alone

    return torch.from_numpy(np.ascontiguousarray(columns)).to(device)


_Q128, _Q64 = GRID_DIALECTS["qstep128"], GRID_DIALECTS["qstep64"]
_GRID32 = replace(_Q64, lm_dtype="float32")
CODERS = {
    coder.name: coder
    for coder in (
        Coder("upstream", "upstream (float32 softmax)", "float32", cdf_upstream, UpstreamEncoder, UpstreamDecoder),
        Coder("grid128", "acv=4, grid 1/128, float32", "float32", _Q128.cdf, GridEncoder, GridDecoder, _Q128.qstep),
        Coder("grid64", "grid 1/64, float32", "float32", _GRID32.cdf, GridEncoder, GridDecoder, _GRID32.qstep),
        Coder("float64", "acv=4, grid 1/64, float64", "float64", _Q64.cdf, GridEncoder, GridDecoder, _Q64.qstep),
        Coder("exact", "exact integers", "exact", cdf_exact, RangeEncoder, RangeDecoder),
    )
}
"""By name. ``grid64`` is the coarser grid alone; with float64 in addition it is the dialect qstep64 as it stands."""
