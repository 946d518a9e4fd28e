import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.foreign_root import ARCHITECTURES
from codecbook.probes.determinism.plans import fast_cells, full_cells, group_of, only


def test_plans_have_distinct_names_and_begin_with_the_baseline() -> None:
    for cells in (fast_cells(), full_cells()):
        assert cells[0] == BASELINE
        assert len({cell.name for cell in cells}) == len(cells)
    assert set(fast_cells()) < set(full_cells())
    assert len(fast_cells()) >= 8
    here = [cell for cell in full_cells() if cell.device == "cpu" and not cell.processor]
    assert len(here) >= 24  # so that the promise of as many does not hang on an emulator


def test_other_processors_are_ones_that_can_be_emulated() -> None:
    foreign = {cell.processor for cell in full_cells() if cell.processor}
    assert foreign == set(ARCHITECTURES)
    for cell in full_cells():
        if cell.processor and cell.backend == "torch":
            assert cell.float_segments > 0


@pytest.mark.parametrize(
    ("cell", "group"),
    [
        (Cell("a", device="cuda", precision="tf32"), "GPU"),
        (Cell("a", processor="s390x", backend="numpy"), "other processors, emulated"),
        (Cell("a", backend="onnx"), "other evaluators"),
        (Cell("a", compiled=True, mode="full"), "other evaluators"),
        (Cell("a", precision="bf16", batch=8), "precision"),
        (Cell("a", capability="avx2", batch=8), "instruction set and libraries"),
        (Cell("a", onednn=False), "instruction set and libraries"),
        (Cell("a", threads=2), "order of evaluation"),
    ],
)
def test_groups(cell: Cell, group: str) -> None:
    assert group_of(cell) == group


def test_cells_are_chosen_by_name() -> None:
    assert [cell.name for cell in only(fast_cells(), ["numba", "baseline"])] == ["baseline", "numba"]
    with pytest.raises(UnsupportedInput, match=r"'abacus'.*'numba'"):
        only(fast_cells(), ["abacus"])
