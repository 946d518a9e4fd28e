import json
import sys
from pathlib import Path

import pytest

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.probes.determinism import matrix
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.foreign_root import ARCHITECTURES, find_root
from codecbook.probes.determinism.matrix import (
    CellResult,
    count_cells,
    exact_differs,
    run_command,
    run_matrix,
    run_process,
    tabulate,
)
from codecbook.probes.determinism.worker import run_cell


def command(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_crashes_and_hangs_are_reported(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    crashed = run_command(BASELINE, command("import os; os.abort()"), out, 60)
    assert (crashed.status, crashed.content) == ("crashed", {})
    assert "exit status -6" in crashed.reason
    hung = run_command(BASELINE, command("import time; time.sleep(60)"), out, 0.5)
    assert (hung.status, hung.reason) == ("timed out", "no end after 0.5 s")
    silent = run_command(BASELINE, command(""), out, 60)
    assert (silent.status, silent.reason) == ("crashed", "it wrote no result")
    for result in (crashed, hung, silent):
        table = tabulate([result], ["exact", "upstream"])
        assert set(table.outcome) == {matrix.FAILED}
        assert exact_differs(table)
        assert count_cells(table)["exact.cells_differing"] == 1


def test_what_was_finished_before_a_crash_is_kept(case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    content = run_cell(case, BASELINE, out)
    content["coders"] = {"upstream": content["coders"]["upstream"]}
    text = json.dumps(content)
    result = run_command(BASELINE, command(f"open({str(out)!r}, 'w').write({text!r}); exit(3)"), out, 60)
    table = tabulate([result], ["upstream", "exact"]).set_index("coder")
    assert result.status == "crashed"
    assert table.outcome.to_dict() == {"upstream": matrix.SAME, "exact": matrix.FAILED}


def test_a_table_tells_outcomes_apart(case: Case, tmp_path: Path) -> None:
    content = run_cell(case, BASELINE, tmp_path / "out.json")
    same = CellResult(BASELINE, "ran", "", content, 1.0)
    changed = json.loads(json.dumps(content))
    changed["coders"]["grid64"]["cdf"]["rows_differing"] = 4
    changed["coders"]["upstream"] |= {"segments_wrong": 2, "wrong_with_error": 1}
    other = CellResult(Cell("other"), "ran", "", changed, 1.0)
    skipped = CellResult(Cell("gpu"), "skipped", "there is none", {"status": "skipped", "coders": {}}, 1.0)
    table = tabulate([same, other, skipped], case.coders)
    outcomes = table.set_index(["cell", "coder"]).outcome
    assert outcomes["other", "grid64"] == matrix.DIFFERS
    assert outcomes["other", "upstream"] == matrix.BREAKS
    assert set(outcomes["gpu"]) == {matrix.SKIPPED}
    assert set(outcomes["baseline"]) == {matrix.SAME}
    row = table[(table.cell == "other") & (table.coder == "upstream")].iloc[0]
    assert (row.segments_wrong, row.wrong_silently) == (2, 1)
    counts = count_cells(table)
    assert (counts["exact.cells_run"], counts["exact.cells_differing"]) == (2, 0)
    assert (counts["grid64.cells_run"], counts["grid64.cells_differing"]) == (2, 1)
    assert not exact_differs(table)
    changed["coders"]["exact"]["logits"]["differing"] = 1
    table = tabulate([same, other, skipped], case.coders)
    assert exact_differs(table)
    assert count_cells(table)["exact.cells_differing"] == 1


def test_cells_need_names_of_their_own(fresh: Case) -> None:
    for cells in ([], [BASELINE, BASELINE]):
        with pytest.raises(UnsupportedInput, match="different names"):
            run_matrix(fresh, cells)


def test_a_baseline_that_fails_ends_the_matrix(fresh: Case) -> None:
    (fresh.folder / "codes.npy").write_bytes(b"no array")
    with pytest.raises(CodecbookError, match=r"baseline.*crashed"):
        run_matrix(fresh, [BASELINE], timeout_s=120)


def test_a_processor_without_a_root_is_skipped(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBOOK_ROOTS", str(tmp_path))
    result = run_process(case, Cell("big-endian", backend="numpy", processor="s390x"), 60.0)
    assert (result.status, result.content) == ("skipped", {})
    assert "foreign make s390x" in result.reason
    assert set(tabulate([result], case.coders).outcome) == {matrix.SKIPPED}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["s390x", "armhf"])
def test_another_processor_gives_the_same_integers(case: Case, arch: str) -> None:
    try:
        find_root(arch)
    except CodecbookError as error:
        pytest.skip(str(error))
    result = run_process(case, Cell(arch, backend="numpy", batch=2, processor=arch), 300.0)
    assert result.status == "ran", result.reason
    entry = result.content["coders"]["exact"]
    assert (entry["logits"]["differing"], entry["cdf"]["rows_differing"], entry["segments_wrong"]) == (
        0,
        0,
        0,
    )
    assert result.content["machine"]["byte_order"] == ARCHITECTURES[arch].byte_order


@pytest.mark.slow
def test_processes_compare_themselves_with_the_first(fresh: Case) -> None:
    seen: list[str] = []
    cells = [
        BASELINE,
        Cell("numba", backend="numba"),
        Cell("threads", threads=2),
        Cell("odd", capability="avx1024"),
    ]
    results = run_matrix(fresh, cells, timeout_s=240, progress=lambda result: seen.append(result.cell.name))
    assert [result.status for result in results] == ["ran", "ran", "ran", "skipped"]
    assert sorted(seen) == sorted(cell.name for cell in cells)
    assert results[2].content["machine"]["threads"] == 2
    assert count_cells(tabulate(results, fresh.coders))["exact.cells_differing"] == 0
