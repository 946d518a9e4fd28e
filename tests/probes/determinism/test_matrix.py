import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.torch_model import ExactTorch
from codecbook.probes.determinism import matrix
from codecbook.probes.determinism.backends import NumbaSteps, ReferenceSteps
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE, Cell, roots_folder
from codecbook.probes.determinism.compare import CdfDifference, CellResult, CoderResult, LogitDifference
from codecbook.probes.determinism.matrix import (
    agreement,
    compare_here,
    count_cells,
    kinds_of_machines,
    off_the_rule,
    rounding_points,
    run_command,
    run_matrix,
    run_process,
    tabulate,
)
from codecbook.probes.determinism.torch_steps import TorchSteps
from codecbook.probes.determinism.worker import run_cell


def command(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_crashes_and_hangs_are_reported(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    crashed = run_command(BASELINE, command("import os; os.abort()"), out, 60)
    assert (crashed.status, crashed.coders) == ("crashed", {})
    assert "exit status -6" in crashed.reason
    hung = run_command(BASELINE, command("import time; time.sleep(60)"), out, 0.5)
    assert (hung.status, hung.reason) == ("timed out", "no end after 0.5 s")
    silent = run_command(BASELINE, command(""), out, 60)
    assert (silent.status, silent.reason) == ("crashed", "it wrote no result")
    for result in (crashed, hung, silent):
        table = tabulate([result], ["exact", "upstream"])
        assert set(table.outcome) == {matrix.FAILED}
        assert count_cells(table)["exact.cells_differing"] == 1


def test_what_was_finished_before_a_crash_is_kept(case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    run_cell(case, BASELINE, out)
    content = json.loads(out.read_text())
    text = json.dumps({**content, "coders": {"upstream": content["coders"]["upstream"]}})
    result = run_command(BASELINE, command(f"open({str(out)!r}, 'w').write({text!r}); exit(3)"), out, 60)
    table = tabulate([result], ["upstream", "exact"]).set_index("coder")
    assert result.status == "crashed"
    assert table.outcome.to_dict() == {"upstream": matrix.SAME, "exact": matrix.FAILED}


def test_a_table_tells_outcomes_apart() -> None:
    equal_rows = CdfDifference(9, 0, 0, None, [-1], [0], [0])
    equal = CoderResult("ran", logits=LogitDifference(9, 0, 0.0, 0.0), cdf=equal_rows, segments=3)
    differs = replace(equal, cdf=replace(equal_rows, rows_differing=4, first_frames=[2]))
    breaks = replace(differs, segments_wrong=2, wrong_errors={0: "end", 1: ""})
    same = CellResult(BASELINE, "ran", coders=dict.fromkeys(("upstream", "grid64", "exact"), CoderResult("ran")))
    other = CellResult(Cell("other"), "ran", coders={"upstream": breaks, "grid64": differs, "exact": equal})
    skipped = CellResult(Cell("gpu"), "skipped", "there is none")
    table = tabulate([same, other, skipped], tuple(same.coders))
    outcomes = table.set_index(["cell", "coder"]).outcome
    assert outcomes["other", "grid64"] == matrix.DIFFERS
    assert outcomes["other", "upstream"] == matrix.BREAKS
    assert set(outcomes["gpu"]) == {matrix.SKIPPED}
    assert set(outcomes["baseline"]) == {matrix.SAME}
    row = table[(table.cell == "other") & (table.coder == "upstream")].iloc[0]
    assert (row.segments_wrong, row.wrong_silently, row.first_frame) == (2, 1, 2)
    counts = count_cells(table)
    assert (counts["exact.cells_run"], counts["exact.cells_differing"]) == (2, 0)
    assert (counts["grid64.cells_run"], counts["grid64.cells_differing"]) == (2, 1)
    close = replace(equal, logits=LogitDifference(9, 1, 0.5, 1.0))
    table = tabulate([same, replace(other, coders={"exact": close})], ["exact"])
    assert table.outcome.tolist() == [matrix.SAME, matrix.CLOSE]
    assert count_cells(table)["exact.cells_differing"] == 1


def test_agreement_is_of_cells_that_compute_otherwise() -> None:
    hashes = {"logits": ["0", "1"], "cdf": ["2", "3"], "intervals": ["4", "5"]}
    reference = CoderResult("ran", hashes=hashes, token_hashes={0: "6"})
    exact = replace(reference, logits=LogitDifference(9, 0, 0.0, 0.0), cdf=CdfDifference(9, 0, 0, None, [-1], [0], [0]))
    floats = CoderResult("ran", logits=LogitDifference(9, 3, 0.1, 0.1), cdf=exact.cdf)
    same = CoderResult("ran", logits=LogitDifference(9, 0, 0.0, 0.0), cdf=exact.cdf)
    machine = {"machine": "x86_64", "byte_order": "little", "word_bits": 64}

    def cell(name: str, part: CoderResult = exact, upstream: CoderResult = same, **options) -> CellResult:
        return CellResult(Cell(name, **options), "ran", machine=machine, coders={"exact": part, "upstream": upstream})

    first = CellResult(BASELINE, "ran", machine=machine, coders={"exact": reference, "upstream": CoderResult("ran")})
    skipped = CellResult(Cell("s390x", processor="s390x"), "skipped", "there is none")
    alike, batch, numba = cell("2 threads"), cell("batch", upstream=floats), cell("numba", backend="numba")
    assert agreement([first, alike, batch, numba, skipped], 2) == (True, [batch, numba])
    assert kinds_of_machines([batch, numba]) == "x86_64 (little-endian, 64 bits)"
    # in all cells the baseline; cells that were skipped; and fewer steps than were asked for
    assert agreement([first, alike, skipped], 2) == (False, [])
    assert not agreement([first, batch], 3)[0]
    # one hash, one segment, or tokens that differ
    for odd in (replace(exact, hashes={**hashes, "logits": ["0", "x"]}), replace(exact, segments_wrong=1),
                replace(exact, token_hashes={0: "x"})):  # fmt: skip
        assert not agreement([first, batch, cell("odd", odd)], 2)[0]
    machine = {"machine": "s390x", "byte_order": "big", "word_bits": 64}
    foreign = replace(cell("s390x", processor="s390x"), machine=machine)
    assert kinds_of_machines([foreign]) == "s390x (big-endian, 64 bits, emulated)"


def test_points_are_held_against_the_rule() -> None:
    def found(factor: float) -> CellResult:
        mismatches = {1 / 64: int(64 * factor), 1 / 4096: int(4096 * factor), 1.0: 1}
        logits = LogitDifference(10**6, 9000, 1e-6, 1e-4, mismatches)
        part = CoderResult("ran", logits=logits, cdf=CdfDifference(9, 0, 0, None, [-1], [0], [0]))
        return CellResult(Cell("a"), "ran", coders={"grid128": part})

    assert off_the_rule(rounding_points("x", [found(1.5)])) == (pytest.approx(1.5, rel=1e-3), 2)
    assert off_the_rule(rounding_points("x", [found(1.2), found(0.4)]))[0] == pytest.approx(2.5, rel=0.05)
    off, count = off_the_rule(rounding_points("x", [CellResult(BASELINE, "ran")]))
    assert (np.isnan(off), count) == (True, 0)


def test_ways_are_compared_on_what_they_really_put_out(case: Case) -> None:
    exact = load_exact(case.folder / "exact")

    class Wrong(NumbaSteps):
        def full(self, codes: np.ndarray) -> np.ndarray:
            logits = super().full(codes).copy()
            logits[0, 0, 0, 0] += 1
            return logits

    ways = {
        "numpy": (ReferenceSteps(exact), 1, "stepping", 1),
        "numba": (NumbaSteps(exact, rows=1), 1, "full", 2),
        "torch": (TorchSteps(ExactTorch(exact)), 3, "full", 1),
        "wrong": (Wrong(exact), 1, "full", 1),
    }
    threads = torch.get_num_threads()
    table = compare_here(ways, [case.codes, case.codes[:1, :5]], "exact").set_index("evaluator")
    assert torch.get_num_threads() == threads
    expected = [reference_logits(exact, codes) for codes in (*case.codes, case.codes[0, :5])]
    digest = hashlib.sha256(b"".join(logits.astype("<i4").tobytes() for logits in expected)).hexdigest()
    assert (table.sha256[:3] == digest).all()
    assert table.sha256["wrong"] != digest
    assert table.differing.tolist() == [0, 0, 0, 4]
    assert (table.logits == sum(logits.size for logits in expected)).all()
    assert (table.cdf_rows == table.logits / 24).all()
    assert table.differing_cdf_percent["torch"] == 0


def test_cells_need_names_of_their_own(fresh: Case) -> None:
    for cells in ([], [BASELINE, BASELINE]):
        with pytest.raises(UnsupportedInput, match="different names"):
            run_matrix(fresh, cells)


def test_a_baseline_that_fails_ends_the_matrix(fresh: Case) -> None:
    (fresh.folder / "codes.npy").write_bytes(b"no array")
    with pytest.raises(CodecbookError, match=r"baseline.*crashed"):
        run_matrix(fresh, [BASELINE], timeout_s=120)


def test_a_processor_without_a_root_is_skipped(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBOOK_ROOTS", str(tmp_path))
    result = run_process(case, Cell("big-endian", backend="numpy", processor="s390x"), 60.0)
    assert (result.status, result.coders) == ("skipped", {})
    assert "python tools/foreign.py s390x" in result.reason
    assert set(tabulate([result], case.coders).outcome) == {matrix.SKIPPED}


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "byte_order"), [("s390x", "big"), ("armhf", "little")])
def test_another_processor_gives_the_same_integers(case: Case, arch: str, byte_order: str) -> None:
    if not (roots_folder() / arch / "python").is_file():
        pytest.skip(f"there is no {roots_folder() / arch}; make it with python tools/foreign.py {arch}")
    result = run_process(case, Cell(arch, backend="numpy", batch=2, processor=arch), 300.0)
    assert result.status == "ran", result.reason
    found = result.coders["exact"]
    assert found.logits is not None
    assert found.cdf is not None
    assert (found.logits.differing, found.cdf.rows_differing, found.segments_wrong) == (0, 0, 0)
    assert result.machine["byte_order"] == byte_order


@pytest.mark.slow
def test_processes_compare_themselves_with_the_first(fresh: Case) -> None:
    seen: list[str] = []
    cells = [BASELINE, Cell("numba", backend="numba"), Cell("threads", threads=2), Cell("odd", capability="avx1024")]
    results = run_matrix(fresh, cells, timeout_s=240, progress=lambda result: seen.append(result.cell.name))
    assert [result.status for result in results] == ["ran", "ran", "ran", "skipped"]
    assert sorted(seen) == sorted(cell.name for cell in cells)
    assert results[2].machine["threads"] == 2
    assert count_cells(tabulate(results, fresh.coders))["exact.cells_differing"] == 0
