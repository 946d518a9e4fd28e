"""Results of a run: figures of merit as one flat JSON file per stage, and artifacts beside it.

Layout of a run's folder, ``reports/<preset>`` (in a notebook that is run by hand, ``reports/interactive``)::

    results/<stage>.json        figures, flat snake_case keys with units, "headlines", "claims" and "provenance"
    artifacts/<stage>/          tables, tokens, streams, models

The environment variable ``CODECBOOK_RUN_DIR`` names that folder in a batch run.

Claims are sentences that the run itself judges, kept as data beside the figures.

What a claim rests on decides what becomes of a run in which it does not hold. ``construction`` (a stream decodes to the
tokens that were coded): the run fails. ``data`` (more codebooks bring the spectrum nearer to the original): the default
run fails; on other recordings or with other parameters it is a finding. ``machine`` (a speed, or what floats do on
another processor): a finding, wherever.

A finding is shown as "does not hold here" with its figure, and the run succeeds. Whatever fails, everything is measured
and written first: `Run.finish` raises `ClaimsFailed` at the very end.
"""

import json
import math
import numbers
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from codecbook.book import provenance
from codecbook.book.claims import Claim, ClaimsFailed, Headline, judge, shown_figure
from codecbook.book.parameters import defaults, read_declarations
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput, require_one_of
from codecbook.files import read_json, write_file
from codecbook.paths import repository_dir

Basis = Literal["construction", "data", "machine"]
RESERVED = ("headlines", "claims", "provenance")  # keys of a results file that are no figures
BASES: tuple[Basis, ...] = ("construction", "data", "machine")


_STAGE = re.compile(r"[a-z0-9][a-z0-9_.~+-]*", re.IGNORECASE)
_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")

Figure = int | float | str | bool


def batch() -> bool:
    """Say whether the notebook is run by the workflow (``CODECBOOK_BATCH=1``), with nobody to click."""
    return os.environ.get("CODECBOOK_BATCH", "") not in ("", "0")


def run_dir() -> Path:
    """Return the folder of this run: ``CODECBOOK_RUN_DIR``, or ``reports/interactive`` where it is not set."""
    value = os.environ.get("CODECBOOK_RUN_DIR")
    return Path(value).resolve() if value else repository_dir() / "reports" / "interactive"


@dataclass
class Run:
    """One stage of one run; made by `begin`, filled by `record`, written by `finish`."""

    stage: str  # the notebook's stem, such as "05_determinism"
    parameters: dict[str, Any]  # validated
    folder: Path  # of the run
    started: datetime  # in UTC
    default: bool = False  # the parameters are those of the notebook itself
    figures: dict[str, Figure] = field(default_factory=dict)  # in order; the index page shows the first ones
    headlines: list[Headline] = field(default_factory=list)  # what the report opens with
    claims: list[Claim] = field(default_factory=list)
    own_data: str = ""  # what was measured instead of the bundled data
    code: dict[str, Any] = field(default_factory=dict)  # the checkout at the start: what is committed later did not run
    provenance: dict[str, Any] = field(default_factory=dict)  # filled by `finish`

    @property
    def artifacts(self) -> Path:
        """Folder for this stage's tables, tokens, streams and models; made on first use."""
        folder = self.folder / "artifacts" / self.stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def record(self, figures: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Keep headline figures, the most telling ones first: numbers, str or bool under keys that say their unit.

        Keys with dots (``"exact.frame_ms"``) come in a mapping, others may be keywords.
        """
        for key, value in {**(figures or {}), **named}.items():
            if not _KEY.fullmatch(key) or key in RESERVED:
                raise UnsupportedInput(f"Result key {key!r} is reserved, or not snake_case with dots; rename it.")
            self.figures[key] = _scalar(key, value)

    def headline(self, label: str, figure: Any, unit: str = "") -> None:
        """Show and keep one of the four to six figures that the report opens with, the most telling one first.

        Args:
            label: What was measured, as a reader would say it.
            figure: A number, a text, or an interval; what is missing (NaN, None) is left out.
            unit: Its unit, as printed.
        """
        mean = getattr(figure, "mean", figure)
        if figure is None or (isinstance(mean, numbers.Real) and not math.isfinite(mean)):
            return
        if isinstance(figure, numbers.Real) and not isinstance(figure, numbers.Integral):
            number = float(figure)
            figure = f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
        shown = re.sub(r"(?<![\w.])-(?=\d)", "\u2212", shown_figure(figure))
        headline = Headline(" ".join(label.split()), shown, unit)
        self.headlines = [each for each in self.headlines if each.label != headline.label] + [headline]
        headline.show()

    def skip(self, what: str, reason: str) -> None:
        """Record that something (a file, a codec, a measure) was not measured, and why, under ``skipped.<what>``."""
        key = re.sub(r"[^a-z0-9]+", "_", what.lower()).strip("_") or "unnamed"
        while f"skipped.{key}" in self.figures:  # two files whose names differ in punctuation only
            key += "_"
        self.record({f"skipped.{key}": reason if key == what else f"{what}: {reason}"})

    def uses(self, own_data: str) -> None:
        """Note what is measured instead of the bundled data: claims about data are findings from here on."""
        self.own_data = own_data

    def claim(self, text: str, holds: bool | np.bool_ | None, figure: Any = "", basis: Basis = "data") -> None:
        """Judge a claim, show it, and keep it; `finish` fails the run if it must hold and does not.

        Args:
            text: The sentence, as a reader would quote it.
            holds: Whether it holds; None where this run cannot judge it, with the reason as `figure`.
            figure: The measured value that decides: a number, a text, or what prints itself (an interval).
            basis: What it rests on, see `codecbook.book.results`.
        """
        require_one_of("basis", basis, BASES)
        hard = basis == "construction" or (basis == "data" and self.default and not self.own_data)
        claim = judge(text, holds, figure, hard=hard)
        self.claims.append(claim)
        claim.show()

    def claim_of_all(
        self, text: str, judged: Mapping[str, tuple[Any, bool | np.bool_ | None]], nothing: str, basis: Basis = "data"
    ) -> None:
        """Judge a claim over several codecs or models, each a figure and whether it holds: it must for all of them.

        It is not judged where one of them is not and none of them fails, or with `nothing` as the reason where there
        are none.
        """
        answers = [holds for _, holds in judged.values()]
        unknown = not answers or any(holds is None for holds in answers)
        fails = any(holds is not None and not holds for holds in answers)
        figure = "; ".join(f"{name} {shown_figure(figure)}" for name, (figure, _) in judged.items())
        self.claim(text, False if fails else None if unknown else True, figure or nothing, basis)

    def builds_on(self, stage: str) -> dict[str, Any]:
        """Return what an earlier stage wrote (see `read`), and take over what data and parameters it had."""
        found = read(stage)
        self.default = self.default and _is_default(stage, found["provenance"]["parameters"])
        if found["provenance"].get("own_data"):
            self.uses(found["provenance"]["own_data"])
        return found

    def finish(self) -> dict[str, Any]:
        """Write ``results/<stage>.json`` in one step and return what it holds.

        Called last: a notebook that fails before leaves no result, so nothing downstream mistakes it for one. Raises
        ClaimsFailed: a claim that must hold does not; the file is written all the same.
        """
        self.provenance = provenance.collect(self.parameters, self.started, self.code)
        if self.own_data:
            self.provenance["own_data"] = self.own_data
        told = {"headlines": list(map(asdict, self.headlines)), "claims": list(map(asdict, self.claims))}
        content = {**self.figures, **told, "provenance": self.provenance}
        path = self.folder / "results" / f"{self.stage}.json"
        write_file(path, json.dumps(content, indent=2, allow_nan=False, default=str) + "\n", overwrite=True)
        failed = [claim for claim in self.claims if claim.failed]
        if failed:
            hard = sum(claim.hard for claim in self.claims)
            raise ClaimsFailed(
                f"{len(failed)} of {hard} claims that must hold in this run do not: "
                + "; ".join(f"{claim.text} ({claim.figure or 'no figure'})" for claim in failed)
            )
        return content


def begin(stage: str, parameters: Mapping[str, Any]) -> Run:
    """Start the clock of a stage (a notebook's stem), with what `codecbook.book.parameters.validate` returned."""
    _check_stage(stage)
    own_data = "CODECBOOK_DATA" if os.environ.get("CODECBOOK_DATA") else ""
    return Run(
        stage, dict(parameters), run_dir(), datetime.now(UTC), _is_default(stage, parameters), own_data=own_data,
        code=provenance.checkout(),
    )  # fmt: skip


def read(stage: str) -> dict[str, Any]:
    """Return an earlier stage's headline figures, with ``"provenance"``.

    A batch run reads its own folder, or where ``CODECBOOK_NEEDS`` says, JSON of folders by stage. In an interactive
    session the newest results under ``reports/`` are taken. Where the stage has not been run, the error names the
    command that runs it.
    """
    return read_result(_find(stage, Path("results") / f"{stage}.json"))


def read_result(path: Path) -> dict[str, Any]:
    """Return what a result file holds. Raises CorruptInput: it is damaged, or of a version that wrote other fields."""
    remedy = f"delete it and run ./run_all.sh {path.stem}"
    result = read_json(path, dict, remedy)
    try:
        claims_of(result)
        headlines_of(result)
        facts = result.get("provenance", {})
        for mapping in (facts, facts.get("packages", {}), facts.get("parameters", {})):
            dict(**mapping)
    except (AttributeError, TypeError) as error:
        reason = re.sub(r"^.*?__init__\(\) ", "a part of it ", str(error))
        raise CorruptInput(f"{path} was written by another version of codecbook ({reason}); {remedy}.") from error
    return result


def claims_of(result: Mapping[str, Any]) -> list[Claim]:
    """Return the claims of a result file's content."""
    return [Claim(**claim) for claim in result.get("claims", [])]


def headlines_of(result: Mapping[str, Any]) -> list[Headline]:
    """Return the headlines of a result file's content."""
    return [Headline(**headline) for headline in result.get("headlines", [])]


def artifact(stage: str, name: str) -> Path:
    """Return the path of an artifact of an earlier stage, looked for as `read` does."""
    return _find(stage, Path("artifacts") / stage / name)


def _is_default(stage: str, parameters: Mapping[str, Any]) -> bool:
    notebook = repository_dir() / "notebooks" / f"{stage}.ipynb"
    return notebook.is_file() and defaults(read_declarations(notebook)) == dict(parameters)


def _find(stage: str, relative: Path) -> Path:
    _check_stage(stage)
    batch_run = os.environ.get("CODECBOOK_RUN_DIR")
    needs = json.loads(os.environ.get("CODECBOOK_NEEDS", "{}"))  # in a sweep, elsewhere where other points share it
    where, pattern = (
        (Path(needs.get(stage, run_dir())), str(relative))
        if batch_run
        else (repository_dir() / "reports", f"*/{relative}")
    )
    found = sorted(where.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise MissingInput(f"There is no {relative} under {where}; run ./run_all.sh {stage} to make it.")
    return found[-1]


def _check_stage(stage: str) -> None:
    if not _STAGE.fullmatch(stage):
        raise UnsupportedInput(f"{stage!r} is no name of a stage; use the notebook's stem, such as '05_determinism'.")


def _scalar(key: str, value: Any) -> Figure:
    """Return a number, str or bool as JSON can hold it."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise CorruptInput(f"Result {key} is {value}; leave it out and say why: run.skip({key!r}, reason=...).")
        return float(value)
    raise UnsupportedInput(f"Result {key} must be a number, str or bool, not {type(value).__name__}; see .artifacts.")
