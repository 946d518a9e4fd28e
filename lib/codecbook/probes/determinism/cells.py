"""`Cell`: one configuration, how a process is started in it, why a machine may lack it; and which are tried."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecbook import compiled
from codecbook.errors import UnsupportedInput
from codecbook.lazy import optional_module

_LIBRARY = Path(compiled.__file__).parents[1]
_CHOICES = {
    "backend": ("torch", "numba", "numpy", "numpy-blas", "onnx"),
    "mode": ("stepping", "full"),
    "precision": ("", "tf32", "bf16", "autocast"),
    "graph_optimisation": ("all", "none", "basic", "extended"),
}


@dataclass(frozen=True)
class Cell:
    """A configuration that a process can be started in.

    For the exact coder a backend may also be ``"numba"`` (compiled), ``"numpy"`` (the reference, int64) or
    ``"numpy-blas"`` (the reference, its matrices multiplied by numpy's BLAS as float32).
    """

    name: str  # what tables call it
    backend: str = "torch"  # or "onnx", ONNX Runtime
    device: str = "cpu"  # of torch
    threads: int = 1  # of torch and of its libraries
    capability: str = ""  # ATEN_CPU_CAPABILITY: "default", "avx2", "avx512"; empty takes the best there is
    mkl_cbwr: str = ""  # MKL_CBWR, such as "COMPATIBLE"; empty leaves it unset
    onednn_isa: str = ""  # ONEDNN_MAX_CPU_ISA, such as "SSE41"; empty takes the best there is
    numba_cpu: str = ""  # NUMBA_CPU_NAME, such as "generic"; empty is this machine's
    onednn: bool = True  # whether torch may use oneDNN
    batch: int = 1  # segments that are evaluated side by side
    mode: str = "stepping"  # code by code, as a decoder must; "full": whole segments at once, as an encoder could
    # "tf32" or "bf16" permit products of such numbers, "autocast" bfloat16 wherever torch holds that to be safe
    precision: str = ""
    compiled: bool = False  # torch.compile turns the model into code of its own; in full passes only
    graph_optimisation: str = "all"  # of ONNX Runtime
    processor: str = ""  # another processor, emulated (tools/foreign.py); empty is this machine's
    processor_model: str = ""  # its model, with the emulator's options; empty takes the usual one
    float_segments: int = 0  # coders of floats compute so many segments only, where an emulator is slow; 0 is all

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UnsupportedInput(f"Cell {self.name!r} has {name} {getattr(self, name)!r}; choose of {allowed}.")
        if self.threads < 1 or self.batch < 1 or self.float_segments < 0:
            raise UnsupportedInput(
                f"Cell {self.name!r} has {self.threads} threads, batch {self.batch} and {self.float_segments} segments "
                "for floats; the first two start at 1, the last at 0."
            )
        if self.compiled and (self.backend, self.mode) != ("torch", "full"):
            raise UnsupportedInput(f"Cell {self.name!r} is compiled, which is tried on torch's full passes alone.")

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process in this configuration; all others are inherited."""
        variables = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
        variables |= {name: str(self.threads) for name in _THREADS}
        # threads that wait must not keep the others of a busy machine from running
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
        chosen = {
            "ATEN_CPU_CAPABILITY": self.capability,
            "MKL_CBWR": self.mkl_cbwr,
            "ONEDNN_MAX_CPU_ISA": self.onednn_isa,
            "NUMBA_CPU_NAME": self.numba_cpu,
            "PYTHONPATH": str(_LIBRARY) if self.processor else "",
            "QEMU_CPU": self.processor_model,
        }
        return variables | {name: value for name, value in chosen.items() if value}


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SETTINGS = {"ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", *_THREADS}
NO_TORCH = "there is no torch here"

BASELINE = Cell("baseline")
"""One thread, one segment, code by code: what a decoder that wants to be repeatable would do."""


def roots_folder() -> Path:
    """Return the folder of emulated Pythons: ``CODECBOOK_ROOTS``, or one in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("CODECBOOK_ROOTS") or cache / "codecbook/roots").expanduser().resolve()


def apply_settings(cell: Cell) -> None:
    """Make the settings of a cell that act after the start of its process; without torch there are none."""
    torch = torch_of(cell)
    if torch is not None:
        torch.set_num_threads(cell.threads)
        torch.backends.mkldnn.enabled = cell.onednn
        torch.set_float32_matmul_precision({"tf32": "high", "bf16": "medium"}.get(cell.precision, "highest"))


def torch_of(cell: Cell) -> Any:
    """Return torch where a cell asks something of it; None where it does not, or there is none.

    A process that need not import it starts seconds earlier, and in an emulator half a minute.
    """
    return optional_module("torch") if _asks_torch(cell) else None


def reason_to_skip(cell: Cell) -> str:
    """Return why this process cannot be the cell, or nothing if it is."""
    if cell.backend == "numba" and compiled.numba is None:
        return "there is no numba here"
    if cell.backend == "onnx" and optional_module("onnxruntime") is None:
        return "there is no ONNX Runtime here"
    if not _asks_torch(cell):
        return ""
    torch = torch_of(cell)
    if torch is None:
        return NO_TORCH
    capability = torch.backends.cpu.get_cpu_capability().lower()
    # torch believes the variable, and where the processor lacks the instructions the process ends at the first of them
    supported = {"avx2": torch.cpu._is_avx2_supported, "avx512": torch.cpu._is_avx512_supported}
    works = supported.get(capability, lambda: True)()
    lacking = {
        "there is no CUDA device": cell.device.startswith("cuda") and not torch.cuda.is_available(),
        "there is no Apple GPU": cell.device == "mps" and not torch.backends.mps.is_available(),
        f"the processor or this build of torch has no {cell.capability}":
            cell.capability and (cell.capability != capability or not works),
        "this build of torch has no MKL": cell.mkl_cbwr and not torch.backends.mkl.is_available(),
        "this build of torch has no oneDNN to turn off": not cell.onednn and not torch.backends.mkldnn.is_available(),
        "torch.compile needs a C++ compiler": cell.compiled and not shutil.which(os.environ.get("CXX", "c++")),
    }  # fmt: skip
    return next((reason for reason, lacks in lacking.items() if lacks), "")


def _asks_torch(cell: Cell) -> bool:
    if cell.backend in ("torch", "onnx") or cell.device != "cpu" or not cell.onednn:
        return True
    return bool(cell.precision or cell.capability or cell.mkl_cbwr)


FAST_CELLS = (
    BASELINE,
    Cell("full sequence", mode="full"),
    Cell("batch 8", batch=8),
    Cell("no vector code", capability="default"),
    Cell("oneDNN off", onednn=False),
    Cell("2 threads", threads=2),
    Cell("ONNX", backend="onnx"),
    Cell("numba", backend="numba"),
    Cell("numpy", backend="numpy", batch=8),
    Cell("s390x, numpy", backend="numpy", batch=8, processor="s390x"),
    Cell("CUDA", device="cuda"),
    Cell("MPS", device="mps"),
)
"""Cells of a short run; the first is the baseline."""

FULL_CELLS = (
    *FAST_CELLS,
    # combinations
    Cell("AVX2", capability="avx2"),
    Cell("MKL compatible", mkl_cbwr="COMPATIBLE"),
    Cell("AVX-512", capability="avx512"),
    Cell("oneDNN SSE4.1", onednn_isa="SSE41"),
    Cell("full, batch 8", mode="full", batch=8),
    Cell("full, 2 threads", mode="full", threads=2),
    Cell("batch 8, 2 threads", batch=8, threads=2),
    Cell("batch 8, AVX2", batch=8, capability="avx2"),
    Cell("full, no vector code", mode="full", capability="default"),
    Cell("bf16 permitted", precision="bf16", batch=8),
    Cell("bf16 autocast", precision="autocast", batch=8),
    Cell("torch.compile", compiled=True, mode="full"),
    Cell("ONNX, full", backend="onnx", mode="full"),
    Cell("ONNX, batch 8", backend="onnx", batch=8),
    Cell("ONNX, not optimised", backend="onnx", graph_optimisation="none", batch=8),
    Cell("ONNX, 2 threads", backend="onnx", threads=2),
    Cell("numba, full", backend="numba", mode="full"),
    Cell("numba, batch 8", backend="numba", batch=8),
    Cell("numba, generic", backend="numba", numba_cpu="generic"),
    Cell("numpy, BLAS", backend="numpy-blas", batch=8),
    # other processors
    Cell("Arm64, torch, full", mode="full", batch=8, processor="arm64", float_segments=2),
    Cell("Arm64, torch", batch=8, processor="arm64", float_segments=2),
    # what an emulated "max" has are vectors of 512 bits, which torch leaves alone; for those of 256 it has own kernels
    Cell("Arm64 with SVE 256", mode="full", batch=8, processor="arm64",
         processor_model="max,sve-default-vector-length=32", float_segments=2),
    Cell("Arm64, numba", backend="numba", processor="arm64"),
    Cell("Arm64, numpy", backend="numpy", batch=8, processor="arm64"),
    Cell("Arm64, BLAS", backend="numpy-blas", batch=8, processor="arm64"),
    Cell("Arm64 Cortex-A53, BLAS", backend="numpy-blas", batch=8, processor="arm64", processor_model="cortex-a53"),
    Cell("ppc64el, numpy", backend="numpy", batch=8, processor="ppc64el"),
    Cell("armhf (32 bit), numpy", backend="numpy", batch=8, processor="armhf"),
    Cell("i386 (32 bit), numpy", backend="numpy", batch=8, processor="i386"),
    # GPUs
    Cell("CUDA, batch 8", device="cuda", batch=8),
    Cell("CUDA, full", device="cuda", mode="full"),
    Cell("CUDA, TF32", device="cuda", precision="tf32"),
    Cell("CUDA, bf16 autocast", device="cuda", precision="autocast"),
)  # fmt: skip
"""Cells of a long run; the first is the baseline."""


def group_of(cell: Cell) -> str:
    """Return under which heading a picture shows a cell: what sets it apart from the baseline most."""
    kinds = {
        "GPU": cell.device != "cpu",
        "other processors, emulated": cell.processor,
        "other backends": cell.backend != "torch" or cell.compiled,
        "precision": cell.precision,
        "instruction set and libraries": cell.capability or cell.mkl_cbwr or cell.onednn_isa or not cell.onednn,
    }
    return next((kind for kind, holds in kinds.items() if holds), "order of evaluation")


def only(cells: Sequence[Cell], names: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells of these names, in their own order.

    Raises UnsupportedInput: there is no cell of such a name.
    """
    unknown = set(names) - {cell.name for cell in cells}
    if unknown:
        raise UnsupportedInput(f"There is no cell {sorted(unknown)}; choose of {[cell.name for cell in cells]}.")
    return tuple(cell for cell in cells if cell.name in names)
