"""`Cell`: one configuration, how a process is started in it, and why a machine may not have it."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from codecbook import compiled
from codecbook.errors import UnsupportedInput
from codecbook.lazy import optional_module

BACKENDS = ("torch", "numba", "numpy", "numpy-blas")
MODES = ("stepping", "full")


@dataclass(frozen=True)
class Cell:
    """A configuration that a process can be started in.

    Attributes:
        name: What tables call it.
        backend: ``"torch"``, or for the exact coder ``"numba"`` (compiled), ``"numpy"`` (the reference, int64) or
            ``"numpy-blas"`` (the reference, its matrices multiplied by numpy's BLAS as float32).
        device: Torch device.
        threads: Threads of torch and of its libraries.
        capability: ``ATEN_CPU_CAPABILITY``: ``"default"``, ``"avx2"``, ``"avx512"``; empty takes the best there is.
        mkl_cbwr: ``MKL_CBWR``, such as ``"COMPATIBLE"``; empty leaves it unset.
        onednn: Whether torch may use oneDNN.
        batch: Segments that are evaluated side by side.
        mode: ``"stepping"`` evaluates code by code, as a decoder must; ``"full"`` whole segments at once, as an
            encoder could.
    """

    name: str
    backend: str = "torch"
    device: str = "cpu"
    threads: int = 1
    capability: str = ""
    mkl_cbwr: str = ""
    onednn: bool = True
    batch: int = 1
    mode: str = "stepping"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS or self.mode not in MODES:
            raise UnsupportedInput(
                f"Cell {self.name!r} has backend {self.backend!r} and mode {self.mode!r}; choose of {BACKENDS} and "
                f"{MODES}."
            )
        if self.threads < 1 or self.batch < 1:
            raise UnsupportedInput(
                f"Cell {self.name!r} has {self.threads} threads and batch {self.batch}; both start at 1."
            )

    def arguments(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process in this configuration; all others are inherited."""
        variables = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
        variables |= {name: str(self.threads) for name in _THREADS}
        # threads that wait must not keep the others of a busy machine from running
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
        if self.capability:
            variables["ATEN_CPU_CAPABILITY"] = self.capability
        if self.mkl_cbwr:
            variables["MKL_CBWR"] = self.mkl_cbwr
        return variables


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SETTINGS = {"ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", *_THREADS}
NO_TORCH = "there is no torch here"

BASELINE = Cell("baseline")
"""One thread, one segment, code by code: what a decoder that wants to be repeatable would do."""


def fast_cells() -> tuple[Cell, ...]:
    """Return the cells of a short run; the first is the baseline."""
    return (
        BASELINE,
        Cell("full sequence", mode="full"),
        Cell("batch 8", batch=8),
        Cell("AVX2", capability="avx2"),
        Cell("no vector code", capability="default"),
        Cell("MKL compatible", mkl_cbwr="COMPATIBLE"),
        Cell("oneDNN off", onednn=False),
        Cell("2 threads", threads=2),
        Cell("numba", backend="numba"),
        Cell("numpy", backend="numpy"),
        Cell("CUDA", device="cuda"),
    )


def full_cells() -> tuple[Cell, ...]:
    """Return the cells of a long run: those of `fast_cells`, and combinations."""
    return (
        *fast_cells(),
        Cell("AVX-512", capability="avx512"),
        Cell("MKL AVX2", mkl_cbwr="AVX2"),
        Cell("full, batch 8", mode="full", batch=8),
        Cell("full, 2 threads", mode="full", threads=2),
        Cell("batch 8, 2 threads", batch=8, threads=2),
        Cell("batch 8, AVX2", batch=8, capability="avx2"),
        Cell("full, no vector code", mode="full", capability="default"),
        Cell("numba, full", backend="numba", mode="full"),
        Cell("numba, batch 8", backend="numba", batch=8),
        Cell("CUDA, batch 8", device="cuda", batch=8),
    )


def apply_settings(cell: Cell) -> None:
    """Make the settings of a cell that act after the start of its process; without torch there are none."""
    torch: Any = optional_module("torch")
    if torch is not None:
        torch.set_num_threads(cell.threads)
        torch.backends.mkldnn.enabled = cell.onednn


def reason_to_skip(cell: Cell) -> str:
    """Return why this process cannot be the cell, or nothing if it is."""
    if cell.backend == "numba" and compiled.numba is None:
        return "there is no numba here"
    torch: Any = optional_module("torch")
    if torch is None:
        needs_torch = cell.backend == "torch" or cell.capability or cell.mkl_cbwr or not cell.onednn
        return NO_TORCH if needs_torch or cell.device != "cpu" else ""
    if cell.device.startswith("cuda") and not torch.cuda.is_available():
        return "there is no CUDA device"
    found = torch.backends.cpu.get_cpu_capability().lower()
    if cell.capability and cell.capability != found:
        return f"the processor or this build of torch has no {cell.capability}; it runs as {found}"
    if cell.mkl_cbwr and not torch.backends.mkl.is_available():
        return "this build of torch has no MKL"
    if not cell.onednn and not torch.backends.mkldnn.is_available():
        return "this build of torch has no oneDNN to turn off"
    return ""
