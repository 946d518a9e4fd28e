"""Which coders decode on another configuration what was encoded on this one: cells in processes of their own.

A `Case` is a folder with a language model, its exact twin and tokens. A `Cell` is a configuration: backend, threads,
instruction set and so on. `run_matrix` runs each cell in a fresh process, because these settings act when a process
starts, and compares what it computes with the first cell's: hashes of every step, logits, CDF rows, coded intervals,
and the tokens that come out when the cell decodes the first cell's streams.
"""

from typing import TYPE_CHECKING

from codecbook.lazy import lazy_names

if TYPE_CHECKING:
    from codecbook.probes.determinism.case import Case, open_case
    from codecbook.probes.determinism.case_maker import make_case
    from codecbook.probes.determinism.cells import Cell, fast_cells, full_cells, group_of
    from codecbook.probes.determinism.coders import CODERS, Coder
    from codecbook.probes.determinism.compare import CellResult
    from codecbook.probes.determinism.matrix import run_matrix, tabulate

__all__ = [
    "CODERS", "Case", "Cell", "CellResult", "Coder", "fast_cells", "full_cells", "group_of", "make_case",
    "open_case", "run_matrix", "tabulate",
]  # fmt: skip

# a cell of exact integers runs where there are neither torch nor pandas
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "codecbook.probes.determinism.case": ("Case", "open_case"),
        "codecbook.probes.determinism.case_maker": ("make_case",),
        "codecbook.probes.determinism.cells": ("Cell", "fast_cells", "full_cells", "group_of"),
        "codecbook.probes.determinism.coders": ("CODERS", "Coder"),
        "codecbook.probes.determinism.compare": ("CellResult",),
        "codecbook.probes.determinism.matrix": ("run_matrix", "tabulate"),
    },
)
