"""Run every cell in a process of its own, a few at a time, and put what they found into one table."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.foreign_root import command as foreign_command
from codecbook.probes.determinism.foreign_root import find_root

WORKER = "codecbook.probes.determinism.worker"
_LIBRARY = Path(__file__).resolve().parents[3]
_COLUMNS = (
    "cell", "coder", "outcome", "reason", "logits_differing", "logits_per_million", "mean_abs_nats", "rows",
    "rows_differing", "intervals_differing", "segments", "segments_wrong", "wrong_silently", "first_frame", "bits",
)  # fmt: skip
SAME, CLOSE, DIFFERS, BREAKS = "same", "close", "differs", "breaks"
SKIPPED, FAILED = "skipped", "failed"


@dataclass(frozen=True)
class CellResult:
    """What became of a cell.

    Attributes:
        cell: The configuration.
        status: ``"ran"``, ``"skipped"``, ``"crashed"`` or ``"timed out"``.
        reason: Why it did not run to its end; empty if it did.
        content: What the process wrote last (`codecbook.probes.determinism.worker`); empty if nothing.
        seconds: Wall time of the process.
    """

    cell: Cell
    status: str
    reason: str
    content: dict[str, Any]
    seconds: float  # s


def run_matrix(
    case: Case,
    cells: Sequence[Cell],
    timeout_s: float = 300.0,
    jobs: int = 2,
    progress: Callable[[CellResult], None] = lambda result: None,
) -> list[CellResult]:
    """Run cells and compare them with the first one.

    Args:
        case: What to compute. The first cell's answers are kept in it, and taken again where they are there already.
        cells: The first is the baseline.
        timeout_s: For each process, in seconds.
        jobs: Processes side by side; cells of several threads run alone.
        progress: Called with every result as it comes, from another thread.

    Returns:
        Results in the order of the cells.

    Raises:
        UnsupportedInput: No cells, or two of one name.
        CodecbookError: The baseline did not run, so there is nothing to compare with.
    """
    names = [cell.name for cell in cells]
    if not names or len(set(names)) < len(names):
        raise UnsupportedInput(f"Cells need different names, and at least one; received {names}.")

    def one(cell: Cell, write_baseline: bool = False) -> CellResult:
        result = run_process(case, cell, timeout_s, write_baseline)
        progress(result)
        return result

    results: dict[str, CellResult] = {}
    if not case.baseline.is_dir():
        first = one(cells[0], write_baseline=True)
        if first.status != "ran":
            raise CodecbookError(f"The baseline cell {first.cell.name!r} {first.status}: {first.reason}")
        results[first.cell.name] = first
    left = [cell for cell in cells if cell.name not in results]
    for alone in (False, True):
        group = [cell for cell in left if (cell.threads > 1) == alone]
        with ThreadPoolExecutor(1 if alone else max(1, jobs)) as pool:
            results |= {result.cell.name: result for result in pool.map(one, group)}
    return [results[name] for name in names]


def run_process(case: Case, cell: Cell, timeout_s: float, write_baseline: bool = False) -> CellResult:
    """Run one cell in a process of its own; whatever it does, say what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        arguments = ["-m", WORKER, str(case.folder.resolve()), json.dumps(cell.arguments()), str(out)]
        arguments += ["--write-baseline"] * write_baseline
        command = [sys.executable, *arguments]
        if cell.processor:
            try:
                root = find_root(cell.processor)
            except CodecbookError as error:
                return CellResult(cell, "skipped", str(error), {}, 0.0)
            if cell.backend in ("torch", "numba") and not root.has_torch:
                return CellResult(
                    cell, "skipped", f"the {cell.processor} root has no {cell.backend}", {}, 0.0
                )
            command = foreign_command(root, arguments, [_LIBRARY], cpu=cell.processor_model)
        return run_command(cell, command, out, timeout_s)


def run_command(cell: Cell, command: Sequence[str], out: Path, timeout_s: float) -> CellResult:
    """Run a command in a cell's environment, and read what it wrote to `out` before it ended in whatever way."""
    started = time.perf_counter()
    status, reason = "ran", ""
    try:
        done = subprocess.run(
            command, env=cell.environment(), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            status, reason = "crashed", f"exit status {done.returncode}: {_last_line(done.stderr)}"
    except subprocess.TimeoutExpired:
        status, reason = "timed out", f"no end after {timeout_s:g} s"
    content: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    if status == "ran":
        status, reason = content.get("status", "crashed"), content.get("reason", "it wrote no result")
    return CellResult(cell, status, reason, content, time.perf_counter() - started)


def tabulate(results: Sequence[CellResult], coders: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell and coder.

    Columns: ``cell``, ``coder``, ``outcome``, ``reason``, and where it ran: ``logits_differing``,
    ``logits_per_million``, ``mean_abs_nats``, ``rows``, ``rows_differing``, ``intervals_differing``, ``segments``,
    ``segments_wrong``, ``wrong_silently``, ``first_frame``, ``bits``.

    An outcome is ``same``: no logit differs; ``close``: logits differ, but no CDF row does on these tokens;
    ``differs``: rows differ, but every segment decodes; ``breaks``: segments decode wrongly; ``skipped``; or
    ``failed``. The baseline's own row has nothing to compare with and counts as ``same``.
    """
    rows = [_row(result, name) for result in results for name in coders]
    return pd.DataFrame(rows, columns=pd.Index(_COLUMNS))


def exact_differs(table: pd.DataFrame) -> bool:
    """Say whether an exact cell that was not skipped differs in any logit or CDF row, or did not run to its end."""
    return count_cells(table).get("exact.cells_differing", 0) > 0


def count_cells(table: pd.DataFrame) -> dict[str, int]:
    """Return ``<coder>.cells_run`` and ``<coder>.cells_differing`` (from the baseline, which is counted as run).

    A cell differs where a CDF row does; one of the exact coder also where a logit or a decoded token does, or where it
    did not run to its end. Cells that were skipped count in neither.
    """
    counts: dict[str, int] = {}
    for row in table.to_dict("records"):
        run, differing = f"{row['coder']}.cells_run", f"{row['coder']}.cells_differing"
        counts.setdefault(run, 0)
        counts.setdefault(differing, 0)
        is_exact = row["coder"] == "exact"
        if row["outcome"] in (SKIPPED, FAILED):
            counts[differing] += is_exact and row["outcome"] == FAILED
            continue
        counts[run] += 1
        strict = is_exact and (row["logits_differing"] > 0 or row["segments_wrong"] > 0)
        counts[differing] += bool(row["rows_differing"] > 0 or strict)
    return counts


def _row(result: CellResult, name: str) -> dict[str, Any]:
    entry = result.content.get("coders", {}).get(name)
    row: dict[str, Any] = {
        "cell": result.cell.name,
        "coder": name,
        "outcome": FAILED,
        "reason": result.reason,
    }
    if entry is None:
        return row | {"outcome": SKIPPED if result.status == "skipped" else FAILED}
    if entry["status"] == "skipped":
        return row | {"outcome": SKIPPED, "reason": entry["reason"]}
    logits = entry.get("logits", {"count": 1, "differing": 0, "mean_abs": 0.0})
    cdf = entry.get("cdf", {"rows": 0, "rows_differing": 0, "intervals_differing": 0, "first_frames": []})
    wrong = entry["segments_wrong"]
    frames = [frame for frame in cdf["first_frames"] if frame >= 0]
    close = CLOSE if logits["differing"] else SAME
    outcome = BREAKS if wrong else DIFFERS if cdf["rows_differing"] else close
    return row | {
        "outcome": outcome,
        "reason": "",
        "logits_differing": logits["differing"],
        "logits_per_million": 1e6 * logits["differing"] / logits["count"],
        "mean_abs_nats": logits["mean_abs"],
        "rows": cdf["rows"],
        "rows_differing": cdf["rows_differing"],
        "intervals_differing": cdf["intervals_differing"],
        "segments": entry["segments"],
        "segments_wrong": wrong,
        "wrong_silently": wrong - entry["wrong_with_error"],
        "first_frame": min(frames, default=-1),
        "bits": entry["bits"],
    }


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "without a word"
