"""Encode and decode long clips piece by piece: where to cut, and overlapping pieces for networks that look ahead."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def chunk_bounds(length: int, chunk: int, align: int = 1) -> list[tuple[int, int]]:
    """Cut ``0..length`` into pieces of `chunk`, the last one being up to twice as long.

    No piece is shorter than `chunk` unless the whole is: networks pad at the ends by reflection, which needs some
    samples, and short matrix products may be summed in another order than long ones.

    Args:
        length: Samples or frames.
        chunk: Length of a piece; rounded down to a multiple of `align`, at least `align`.
        align: Pieces begin at multiples of this.

    Returns:
        Half-open ranges that follow each other.

    Example:
        >>> chunk_bounds(25, 10)
        [(0, 10), (10, 25)]
    """
    chunk = max(align, chunk // align * align)
    starts = list(range(0, max(1, length - chunk + 1), chunk))
    return list(zip(starts, [*starts[1:], length], strict=True))


def run_with_context(
    run: Callable[[Tensor], Tensor | list[Tensor]],
    signal: Tensor,
    bounds: list[tuple[int, int]],
    context: int,
    rates: list[tuple[int, int]],
) -> list[Tensor]:
    """Run a network without state over overlapping pieces and keep what each piece alone determines.

    Outputs near a cut depend on zeros that the network pads with; `context` samples on either side, the receptive
    field or more, are run along and their outputs dropped.

    Args:
        run: Takes ``[B, C, S]``, returns one or several outputs ``[..., T_i]``.
        signal: ``[B, C, S]``.
        bounds: Of `chunk_bounds`; all starts are multiples of every rate's input step.
        context: Samples on either side, such a multiple too.
        rates: For each output (steps of the input, outputs made of them): (512, 1) for a code every 512
            samples, (1, 512) for 512 samples out of a code.

    Returns:
        One tensor ``[..., T_i]`` per output.
    """
    parts: list[list[Tensor]] = [[] for _ in rates]
    for start, end, piece, offset in _pieces(signal, bounds, context):
        outputs = run(piece)
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        is_last = end == signal.shape[-1]
        for kept, output, (steps, made) in zip(parts, outputs, rates, strict=True):
            first = (start - offset) // steps * made
            # what follows the last cut is as long as the network makes it, whatever it pads or trims there
            after = output.shape[-1] if is_last else (end - offset) // steps * made
            kept.append(output[..., first:after])
    return [torch.cat(kept, dim=-1) for kept in parts]


def _pieces(
    signal: Tensor, bounds: list[tuple[int, int]], context: int
) -> Iterator[tuple[int, int, Tensor, int]]:
    for start, end in bounds:
        offset = max(0, start - context)
        yield start, end, signal[..., offset : min(signal.shape[-1], end + context)], offset
