"""`Cell`: one configuration, how a process is started in it, and why a machine may not have it."""

import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any

from codecbook import compiled
from codecbook.errors import UnsupportedInput
from codecbook.lazy import optional_module

BACKENDS = ("torch", "numba", "numpy", "numpy-blas", "onnx")
MODES = ("stepping", "full")
PRECISIONS = ("", "tf32", "bf16", "autocast")


@dataclass(frozen=True)
class Cell:
    """A configuration that a process can be started in.

    Attributes:
        name: What tables call it.
        backend: ``"torch"``, ``"onnx"`` (ONNX Runtime), or for the exact coder ``"numba"`` (compiled), ``"numpy"`` (the
            reference, int64) or ``"numpy-blas"`` (the reference, its matrices multiplied by numpy's BLAS as float32).
        device: Torch device.
        threads: Threads of torch and of its libraries.
        capability: ``ATEN_CPU_CAPABILITY``: ``"default"``, ``"avx2"``, ``"avx512"``; empty takes the best there is.
        mkl_cbwr: ``MKL_CBWR``, such as ``"COMPATIBLE"``; empty leaves it unset.
        onednn: Whether torch may use oneDNN.
        batch: Segments that are evaluated side by side.
        mode: ``"stepping"`` evaluates code by code, as a decoder must; ``"full"`` whole segments at once, as an
            encoder could.
        precision: What torch may do to float32: ``"tf32"`` or ``"bf16"`` permit products of such numbers,
            ``"autocast"`` computes in bfloat16 wherever torch holds that to be safe; empty permits nothing.
        compiled: ``torch.compile`` turns the model into code of its own; in full passes only.
        graph_optimisation: Of ONNX Runtime: ``"none"``, ``"basic"``, ``"extended"`` or ``"all"``.
        processor: Another processor, emulated (`codecbook.probes.determinism.foreign`); empty is this machine's.
        processor_model: Model of it, with the emulator's options; empty takes the usual one.
        float_segments: Coders of floats compute so many segments only, where an emulator is slow; 0 is all.
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
    precision: str = ""
    compiled: bool = False
    graph_optimisation: str = "all"
    processor: str = ""
    processor_model: str = ""
    float_segments: int = 0

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS or self.mode not in MODES:
            raise UnsupportedInput(
                f"Cell {self.name!r} has backend {self.backend!r} and mode {self.mode!r}; choose of {BACKENDS} and "
                f"{MODES}."
            )
        if self.threads < 1 or self.batch < 1 or self.float_segments < 0:
            raise UnsupportedInput(
                f"Cell {self.name!r} has {self.threads} threads, batch {self.batch} and {self.float_segments} segments "
                "for floats; the first two start at 1, the last at 0."
            )
        if self.precision not in PRECISIONS:
            raise UnsupportedInput(
                f"Cell {self.name!r} has precision {self.precision!r}; choose of {PRECISIONS}."
            )
        if self.compiled and (self.backend, self.mode) != ("torch", "full"):
            raise UnsupportedInput(
                f"Cell {self.name!r} is compiled with backend {self.backend!r} and mode {self.mode!r}; torch.compile "
                "is tried on torch's full passes alone."
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
    if cell.device.startswith("cuda") and not torch.cuda.is_available():
        return "there is no CUDA device"
    if cell.device == "mps" and not torch.backends.mps.is_available():
        return "there is no Apple GPU"
    found = torch.backends.cpu.get_cpu_capability().lower()
    if cell.capability and cell.capability != found:
        return f"the processor or this build of torch has no {cell.capability}; it runs as {found}"
    if cell.mkl_cbwr and not torch.backends.mkl.is_available():
        return "this build of torch has no MKL"
    if not cell.onednn and not torch.backends.mkldnn.is_available():
        return "this build of torch has no oneDNN to turn off"
    if cell.compiled and not shutil.which(os.environ.get("CXX", "c++")):
        return "torch.compile needs a C++ compiler"
    return ""


def _asks_torch(cell: Cell) -> bool:
    if cell.backend in ("torch", "onnx") or cell.device != "cpu" or not cell.onednn:
        return True
    return bool(cell.precision or cell.capability or cell.mkl_cbwr)
