"""The index page of a run: which stages ran, what they found, what was skipped, and where a word is in all of it."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import nbformat

from codecbook.book.claims import Claim, Headline
from codecbook.book.labels import ASSETS, axis_label, lowered, value_text
from codecbook.book.notebooks import error_line, failing_cell, first_heading, lead
from codecbook.book.pages.search import texts
from codecbook.book.results import RESERVED, batch, claims_of, headlines_of, read_result
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.files import write_file
from codecbook.paths import repository_dir

# of every page: data: and blob: stay on it; script and style are inline because the page is one file
CONTENT_POLICY = (
    "default-src 'none'; img-src data:; media-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"
)
_HEADLINES = 4  # figures that stand for headlines where a stage has none
_SKIPPED = "skipped."


def render_index(run_dir: Path, notebooks: Path | None = None) -> Path:
    """Write ``index.html`` into a run's folder and return its path.

    A stage is "ok" if its result is there and its executed notebook shows no error, "failed" if the executed
    notebook shows one or ended without a result, and "not run" otherwise. The notebooks of a folder, None for the
    checkout's, are listed even where they did not run.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UnsupportedInput(f"{run_dir} is no folder; give a run's folder, such as reports/fast.")
    notebooks = repository_dir() / "notebooks" if notebooks is None else Path(notebooks)
    names = sorted(
        {path.stem for path in notebooks.glob("*.ipynb")}
        | {path.stem for path in (run_dir / "notebooks").glob("*.ipynb")}
        | {path.stem for path in (run_dir / "results").glob("*.json")}
    )
    results = {name: _result(run_dir / "results" / f"{name}.json") for name in names}
    stages = [_stage(name, run_dir, notebooks, results[name]) for name in names]
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
    reports = [run_dir / stage["report"] for stage in stages if stage["report"]]
    page = pages.get_template("index_page.html.j2").render(
        texts=texts(reports),
        script=(ASSETS / "search.js").read_text(encoding="utf-8"),
        policy=CONTENT_POLICY,
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        preset=run_dir.name,
        stages=stages,
        claims_text=claims_text,
        facts=_facts(stages, [result["provenance"] for result in results.values() if "provenance" in result]),
        skipped=[(stage["name"], what, why) for stage in stages for what, why in stage["skipped"]],
    )
    return write_file(run_dir / "index.html", page, overwrite=True)


def _result(path: Path) -> dict[str, Any]:
    return read_result(path) if path.is_file() else {}


def claims_text(claims: Sequence[Claim]) -> str:
    """Say how many claims hold, and how many could not be judged; empty without any."""
    judged = [claim for claim in claims if claim.holds is not None]
    parts = [f"{sum(bool(claim.holds) for claim in judged)} of {len(judged)} claims hold here"] if judged else []
    if len(judged) < len(claims):
        parts.append(f"{len(claims) - len(judged)} not judged")
    return ", ".join(parts)


def _stage(name: str, run_dir: Path, notebooks: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the page."""
    executed = run_dir / "notebooks" / f"{name}.ipynb"
    run, own = _notebook(executed), _notebook(notebooks / f"{name}.ipynb")
    notebook = run or own
    failing = failing_cell(run) if run is not None else None
    shown, status = result, "ok" if result else "not run"
    if failing is not None or (executed.is_file() and not result):
        shown = result or _result(run_dir / "results" / "failed" / f"{name}.json")
        status = "failed"
    figures = [
        (lowered(axis_label(key)), value_text(value))
        for key, value in shown.items()
        if key not in RESERVED and not key.startswith(_SKIPPED)
    ]
    headlines = [_headline(headline) for headline in headlines_of(shown)]
    if not headlines:
        headlines, figures = [(*figure, "") for figure in figures[:_HEADLINES]], figures[_HEADLINES:]
    return {
        "name": name,
        "title": (first_heading(notebook) if notebook is not None else "") or name,
        "question": lead(notebook) if notebook is not None else "",
        "status": status,
        "report": f"{name}.html" if (run_dir / f"{name}.html").is_file() else "",
        # papermill notes how long a notebook took also where it failed
        "wall_s": shown.get("provenance", {}).get("wall_s")
        or (run or {}).get("metadata", {}).get("papermill", {}).get("duration"),
        "headlines": headlines,
        "further": figures,
        # those that do not hold first
        "claims": sorted(claims_of(shown), key=lambda claim: (claim.holds is not False, claim.holds is True)),
        "skipped": [(key[len(_SKIPPED) :], str(v)) for key, v in shown.items() if key.startswith(_SKIPPED)],
        "error": (error_line(failing) or "It stopped before its result was written.") if status == "failed" else "",
    }


def _headline(headline: Headline) -> tuple[str, str, str]:
    """Return label, figure with unit, and interval."""
    value, interval = headline.parts
    return headline.label, f"{value} {headline.unit}".strip(), interval


def _notebook(path: Path) -> nbformat.NotebookNode | None:
    """Return a notebook; None where there is none, or where its writer was stopped in the midst of it."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError):
        return None


def _facts(stages: list[dict[str, Any]], provenances: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what holds for the run as a whole."""
    count = Counter(stage["status"] for stage in stages)
    shown = [f"{count[status]} {status}" for status in ("ok", "failed", "not run") if count[status]]
    facts = [("Stages", ", ".join(shown) or "none")]
    claims = [claim for stage in stages for claim in stage["claims"]]
    if claims:
        facts.append(("Claims", claims_text(claims)))
    total_s = sum(stage["wall_s"] or 0.0 for stage in stages)
    facts.append(("Wall time of all stages", f"{total_s:.0f} s" if total_s < 120 else f"{total_s / 60:.1f} min"))
    if not provenances:
        return facts
    latest = max(provenances, key=lambda facts: facts.get("started_utc", ""))
    commits = sorted({facts.get("git_commit") or "unknown" for facts in provenances})
    dirty = any(facts.get("git_dirty") for facts in provenances)
    return [
        *facts,
        ("Latest stage (UTC)", latest.get("started_utc", "unknown")[:16].replace("T", " ")),
        ("Commit", ", ".join(c[:10] for c in commits) + (" with local changes" if dirty else "")),
        ("Machine", f"{latest.get('cpu', 'unknown')}, {latest.get('cores', 'unknown')} cores"),
        ("Device", latest.get("device", "unknown")),
    ]


def last_runs(reports: Path | None = None) -> dict[str, str]:
    """Say of each stage, as Markdown, what its newest run found: first headline, claims, link to the report.

    Runs are looked for in `reports`, None for the checkout's; in a batch run, whose own stages are yet to come, there
    are none.
    """
    if batch():
        return {}
    reports = repository_dir() / "reports" if reports is None else reports
    paths = sorted(reports.glob("*/results/*.json"), key=lambda path: path.stat().st_mtime)
    return {path.stem: _found(path) for path in paths}


def _found(path: Path) -> str:
    """Say in a line of Markdown what a result file holds."""
    run = path.parent.parent
    try:
        result = _result(path)
        heads = headlines_of(result)[:1]
        found = [f"{escape(head.label)}: **{escape(head.figure)}** {escape(head.unit)}".strip() for head in heads]
        found += [text] if (text := claims_text(claims_of(result))) else []
    except CodecbookError as error:  # written by another version, or by hand
        found = [escape(str(error))]
    report = f"[{run.name}](../reports/{quote(run.name)}/{path.stem}.html)"
    return "; ".join([*found, report if (run / f"{path.stem}.html").is_file() else run.name])
