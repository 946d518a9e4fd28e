import os
import re
from collections.abc import Callable

import pytest
import torch

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.cells import (
    BASELINE,
    FAST_CELLS,
    FULL_CELLS,
    Cell,
    apply_settings,
    group_of,
    only,
    reason_to_skip,
)


def test_the_environment_holds_this_cells_settings_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = Cell("a", threads=2, capability="avx2").environment()
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "2"
    assert environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment["ATEN_CPU_CAPABILITY"] == "avx2"
    assert "MKL_CBWR" not in environment
    assert environment["PATH"] == os.environ["PATH"]
    assert Cell("b", mkl_cbwr="COMPATIBLE").environment()["MKL_CBWR"] == "COMPATIBLE"
    narrow = Cell("c", onednn_isa="SSE41", numba_cpu="generic").environment()
    assert (narrow["ONEDNN_MAX_CPU_ISA"], narrow["NUMBA_CPU_NAME"]) == ("SSE41", "generic")


def test_settings_act_in_the_process() -> None:
    apply_settings(Cell("a", threads=2, onednn=False))
    assert torch.get_num_threads() == 2
    assert not torch.backends.mkldnn.enabled  # pyright: ignore[reportAttributeAccessIssue]
    for precision, setting in (("bf16", "medium"), ("tf32", "high"), ("", "highest")):
        apply_settings(Cell("b", precision=precision))
        assert torch.get_float32_matmul_precision() == setting


def test_what_a_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_to_skip(BASELINE) == ""
    assert "no avx1024" in reason_to_skip(Cell("a", capability="avx1024"))
    # as told by the variable, on a processor without
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: False)
    assert "the processor" in reason_to_skip(Cell("a", capability="avx512"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: True)
    assert reason_to_skip(Cell("a", capability="avx512")) == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDA" in reason_to_skip(Cell("b", device="cuda"))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert "MKL" in reason_to_skip(Cell("c", mkl_cbwr="COMPATIBLE"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "Apple" in reason_to_skip(Cell("d", device="mps"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "compiler" in reason_to_skip(Cell("e", compiled=True, mode="full"))


def test_what_python_lacks_is_said(numpy_alone: Callable[..., str]) -> None:
    code = """
from codecbook.probes.determinism.cells import FULL_CELLS, Cell, apply_settings, reason_to_skip

for cell in (*FULL_CELLS, Cell("blas", backend="numpy-blas"), Cell("odd", backend="numpy", capability="avx2")):
    apply_settings(cell)
    print(cell.name, reason_to_skip(cell), sep=": ")
"""
    reasons = dict(line.split(": ") for line in numpy_alone(code).splitlines())
    assert (reasons["numpy"], reasons["blas"]) == ("", "")
    assert reasons["numba"] == reasons["numba, full"] == "there is no numba here"
    others = {reason for name, reason in reasons.items() if not re.search("num|BLAS|blas|ONNX", name)}
    assert others == {"there is no torch here"}
    assert reasons["ONNX"] == "there is no ONNX Runtime here"


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "jax"},
        {"mode": "half"},
        {"threads": 0},
        {"batch": 0},
        {"precision": "fp8"},
        {"graph_optimisation": "most"},
        {"float_segments": -1},
        {"compiled": True},
        {"compiled": True, "mode": "full", "backend": "numba"},
    ],
)
def test_impossible_cells_are_refused(wrong: dict) -> None:
    with pytest.raises(UnsupportedInput, match="'odd'"):
        Cell("odd", **wrong)


def test_plans_have_distinct_names_and_begin_with_the_baseline() -> None:
    for cells in (FAST_CELLS, FULL_CELLS):
        assert cells[0] == BASELINE
        assert len({cell.name for cell in cells}) == len(cells)
    assert set(FAST_CELLS) < set(FULL_CELLS)
    assert len(FAST_CELLS) >= 8
    here = [cell for cell in FULL_CELLS if cell.device == "cpu" and not cell.processor]
    assert len(here) >= 24  # so that the promise of as many does not hang on an emulator


def test_emulated_coders_of_floats_take_few_segments() -> None:
    for cell in FULL_CELLS:
        if cell.processor and cell.backend == "torch":
            assert cell.float_segments > 0


@pytest.mark.parametrize(
    ("cell", "group"),
    [
        (Cell("a", device="cuda", precision="tf32"), "GPU"),
        (Cell("a", processor="s390x", backend="numpy"), "other processors, emulated"),
        (Cell("a", backend="onnx"), "other backends"),
        (Cell("a", compiled=True, mode="full"), "other backends"),
        (Cell("a", precision="bf16", batch=8), "precision"),
        (Cell("a", capability="avx2", batch=8), "instruction set and libraries"),
        (Cell("a", onednn=False), "instruction set and libraries"),
        (Cell("a", threads=2), "order of evaluation"),
    ],
)
def test_groups(cell: Cell, group: str) -> None:
    assert group_of(cell) == group


def test_cells_are_chosen_by_name() -> None:
    assert [cell.name for cell in only(FAST_CELLS, ["numba", "baseline"])] == ["baseline", "numba"]
    with pytest.raises(UnsupportedInput, match=r"'abacus'.*'numba'"):
        only(FAST_CELLS, ["abacus"])
