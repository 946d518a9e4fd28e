"""The page of a sweep: small multiples, the frontier, and a table that leads to the reports of all points."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from IPython.display import HTML

from codecbook.book import figures
from codecbook.book.figures import sweep as drawn
from codecbook.book.grid import POINTS, Figure, Grid, value_text
from codecbook.book.labels import ASSETS, axis_label
from codecbook.book.pages.index_page import CONTENT_POLICY
from codecbook.book.results import RESERVED, read_result
from codecbook.book.tables import to_html
from codecbook.errors import UnsupportedInput
from codecbook.files import write_file

_MARKS = {"ok": "✓", "failed": "✗", "not run": "–"}
_INTERVALS = "Bars are the intervals that the runs recorded, 95 % unless a report says otherwise."

Results = Mapping[tuple[str, str], Mapping[str, Any]]  # by stage and folder, empty where there are none


def render_sweep(run_dir: Path, grid: Grid) -> Path:
    """Write ``index.html`` into the folder of a sweep and return its path.

    A figure that no point has is left out of the page, and raises UnsupportedInput once that is written.
    """
    runs = dict.fromkeys(run for point in grid.points for run in point.folders.items())
    results = {run: _result(run_dir, *run) for run in runs}
    names = _names(grid)
    table = _table(run_dir, grid, results, names)
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
    page = pages.get_template("sweep.html.j2").render(
        policy=CONTENT_POLICY,
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        script=(ASSETS / "points.js").read_text(encoding="utf-8"),
        name=run_dir.name,
        question=grid.question,
        facts=_facts(run_dir, grid, results),
        failed=[(*run, _report(*run), _last_line(run_dir, *run)) for run in runs if _state(run_dir, *run) == "failed"],
        frontier=_frontier(table, grid, names),
        multiples=_multiples(table, grid, [names[figure] for figure in grid.figures]),
        table=to_html(table, f"All points of {run_dir.name}", dict.fromkeys(grid.points[0].folders, _link)),
    )
    html = write_file(run_dir / "index.html", page, overwrite=True)
    _refuse_unknown_figures(grid, results)
    return html


def _result(run_dir: Path, stage: str, folder: str) -> dict[str, Any]:
    path = run_dir / POINTS / folder / "results" / f"{stage}.json"
    return read_result(path) if path.is_file() else {}


def _report(stage: str, folder: str) -> str:
    return f"{POINTS}/{quote(folder)}/{stage}.html"


def _state(run_dir: Path, stage: str, folder: str) -> str:
    run = run_dir / POINTS / folder
    if (run / "results" / f"{stage}.json").is_file():
        return "ok"
    html = run / f"{stage}.html"
    return "failed" if html.is_file() and html.stat().st_size else "not run"  # the engine makes one that is missing


def _last_line(run_dir: Path, stage: str, folder: str) -> str:
    """Return the last line of a stage's log, where its job says why it failed."""
    log = run_dir / POINTS / folder / "logs" / f"{stage}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else ""


def _names(grid: Grid) -> dict[Figure, str]:
    """Return the columns of the figures: their keys, with their stage where that alone tells them apart."""
    shown = dict.fromkeys([*grid.figures, *grid.frontier])
    count = Counter([figure.name for figure in shown] + [*grid.axes])
    return {figure: figure.name if count[figure.name] == 1 else f"{figure.stage} {figure.name}" for figure in shown}


def _table(run_dir: Path, grid: Grid, results: Results, names: Mapping[Figure, str]) -> pd.DataFrame:
    """Return a row a point: its values, its figures with the ends of intervals, and the reports of its stages."""
    rows = []
    for point in grid.points:
        row = {axis: _cell(value) for axis, value in point.values.items()}
        row |= {run[0]: f"{_state(run_dir, *run)}: {_report(*run)}" for run in point.folders.items()}
        for figure, name in names.items():
            found, key = results[figure.stage, point.folders[figure.stage]], figure.key_at(point.values)
            row |= {name + end: found.get(key + end) for end in ("", "_low", "_high")}
        rows.append(row)
    table = pd.DataFrame(rows)
    for name in names.values():
        table[name] = pd.to_numeric(table[name], errors="coerce")
        if set(table[f"{name}_low"]) == {None}:
            table = table.drop(columns=[f"{name}_low", f"{name}_high"])
    if grid.frontier:
        table.insert(len(grid.axes), "frontier", _on_frontier(table, {names[f]: w for f, w in grid.frontier.items()}))
    return table


def _cell(value: Any) -> Any:
    """Return an axis' value as a table holds it: a number, or else a text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else value_text(value)


def _on_frontier(table: pd.DataFrame, better: Mapping[str, str]) -> list[bool]:
    """Say of each point whether no other is at least as good in both figures, and better in one."""
    good = pd.DataFrame({name: table[name] * (1 if way == "more" else -1) for name, way in better.items()})
    return [
        bool(row.notna().all()) and not ((good >= row).all(axis=1) & (good > row).any(axis=1)).any()
        for _, row in good.iterrows()
    ]


def _facts(run_dir: Path, grid: Grid, results: Results) -> list[tuple[str, str]]:
    """Return what holds for the sweep as a whole."""
    states = Counter(_state(run_dir, *run) for run in results)
    facts = [
        ("Points", str(len(grid.points))),
        ("Runs of notebooks", ", ".join(f"{states[state]} {state}" for state in _MARKS if states[state])),
        *((axis, ", ".join(map(value_text, values))) for axis, values in grid.axes.items()),
    ]
    found = [result["provenance"] for result in results.values() if "provenance" in result]
    if found:
        commits = sorted({(facts.get("git_commit") or "unknown")[:10] for facts in found})
        dirty = any(facts.get("git_dirty") for facts in found)
        machines = sorted({f"{facts.get('cpu', 'unknown')}, {facts.get('cores', 'unknown')} cores" for facts in found})
        facts += [
            ("Wall time of all runs", f"{sum(facts.get('wall_s', 0.0) for facts in found) / 60:.1f} min"),
            ("Commit", ", ".join(commits) + (" with local changes" if dirty else "")),
            ("Machine", ", ".join(machines)),
        ]
    return facts


def _multiples(table: pd.DataFrame, grid: Grid, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return a heading and a figure for each axis that has more than one value."""
    names = [name for name in names if any(table[name].notna())]
    found = []
    for axis, values in grid.axes.items():
        if len(values) > 1 and names:
            others = [other for other in grid.axes if other != axis and len(grid.axes[other]) > 1]
            ends = [f"{axis_label(n)} from {table[n].min():.4g} to {table[n].max():.4g}" for n in names]
            image = figures.to_html(
                drawn.small_multiples(table, axis, list(map(_cell, values)), names, others),
                f"Against {axis}, of all points: {'; '.join(ends)}.",
                f"Against {axis}{', a line for each value of what else varies' if others else ''}. {_INTERVALS}",
            )
            found.append((f"Against {axis}", image))
    return found


def _frontier(table: pd.DataFrame, grid: Grid, names: Mapping[Figure, str]) -> str:
    """Return the two figures of the frontier against each other, empty where no point has both."""
    if not grid.frontier or not table.frontier.any():
        return ""
    (x, x_way), (y, y_way) = ((names[figure], way) for figure, way in grid.frontier.items())
    axes = [axis for axis in grid.axes if len(grid.axes[axis]) > 1] or [*grid.axes]
    best = pd.DataFrame(table[table.frontier]).sort_values(x)
    told = "; ".join(
        ", ".join(f"{axis} {row[axis]}" for axis in axes) + f": {row[x]:.4g}, {row[y]:.4g}"
        for row in best.to_dict("records")
    )
    return figures.to_html(
        drawn.frontier(table, x, y, axes),
        f"{axis_label(y)} against {axis_label(x)}. On the frontier: {told}.",
        f"{axis_label(y)} ({y_way} is better) against {axis_label(x)} ({x_way} is better). The line joins the points "
        f"that no other beats in both, labelled by {', '.join(axes)}. {_INTERVALS}",
    )


def _link(value: str) -> HTML:
    """Return a cell of the table: the state of a run, leading to its report."""
    state, _, report = value.partition(": ")
    text = f'<span class="status {state.replace("not run", "missing")}">{_MARKS[state]} {state}</span>'
    return HTML(text if state == "not run" else f'<a href="{escape(report)}">{text}</a>')


def _refuse_unknown_figures(grid: Grid, results: Results) -> None:
    for figure in _names(grid):
        keys = {figure.key_at(point.values) for point in grid.points}
        found = [result for (stage, _), result in results.items() if stage == figure.stage and result]
        known = dict.fromkeys(key for result in found for key in result if key not in RESERVED)
        if found and not keys & known.keys():
            nearest = difflib.get_close_matches(next(iter(keys)), known, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise UnsupportedInput(
                f"No result of {figure.stage} has the figure {figure.key!r}, which the sweep names, so the page is "
                f"without it; {hint}Known: {', '.join(known)}."
            )
