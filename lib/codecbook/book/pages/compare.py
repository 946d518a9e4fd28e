"""Compare two runs: which figures and claims moved, and what the runs had in common.

A figure with an interval (``x``, ``x_low``, ``x_high``) has moved where the value of one run lies outside the interval
of the other; one without has moved where it differs at all, up to the rounding of long sums of floats, which threads
may add up in another order. Figures that are times, or made of times, move by themselves. These are shown, and count
for nothing, and so are headlines and what claims are decided by: they are texts, and their figures stand beside them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
from bs4 import BeautifulSoup

from codecbook.book.labels import ASSETS, value_text
from codecbook.book.pages.index_page import CONTENT_POLICY
from codecbook.book.results import RESERVED, claims_of, headlines_of, read_result
from codecbook.errors import UnsupportedInput
from codecbook.files import write_file

Kind = Literal["moved", "within", "rounding", "timing", "claim", "finding", "told", "missing", "condition", "same"]
_BOUNDS = ("_low", "_high")
_ROUNDING = 1e-6  # of a figure
# keys of figures that the clock has made
_TIMING = re.compile(
    r"(^|[._])(\w*speedup\w*|\w*_ms|probe_s|\w*frames_per_s|training_speed\w*|training_tokens_per_s|\w*_rtf|"
    r"processor_share)(_low|_high)?$"
)
# of a run, what is said elsewhere or never the same
_OWN = ("started_utc", "wall_s", "peak_memory_mb", "parameters", "packages")


@dataclass(frozen=True)
class Difference:
    """One thing that two runs have, and whether they differ in it.

    Attributes:
        kind: ``moved``, a figure, beyond its interval or without one; ``within`` its interval; ``rounding``;
            ``timing``; ``claim``, one that is judged otherwise and must hold; ``finding``, one that need not; ``told``,
            a headline or a claim judged alike that says another figure; ``missing``, a stage, figure, claim or headline
            that one run alone has; ``condition``, what the stage was run with; ``same``, a figure that is equal.
        stage: Name of the stage, empty for what all stages have in common.
        name: Key of the figure, text of the claim, or name of the condition.
        before: Value in the first run, as text; empty where it has none.
        after: Value in the second run.
        change: How far it moved, in percent of the first value, where that can be said.
    """

    kind: Kind
    stage: str
    name: str
    before: str
    after: str
    change: str = ""

    @property
    def counts(self) -> bool:
        """Whether it makes the runs differ: conditions explain, and times and intervals leave room."""
        return self.kind in ("moved", "claim", "missing")


def compare_runs(before: Path, after: Path) -> list[Difference]:
    """Return in what two runs' folders differ, conditions first, then stage by stage, equal figures among them.

    Raises:
        UnsupportedInput: A folder holds no results.
        CorruptInput: A result file is damaged.
    """
    runs = [_read(folder) for folder in (before, after)]
    found: list[Difference] = []
    for stage in sorted(runs[0].keys() | runs[1].keys()):
        one, other = (run.get(stage) for run in runs)
        if one is None or other is None:
            there = ["no result" if result is None else "a result" for result in (one, other)]
            found.append(Difference("missing", stage, "stage", *there))
            continue
        for compare in (_conditions, _figures, _claims, _headlines):
            found += compare(stage, one, other)
    return _joined(found)


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results of a run by stage, those of stages that failed at their claims among them."""
    paths = [*folder.glob("results/failed/*.json"), *folder.glob("results/*.json")]
    if not paths:
        raise UnsupportedInput(f"{folder} holds no results of a run; give a folder such as reports/fast.")
    return {path.stem: read_result(path) for path in paths}


def _conditions(stage: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Compare commit, machine, versions, parameters, seed and inputs."""
    flat = [_flat(result.get("provenance", {})) for result in (one, other)]
    names = [*dict.fromkeys([*flat[0], *flat[1]])]
    shown = [(name, *(_text(facts.get(name)) for facts in flat)) for name in names]
    return [Difference("condition", stage, name, a, b) for name, a, b in shown if a != b]


def _flat(provenance: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: value for name, value in provenance.items() if name not in _OWN}
    facts |= {f"package {name}": version for name, version in provenance.get("packages", {}).items()}
    return facts | {f"parameter {name}": value for name, value in provenance.get("parameters", {}).items()}


def _figures(stage: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    names = [name for name in dict.fromkeys([*one, *other]) if name not in RESERVED]
    bounds = {name for name in names for end in _BOUNDS if name.endswith(end) and name.removesuffix(end) in names}
    found = []
    for name in names:
        if name in bounds and name.removesuffix("_low").removesuffix("_high") in one.keys() & other.keys():
            continue  # told with its figure
        a, b = one.get(name), other.get(name)
        if (a is None) != (b is None):
            found.append(Difference("missing", stage, name, _text(a), _text(b)))
        else:
            kind, change = _moved(one, other, name), ""
            if a != b and isinstance(a, int | float) and isinstance(b, int | float) and a and not isinstance(a, bool):
                change = f"{100 * (b - a) / abs(a):+.3g} %".replace("-", "\u2212")
            found.append(Difference(kind, stage, name, _with_interval(one, name), _with_interval(other, name), change))
    return found


def _interval(result: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    return result.get(f"{name}_low"), result.get(f"{name}_high")


def _moved(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> Kind:
    """Say whether a figure is the same, moved by itself, or lies within each other's interval."""
    if one[name] == other[name] and _interval(one, name) == _interval(other, name):
        return "same"
    if _TIMING.search(name):
        return "timing"
    if all(map(_is_rounding, (one[name], *_interval(one, name)), (other[name], *_interval(other, name)))):
        return "rounding"
    for of_value, of_interval in ((one, other), (other, one)):
        value, (low, high) = of_value[name], _interval(of_interval, name)
        if not all(isinstance(each, int | float) for each in (value, low, high)) or not low <= value <= high:
            return "moved"
    return "within"


def _is_rounding(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=_ROUNDING))


def _with_interval(result: Mapping[str, Any], name: str) -> str:
    low, high = _interval(result, name)
    return _text(result[name]) + ("" if low is None or high is None else f" [{_text(low)}, {_text(high)}]")


def _claims(stage: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    runs = [{claim.text: claim for claim in claims_of(result)} for result in (one, other)]
    found = []
    for text in dict.fromkeys([*runs[0], *runs[1]]):
        claims = [run.get(text) for run in runs]
        shown = ["" if claim is None else f"{claim.verdict}: {claim.figure}".removesuffix(": ") for claim in claims]
        if None in claims:
            found.append(Difference("missing", stage, text, *shown))
        elif len({claim.holds for claim in claims if claim}) > 1:
            hard = any(claim.hard for claim in claims if claim)
            found.append(Difference("claim" if hard else "finding", stage, text, *shown))
        elif shown[0] != shown[1]:
            found.append(Difference("told", stage, text, *shown))
    return found


def _headlines(stage: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    runs = [{each.label: f"{each.figure} {each.unit}".strip() for each in headlines_of(run)} for run in (one, other)]
    found = []
    for label in dict.fromkeys([*runs[0], *runs[1]]):
        shown = [run.get(label, "") for run in runs]
        if shown[0] != shown[1]:
            found.append(Difference("told" if all(shown) else "missing", stage, label, *shown))
    return found


def _joined(found: list[Difference]) -> list[Difference]:
    """Say once what all stages have in common: conditions that differ in the same way."""
    stages: dict[tuple[str, str, str], list[str]] = {}
    for each in found:
        if each.kind == "condition":
            stages.setdefault((each.name, each.before, each.after), []).append(each.stage)
    conditions = [
        Difference("condition", ", ".join(names) if len(names) < 4 else f"{len(names)} stages", *what)
        for what, names in stages.items()
    ]
    return conditions + [each for each in found if each.kind != "condition"]


def _text(value: Any) -> str:
    return "" if value is None else value_text(value)


_HEADINGS: dict[Kind, str] = {
    "condition": "Run with other", "moved": "Figures beyond their interval, or without one", "claim": "Claims",
    "missing": "In one run alone", "finding": "Findings", "within": "Figures within their interval",
    "rounding": "Last digits of floats", "timing": "Times, which move by themselves",
    "told": "Headlines and claims that say another figure",
}  # fmt: skip


def text_of(differences: Sequence[Difference]) -> str:
    """Return what differs as lines for a terminal."""
    lines = []
    for kind, heading in _HEADINGS.items():
        chosen = [each for each in differences if each.kind == kind]
        lines += [f"{heading}:"] * bool(chosen)
        for each in chosen:
            change = f" ({each.change})" if each.change else ""
            lines.append(f"  {each.stage}  {each.name}: {each.before or 'none'} -> {each.after or 'none'}{change}")
    same, counted = (sum(map(test, differences)) for test in (lambda d: d.kind == "same", lambda d: d.counts))
    return "\n".join([*lines, f"{counted} differences that count, {same} figures the same."])


def render_comparison(before: Path, after: Path, differences: Sequence[Difference], html: Path) -> Path:
    """Write the comparison as one offline page, figures that tell the stages' stories side by side; return its path."""
    stages = dict.fromkeys(each.stage for each in differences if each.kind not in ("condition",))
    stories = {stage: [_story(run / f"{stage}.html") for run in (before, after)] for stage in stages}
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
    page = pages.get_template("compare.html.j2").render(
        policy=CONTENT_POLICY,
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        names=(before.name, after.name) if before.name != after.name else (str(before), str(after)),
        headings=_HEADINGS,
        conditions=[each for each in differences if each.kind == "condition"],
        stages={stage: [d for d in differences if d.stage == stage and d.kind != "condition"] for stage in stages},
        stories={stage: pair for stage, pair in stories.items() if all(pair)},
        counted=sum(each.counts for each in differences),
    )
    return write_file(html, page, overwrite=True)


def _story(report: Path) -> str:
    """Return the figure or table that a report opens with as HTML, empty where there is none."""
    if not report.is_file():
        return ""
    story = BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser").select_one(".summary .told")
    return "" if story is None else story.decode_contents()
