"""`Layout`: which rows a language model sees of a clip's codes, and back from rows to `Tokens`.

==========================  ==============  ========================  ==========================================
order                       rows ``[T, K]``  rows per coarsest frame  of `codecbook.tokens.orders`
==========================  ==============  ========================  ==========================================
``"parallel"``              ``[T, K]``      1                         `parallel_stack`: a frame a row
``"flat"``                  ``[T K, 1]``    K                         `rvq_flatten`: codebook k's codes moved up
``"orpheus"``               ``[7 T, 1]``    7 (SNAC's three levels)   `orpheus_flatten`, offsets per level
``"orpheus_per_position"``  ``[7 T, 1]``    7                         `orpheus_flatten`, offsets per position
==========================  ==============  ========================  ==========================================

A single codebook (FSQ, or the first of a residual quantiser) is ``"parallel"`` with one column.
"""

from dataclasses import dataclass, replace

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.tokens import Tokens, orders

ORDERS = ("parallel", "flat", "orpheus", "orpheus_per_position")


def without_codes(tokens: Tokens) -> Tokens:
    """Return what is known of the codec and not of the clip: no codes, length, segments or scales."""
    return replace(
        tokens,
        codes=tuple(np.zeros(0, dtype=np.int64) for _ in tokens.codes),
        num_samples=None,
        segment_frames=(),
        scales=(),
        source_bitrate_kbps=None,
    )


@dataclass(frozen=True)
class Layout:
    """An order, for the codebooks of one codec.

    Attributes:
        order: One of `ORDERS`.
        template: Tokens without codes: codebook sizes, rates, and what else is known of the codec.

    Raises:
        UnsupportedInput: An unknown order, or rates that it cannot take.
    """

    order: str
    template: Tokens

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UnsupportedInput(f"order={self.order!r} is unknown; choose one of {', '.join(ORDERS)}.")
        rates = self.template.frame_rates_hz
        step = 2.0 if self.order.startswith("orpheus") else 1.0
        # NPQ keeps rates as float32, so rates that are meant to be equal may differ in the eighth digit
        if not np.allclose(rates, [rates[0] * step**level for level in range(len(rates))], rtol=1e-6, atol=0):
            raise UnsupportedInput(
                f"order={self.order!r} needs codebooks "
                f"{'whose rates double' if step == 2 else 'of one rate'}; these have "
                f"{[f'{rate:g}' for rate in rates]} Hz. SNAC's levels take 'orpheus', codebooks of one rate "
                "'parallel' or 'flat'."
            )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """How many values each column of the rows can have."""
        sizes = self.template.codebook_sizes
        if self.order == "parallel":
            return sizes
        if self.order == "flat":
            return (orders.flat_vocabulary_size(sizes),)
        return (orders.orpheus_vocabulary_size(sizes, self._per_position),)

    @property
    def rows_per_frame(self) -> int:
        """Rows made of one frame of the first codebook."""
        count = self.template.num_codebooks
        if self.order == "parallel":
            return 1
        return count if self.order == "flat" else (1 << count) - 1

    @property
    def frame_rate_hz(self) -> float:
        """Rows per second, nominally."""
        return self.template.frame_rates_hz[0] * self.rows_per_frame

    def to_rows(self, tokens: Tokens) -> np.ndarray:
        """Return the rows of a clip as int64 ``[T, K]``.

        Raises:
            UnsupportedInput: Codebooks whose lengths do not fit the order.
        """
        if self.order == "parallel":
            return orders.parallel_stack(tokens)
        if self.order == "flat":
            return orders.rvq_flatten(tokens)[:, None]
        return orders.orpheus_flatten(tokens, self._per_position)[:, None]

    def to_tokens(self, rows: np.ndarray) -> Tokens:
        """Undo `to_rows`, for rows that a model has sampled as well; each value must be one its place allows.

        Args:
            rows: Integers ``[T, K]``, whole frames.

        Raises:
            CorruptInput: A value of another codebook than its place's, or an incomplete last frame.
            UnsupportedInput: Another number of columns, or no integers.
        """
        array = np.asarray(rows)
        columns = len(self.codebook_sizes)
        if array.ndim != 2 or array.shape[1] != columns:
            raise UnsupportedInput(
                f"Rows of order {self.order!r} have the shape [T, {columns}]; received {list(array.shape)}."
            )
        known = self.template
        rate_hz = known.frame_rates_hz[0]
        if self.order == "parallel":
            tokens = orders.parallel_unstack(array, known.codebook_sizes, rate_hz)
        elif self.order == "flat":
            tokens = orders.rvq_unflatten(array[:, 0], known.codebook_sizes, rate_hz)
        else:
            tokens = orders.orpheus_unflatten(array[:, 0], known.codebook_sizes, rate_hz, self._per_position)
        return replace(known, codes=tokens.codes)

    @property
    def _per_position(self) -> bool:
        return self.order == "orpheus_per_position"
