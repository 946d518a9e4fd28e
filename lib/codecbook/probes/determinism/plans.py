"""Which cells a short run and a long one try, and how pictures group them."""

from collections.abc import Sequence

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.cells import BASELINE, Cell

# what an emulated "max" has are vectors of 512 bits, which torch leaves alone; for those of 256 it has its own kernels
_SVE_256 = "max,sve-default-vector-length=32"
_EMULATED_FLOAT_SEGMENTS = 2


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
        Cell("ONNX", backend="onnx"),
        Cell("numba", backend="numba"),
        Cell("numpy", backend="numpy", batch=8),
        Cell("s390x, numpy", backend="numpy", batch=8, processor="s390x"),
        Cell("CUDA", device="cuda"),
    )


def full_cells() -> tuple[Cell, ...]:
    """Return the cells of a long run: those of `fast_cells`, combinations, other processors, GPUs."""
    return (*fast_cells(), *_combinations(), *_other_processors(), *_gpus())


def _combinations() -> tuple[Cell, ...]:
    return (
        Cell("AVX-512", capability="avx512"),
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
        Cell("numpy, BLAS", backend="numpy-blas", batch=8),
    )


def _other_processors() -> tuple[Cell, ...]:
    few = _EMULATED_FLOAT_SEGMENTS
    return (
        Cell("Arm64, torch, full", mode="full", batch=8, processor="arm64", float_segments=few),
        Cell("Arm64, torch", batch=8, processor="arm64", float_segments=few),
        Cell(
            "Arm64 with SVE 256", mode="full", batch=8, processor="arm64", processor_model=_SVE_256,
            float_segments=few,
        ),
        Cell("Arm64, numba", backend="numba", processor="arm64"),
        Cell("Arm64, numpy", backend="numpy", batch=8, processor="arm64"),
        Cell("Arm64, BLAS", backend="numpy-blas", batch=8, processor="arm64"),
        Cell(
            "Arm64 Cortex-A53, BLAS", backend="numpy-blas", batch=8, processor="arm64",
            processor_model="cortex-a53",
        ),
        Cell("ppc64el, numpy", backend="numpy", batch=8, processor="ppc64el"),
        Cell("armhf (32 bit), numpy", backend="numpy", batch=8, processor="armhf"),
        Cell("i386 (32 bit), numpy", backend="numpy", batch=8, processor="i386"),
    )  # fmt: skip


def _gpus() -> tuple[Cell, ...]:
    return (
        Cell("CUDA, batch 8", device="cuda", batch=8),
        Cell("CUDA, full", device="cuda", mode="full"),
        Cell("CUDA, TF32", device="cuda", precision="tf32"),
        Cell("CUDA, bf16 autocast", device="cuda", precision="autocast"),
        Cell("MPS", device="mps"),
    )


def group_of(cell: Cell) -> str:
    """Return under which heading a picture shows a cell: what sets it apart from the baseline most."""
    if cell.device != "cpu":
        return "GPU"
    if cell.processor:
        return "other processors, emulated"
    if cell.backend != "torch" or cell.compiled:
        return "other evaluators"
    if cell.precision:
        return "precision"
    if cell.capability or cell.mkl_cbwr or not cell.onednn:
        return "instruction set and libraries"
    return "order of evaluation"


def only(cells: Sequence[Cell], names: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells of these names, in their own order.

    Raises:
        UnsupportedInput: There is no cell of such a name.
    """
    unknown = set(names) - {cell.name for cell in cells}
    if unknown:
        raise UnsupportedInput(
            f"There is no cell {sorted(unknown)}; choose of {[cell.name for cell in cells]}."
        )
    return tuple(cell for cell in cells if cell.name in names)
