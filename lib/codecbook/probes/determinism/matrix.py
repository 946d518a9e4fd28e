"""Run every cell in a process of its own, a few at a time, and put what they found into one table."""

import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.measure.coder_speed import torch_threads
from codecbook.probes.determinism.backends import Steps, trace
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import Cell, reason_to_skip, roots_folder
from codecbook.probes.determinism.compare import CODECS, CODERS, CdfDifference, CellResult, LogitDifference

WORKER = "codecbook.probes.determinism.worker"
_COLUMNS = (
    "cell", "coder", "outcome", "reason", "logits_differing", "logits_per_million", "mean_abs_nats", "rows",
    "rows_differing", "intervals_differing", "segments", "segments_wrong", "wrong_silently", "first_frame", "bits",
)  # fmt: skip
_CODEC_COLUMNS = (
    "cell", "coder", "outcome", "reason", "tokens", "tokens_differing", "by_codebook", "frames_differing", "samples",
    "samples_differing", "largest", "snr_db",
)  # fmt: skip
SAME, CLOSE, DIFFERS, BREAKS = "same", "close", "differs", "breaks"
SKIPPED, FAILED = "skipped", "failed"
_RESULT = TypeAdapter(CellResult)


def run_matrix(
    case: Case,
    cells: Sequence[Cell],
    timeout_s: float = 300.0,
    jobs: int = 2,
    progress: Callable[[CellResult], None] = lambda result: None,
) -> list[CellResult]:
    """Run cells and compare them with the first one, the baseline, whose answers are kept in the case and used again.

    `timeout_s` is for each process; `jobs` run side by side, cells of several threads alone. `progress` is called with
    every result as it comes, from another thread.

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


def compare_here(
    ways: Mapping[str, tuple[Steps, int, str, int]], groups: Iterable[np.ndarray], coder: str = ""
) -> pd.DataFrame:
    """Evaluate known segments, groups int64 ``[N, T, K]``, in several ways, in this process.

    Args:
        ways: By name, a model, and how many segments it reads side by side, the mode (see `Cell`) and torch's threads.
            The others are compared with the first.
        groups: Of segments of equal length.
        coder: One of `CODERS`, whose CDF rows are compared too.

    Returns:
        ``evaluator``, ``threads``, ``logits`` (how many), ``sha256`` of them (int32 or float32, little-endian, in the
        order segment, frame, codebook, code), ``differing``, ``differing_percent``, ``seconds``, and with a coder
        ``cdf_rows`` and ``differing_cdf_percent``.
    """
    rows = [{"evaluator": name, "threads": way[3], "logits": 0, "differing": 0, "seconds": 0.0, "cdf_rows": 0,
             "cdfs_differing": 0} for name, way in ways.items()]  # fmt: skip
    digests = [hashlib.sha256() for _ in rows]
    for codes in groups:
        first = first_cdf = None
        for row, digest, (steps, batch, mode, threads) in zip(rows, digests, ways.values(), strict=True):
            start = time.perf_counter()
            with torch_threads(threads):
                logits = trace(steps, codes, batch, mode)
            row["seconds"] += time.perf_counter() - start
            digest.update(logits.astype(logits.dtype.newbyteorder("<")).tobytes())
            first = logits if first is None else first
            row["logits"] += logits.size
            row["differing"] += int(np.count_nonzero(logits != first))
            if coder:
                with torch_threads(1):  # the softmax also rounds by threads, which is not what is asked here
                    cdf = CODERS[coder].cdf(logits.reshape(-1, logits.shape[-1]))
                first_cdf = cdf if first_cdf is None else first_cdf
                row["cdf_rows"] += len(cdf)
                row["cdfs_differing"] += int((cdf != first_cdf).any(axis=1).sum())
    table = pd.DataFrame(rows).assign(sha256=[digest.hexdigest() for digest in digests])
    table["differing_percent"] = 100 * table["differing"] / table["logits"]
    table["differing_cdf_percent"] = 100 * table["cdfs_differing"] / table["cdf_rows"].where(table["cdf_rows"] > 0)
    shown = ["evaluator", "threads", "logits", "sha256", "differing", "differing_percent"]
    shown += ["cdf_rows", "differing_cdf_percent"] if coder else []
    return table.reindex(columns=[*shown, "seconds"])


def run_process(case: Case, cell: Cell, timeout_s: float, write_baseline: bool = False) -> CellResult:
    """Run one cell in a process of its own; whatever it does, say what became of it."""
    if cell.device != "cpu" and (reason := reason_to_skip(cell)):  # no process is needed to find no GPU
        return CellResult(cell, "skipped", reason)
    python = sys.executable
    if cell.processor:
        root = roots_folder() / cell.processor
        python, shown = str(root / "python"), str(root).replace(str(Path.home()), "~", 1)  # a report names no user
        if not (root / "python").is_file():
            return CellResult(cell, "skipped", f"no {shown}; make it with python tools/foreign.py {cell.processor}")
        if cell.backend in ("torch", "numba") and not (root / "sp").is_dir():
            add = f"add it with python tools/foreign.py {cell.processor} --torch"
            return CellResult(cell, "skipped", f"{shown} has no {cell.backend}; {add}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [python, "-m", WORKER, str(case.folder.resolve()), json.dumps(asdict(cell)), str(out)]
        return run_command(cell, [*command, *["--write-baseline"] * write_baseline], out, timeout_s)


def run_command(cell: Cell, command: Sequence[str], out: Path, timeout_s: float) -> CellResult:
    """Run a command in a cell's environment, and read what it wrote to `out` before it ended in whatever way."""
    started = time.perf_counter()
    status, reason = "ran", ""
    try:
        done = subprocess.run(
            command, env=cell.environment(), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            status, reason = "crashed", f"exit status {done.returncode}: {last[:300]}"
    except subprocess.TimeoutExpired:
        status, reason = "timed out", f"no end after {timeout_s:g} s"
    content: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    if status == "ran":
        status, reason = content.get("status", "crashed"), content.get("reason", "it wrote no result")
    return result_of(cell, status, reason, content, time.perf_counter() - started)


def result_of(cell: Cell, status: str, reason: str, content: dict[str, Any], seconds: float) -> CellResult:
    """Return what a worker wrote as a result, its kinds checked.

    Raises ValueError: something is missing, or of another kind.
    """
    known = {"cell": cell, "status": status, "reason": reason, "seconds": seconds}
    try:
        return _RESULT.validate_python(content | known)
    except ValidationError as error:  # whose text has several lines
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def tabulate(results: Sequence[CellResult], coders: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell and coder.

    Where a coder did not run, there are only the columns ``cell``, ``coder``, ``outcome`` and ``reason``.

    An outcome is ``same``: no logit differs; ``close``: logits differ, but no CDF row does on these tokens;
    ``differs``: rows differ, but every segment decodes; ``breaks``: segments decode wrongly; ``skipped``; or
    ``failed``. The baseline's own row has nothing to compare with and counts as ``same``.
    """
    rows = [_row(result, name) for result in results for name in coders]
    return pd.DataFrame(rows, columns=pd.Index(_COLUMNS))


def count_cells(table: pd.DataFrame) -> dict[str, int]:
    """Return ``<coder>.cells_run``, the baseline included, and ``<coder>.cells_differing``.

    A cell differs where a CDF row does; one of the exact coder also where a logit or a decoded token does, or where it
    did not run to its end. Cells that were skipped count in neither.
    """
    ran, is_exact = ~table["outcome"].isin([SKIPPED, FAILED]), table["coder"] == "exact"
    strict = is_exact & ((table["logits_differing"] > 0) | (table["segments_wrong"] > 0))
    differs = ran & ((table["rows_differing"] > 0) | strict) | is_exact & (table["outcome"] == FAILED)
    counts = {}
    for coder in table["coder"].unique():
        of_coder = table["coder"] == coder
        counts[f"{coder}.cells_run"] = int((ran & of_coder).sum())
        counts[f"{coder}.cells_differing"] = int((differs & of_coder).sum())
    return counts


def agreement(results: Sequence[CellResult], num_steps: int) -> tuple[bool, list[CellResult]]:
    """Say whether the exact coder's hashes are the baseline's (the first) in all cells that it ran in, and in which.

    Listed are the cells that tell something: another program, processor or device, or one in which the logits of a
    float coder are not the baseline's. Where there are none, all may have computed the same thing, and nothing agrees.
    There must be a hash of logits for each of so many steps, segments times frames.
    """
    first, *others = [result for result in results if (part := result.coders.get("exact")) and part.status == "ran"]
    reference = first.coders["exact"]
    telling = [
        result for result in others
        if any(getattr(result.cell, name) != getattr(first.cell, name) for name in ("backend", "processor", "device"))
        or any(part.logits and part.logits.differing for name, part in result.coders.items() if name != "exact")
    ]  # fmt: skip
    agree = all(
        part.hashes == reference.hashes
        and part.segments_wrong == 0
        and part.token_hashes.items() >= reference.token_hashes.items()
        for part in (result.coders["exact"] for result in (first, *others))
    )
    return agree and bool(telling) and len(reference.hashes["logits"]) == num_steps, telling


def tabulate_codec(results: Sequence[CellResult]) -> pd.DataFrame:
    """Return one row per cell and kind of numbers in which the codec itself was tried, as `tabulate` for coders.

    ``coder`` is a name in `CODECS`. An outcome is ``same``: no token and no sample differs; ``close``: samples differ;
    ``differs``: tokens do; ``skipped``; or ``failed``. Without recordings there are no rows.
    """
    rows: list[dict[str, Any]] = []
    for result, name in itertools.product(results, CODECS if any(result.codec for result in results) else ()):
        part, row = result.codec.get(name), {"cell": result.cell.name, "coder": name}
        if part is None or part.status != "ran":
            lost = part is None and result.status != "skipped"
            rows.append(
                row | {"outcome": FAILED if lost else SKIPPED, "reason": part.reason if part else result.reason}
            )
            continue
        hit = {k: count for k, count in enumerate(part.codebooks_differing) if count}
        rows.append(row | {
            "outcome": DIFFERS if part.tokens_differing else CLOSE if part.samples_differing else SAME, "reason": "",
            "tokens": part.tokens, "tokens_differing": part.tokens_differing,
            "by_codebook": ", ".join(f"{k}: {count}" for k, count in hit.items()) or "none",
            "frames_differing": part.frames_differing, "samples": part.samples,
            "samples_differing": part.samples_differing, "largest": part.largest, "snr_db": part.snr_db,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=pd.Index(_CODEC_COLUMNS))


def codec_counts(results: Sequence[CellResult]) -> dict[str, int]:
    """Return ``<name>.cells_run``, ``.cells_differing``, ``.tokens`` and so on, over all cells but the baseline."""
    table = tabulate_codec(results)
    table = table[(table["cell"] != results[0].cell.name) & ~table["outcome"].isin([SKIPPED, FAILED])]
    table = table.assign(cells_run=1, cells_differing=table["outcome"] != SAME)
    columns = ["cells_run", "cells_differing", "tokens", "tokens_differing", "samples", "samples_differing"]
    sums: Any = table.groupby("coder", sort=False)[columns].sum()
    return {f"{name}.{column}": int(sums.at[name, column]) for name in sums.index for column in columns}


def codec_agrees(results: Sequence[CellResult]) -> bool | None:
    """Say whether no token and no sample of the exact codec differs in any cell; None where that says nothing.

    It does where a cell computes otherwise: another backend, processor or device, or one whose float codec differs.
    """
    parts = [(result, part) for result in results[1:] if (part := result.codec.get("codec_exact"))]
    ran = [(result, part) for result, part in parts if part.status == "ran"]
    telling = any(
        (result.cell.backend, result.cell.processor, result.cell.device) != ("torch", "", "cpu")
        or ((floats := result.codec.get("codec_float32")) and (floats.samples_differing or floats.tokens_differing))
        for result, _ in ran
    )
    agree = all(part.tokens_differing == part.samples_differing == 0 for _, part in ran)
    return agree if telling or not agree else None


def kinds_of_machines(results: Sequence[CellResult]) -> str:
    """Return in words what kinds of processors cells ran on, such as ``"x86_64 (little-endian, 64 bits)"``."""
    kinds = {
        f"{result.machine['machine']} ({result.machine['byte_order']}-endian, {result.machine.get('word_bits', '?')} "
        f"bits{', emulated' if result.cell.processor else ''})": None
        for result in results
    }
    return ", ".join(kinds)


def rounding_points(series: str, results: Sequence[CellResult]) -> pd.DataFrame:
    """Return a row per compared cell and grid: how many rounded logits differ, and how many the rule expects.

    Columns ``series`` (as given), ``cell``, ``step`` (nats), ``mismatches``, ``measured_ppm``, ``expected_ppm``, both
    of a million logits. The rule is that of `codecbook.probes.determinism.compare`.
    """
    rows = [
        {"series": series, "cell": result.cell.name, "step": step, "mismatches": count,
         "measured_ppm": 1e6 * count / part.logits.count, "expected_ppm": 1e6 * part.logits.mean_abs / step}
        for result in results if (part := result.ran("grid128")) and part.logits
        for step, count in part.logits.grid_mismatches.items()
    ]  # fmt: skip
    columns = ["series", "cell", "step", "mismatches", "measured_ppm", "expected_ppm"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def off_the_rule(points: pd.DataFrame) -> tuple[float, int]:
    """Return the largest factor, 1 or more, by which `rounding_points` miss the rule, and how many tell.

    Those with 30 mismatches or more tell, of which at most a tenth of all logits were to change; NaN for none.
    """
    measured, expected = np.array(points["measured_ppm"]), np.array(points["expected_ppm"])
    telling = (np.array(points["mismatches"]) >= 30) & (expected < 1e5)
    ratios = measured[telling] / expected[telling]
    return (float(max(ratios.max(), 1 / ratios.min())) if len(ratios) else float("nan")), len(ratios)


def _row(result: CellResult, name: str) -> dict[str, Any]:
    found = result.coders.get(name)
    row: dict[str, Any] = {"cell": result.cell.name, "coder": name}
    if found is None:
        return row | {"outcome": SKIPPED if result.status == "skipped" else FAILED, "reason": result.reason}
    if found.status == "skipped":
        return row | {"outcome": SKIPPED, "reason": found.reason}
    logits = found.logits or LogitDifference(1, 0, 0.0, 0.0)
    cdf = found.cdf or CdfDifference(0, 0, 0, None, [], [], [])
    close = CLOSE if logits.differing else SAME
    return row | {
        "outcome": BREAKS if found.segments_wrong else DIFFERS if cdf.rows_differing else close, "reason": "",
        "logits_differing": logits.differing, "logits_per_million": 1e6 * logits.differing / logits.count,
        "mean_abs_nats": logits.mean_abs, "rows": cdf.rows, "rows_differing": cdf.rows_differing,
        "intervals_differing": cdf.intervals_differing, "segments": found.segments,
        "segments_wrong": found.segments_wrong, "bits": found.bits,
        "wrong_silently": found.segments_wrong - sum(map(bool, found.wrong_errors.values())),
        "first_frame": min((frame for frame in cdf.first_frames if frame >= 0), default=-1),
    }  # fmt: skip
