"""Run the workbook: the part of ``./run_all.sh`` that starts once the environment stands.

Checks the preset and every parameter before anything runs, lets Snakemake run what is out of date, and ends with the
index page and a word on each stage that failed. Only the standard library is imported at the top, so that a mistyped
option is refused before the environment is installed.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from arguments import read_arguments, refuse, refuse_missing_executor
from engine import EXIT_FAILED, EXIT_INTERRUPTED, Interrupts, engine_environment, run_engine
from usage import ROOT

if TYPE_CHECKING:
    from stages import Plan

LEAST_FREE_MB = 50  # in which a few reports and the engine's records have room
DATA_VARIABLES = ("CODECBOOK_DATA", "CODECBOOK_EXTRA")
PRESET_NOTE = ".preset"  # in a run's folder: the path of its preset, from the root on or absolute

# jsonschema, below nbformat, builds a grammar of international addresses wherever it finds this package: seconds of
# every start, for a format that no notebook has
sys.modules["rfc3987_syntax"] = None  # pyright: ignore[reportArgumentType]


def main(command_line: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit code."""
    with Interrupts() as interrupts:
        arguments = read_arguments(command_line)
        if arguments.check:
            return 0
        refuse_missing_executor(arguments.executor)
        plan = _checked_plan(arguments)
        _refuse_place(plan)
        wanted = plan.with_needs(_stages_that_listen(plan, arguments.stages) if arguments.clips else arguments.stages)
        if arguments.dry_run:
            return _snakemake(plan, wanted, arguments, interrupts, None)
        with _only_run(plan) as lock:
            returncode = _run(plan, wanted, arguments, interrupts, lock)
        return EXIT_INTERRUPTED if interrupts.came else returncode


def _stages_that_listen(plan: "Plan", stages: Sequence[str]) -> list[str]:
    """Return the wanted stages, all without an argument, of those that take recordings or sum up; refuse others."""
    listening = [name for name, stage in plan.stages.items() if stage.last or "clips_dir" in stage.parameters]
    for stage in stages:
        if stage not in listening:
            refuse(f"{stage} takes no recordings; with --clips, stages are {', '.join(listening)}.")
    return list(stages) or [name for name in listening if not plan.stages[name].left_out]


def _checked_plan(arguments: argparse.Namespace) -> "Plan":
    """Read the plan and hold every parameter against its notebook, as papermill itself would only warn."""
    from stages import read_plan
    from sweeps import read_sweep

    from codecbook import paths
    from codecbook.errors import CodecbookError

    for name in DATA_VARIABLES:  # notebooks run in a folder of their own
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))  # noqa: PTH100, PTH111
    try:
        paths.data_dir()
        if arguments.sweep:
            return read_sweep(arguments.sweep, ROOT, arguments.name or "")
        return read_plan(arguments.preset, ROOT, arguments.name or "", arguments.clips)
    except CodecbookError as error:
        refuse(str(error))


def _refuse_place(plan: "Plan") -> None:
    """Refuse a folder where nothing can be written, or that holds the report of another preset."""
    run_dir = ROOT / plan.run_dir
    there = next(path for path in (run_dir, *run_dir.parents) if path.exists())
    for folder in (ROOT, there):  # the engine keeps its records in the checkout itself
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            refuse(f"{folder} is no folder that you can write to; use a checkout of your own.")
        free_mb = shutil.disk_usage(folder).free / 1e6
        if free_mb < LEAST_FREE_MB:
            refuse(f"{folder} lies on a disk with {free_mb:.0f} MB free; make room for {LEAST_FREE_MB} MB.")
    owner = run_dir / PRESET_NOTE
    if owner.is_file() and not _is_own(plan):
        other = ROOT / owner.read_text(encoding="utf-8", errors="surrogateescape")
        if other != plan.preset and other.is_file():
            remedy = f"rename {plan.preset}" if plan.run_dir.name == plan.preset.stem else "give another --name"
            refuse(f"{plan.run_dir} holds the report of {other}; {remedy}, or delete that folder.")


def _is_own(plan: "Plan") -> bool:
    """Say whether the folder is that of one of the project's presets, which no other may use."""
    return plan.preset.parent == ROOT / "config" and plan.run_dir.name == plan.preset.stem


@contextlib.contextmanager
def _only_run(plan: "Plan") -> Iterator[TextIO]:
    """Hold the lock of the run's folder.

    The system gives it back when its last holder ends, however it ends; Snakemake inherits it. So a killed run leaves
    no lock behind, and Snakemake's own, which stays, is not used.
    """
    path = ROOT / plan.run_dir / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_own(plan):
            # from the root on where it lies there: a checkout may be moved
            preset = plan.preset.relative_to(ROOT) if plan.preset.is_relative_to(ROOT) else plan.preset
            (path.parent / PRESET_NOTE).write_text(str(preset), encoding="utf-8", errors="surrogateescape")
        lock_file = path.open("a+")
    except OSError as error:  # a full disk, a link to nothing
        refuse(f"{path.parent} cannot be written ({error.strerror}); make room there, or use another checkout.")
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            refuse(f"another run writes into {plan.run_dir} (process {holder}); wait until it has ended.")
        yield lock


def _run(plan: "Plan", wanted: list[str], arguments: argparse.Namespace, interrupts: Interrupts, lock: TextIO) -> int:
    """Run what is out of date, render the index, and report."""
    from codecbook.errors import CodecbookError

    _restore_reports(plan, wanted)
    for stage in wanted:
        if not plan.stages[stage].inventory.complete:
            print(f"      {stage} takes so many files that only changes among the first are noticed; see --fresh")
    started_s = time.time()
    returncode, blocked = _bring_up_to_date(plan, wanted, arguments, interrupts, lock)
    if returncode == 0 and not any(_started_since(plan, stage, started_s) for stage in wanted):
        print(f"Nothing to do: {len(wanted)} of {len(wanted)} stages are up to date.")
    failed = [stage for stage in wanted if _failed_since(plan, stage, started_s)]
    if returncode == EXIT_INTERRUPTED:
        print("Stopped; the next call goes on from here.")
    elif returncode:
        for stage in failed:
            page = ROOT / plan.html(stage)
            if page.is_file() and not page.stat().st_size:
                page.unlink()  # the engine makes a log file that is missing, and for it this is one
            print(f"failed   {stage}: look at {plan.html(stage) if page.is_file() else plan.log(stage)}")
        for stage, need in blocked.items():
            print(f"not run  {stage}: it needs {need}")
        print("The next call goes on from here.")
    try:
        index = _render_index(plan)
        _say_findings(plan, wanted)
    except (CodecbookError, OSError) as error:  # a result that was written by hand, or by half; a full disk
        print(f"run_all.sh: {error}" + "; make room there, and call again." * isinstance(error, OSError))
        return returncode or EXIT_FAILED
    print(f"Report: {index}")
    return returncode


def _render_index(plan: "Plan") -> Path:
    if plan.grid is None:
        from codecbook.book.pages.index_page import render_index

        return render_index(ROOT / plan.run_dir)
    from codecbook.book.pages.sweep import render_sweep

    return render_sweep(ROOT / plan.run_dir, plan.grid)


def _say_findings(plan: "Plan", wanted: list[str]) -> None:
    """Name the claims that do not hold here: findings of this run, which decide nothing."""
    from codecbook.book.results import claims_of

    for stage in wanted:
        result = ROOT / plan.result(stage)
        if result.is_file():
            for claim in claims_of(json.loads(result.read_text())):
                if claim.holds is False:
                    print(f"finding  {stage}: {claim.sentence}")


def _restore_reports(plan: "Plan", wanted: list[str]) -> None:
    """Make missing HTML of finished stages anew; Snakemake does not, as log files are no targets.

    Where the executed notebook is gone too, or stops in its midst, the result goes, and the stage is run again.
    """
    from codecbook.book.pages.render import render_report
    from codecbook.errors import CorruptInput

    for stage in wanted:
        result, html, executed = (ROOT / path(stage) for path in (plan.result, plan.html, plan.executed))
        if not result.is_file() or (html.is_file() and executed.is_file()):
            continue
        try:
            print(f"      rendering {stage} again")
            render_report(executed, html)
        except CorruptInput:
            result.unlink()


def _bring_up_to_date(
    plan: "Plan", wanted: list[str], arguments: argparse.Namespace, interrupts: Interrupts, lock: TextIO
) -> tuple[int, dict[str, str]]:
    """Run what is out of date; return the exit code, and of stages that could not run the one that they lacked.

    A stage that sums up has a call of its own: it runs whatever became of the others, on what is then there.
    """
    started_s = time.time()
    turns = [[stage for stage in wanted if plan.stages[stage].last == last] for last in (False, True)]
    returncode, blocked = 0, {}
    for stages in filter(None, turns):
        if returncode and not (returncode == EXIT_FAILED and arguments.keep_going):
            break
        returncode = max(returncode, _snakemake(plan, stages, arguments, interrupts, lock))
        if returncode == EXIT_FAILED:
            blocked |= _withdraw_dependants(plan, [s for s in stages if _failed_since(plan, s, started_s)])
    return returncode, blocked


def _snakemake(
    plan: "Plan", wanted: list[str], arguments: argparse.Namespace, interrupts: Interrupts, lock: TextIO | None
) -> int:
    """Let Snakemake bring the wanted stages up to date."""
    command = _command(plan, wanted, arguments)
    return run_engine(command, interrupts, cwd=ROOT, env=engine_environment(ROOT), lock=lock)


def _command(plan: "Plan", wanted: list[str], arguments: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile"]
    command += ["--workflow-profile", f"profiles/{arguments.executor}", "--logger", "codecbook", "--nolock"]
    # as an address, since the engine reads values as YAML: "Music #1" would end early, "x: y" would be a mapping
    command += ["--config", f"{'sweep' if plan.grid else 'preset'}={plan.preset.as_uri()}"]
    command += [f"name=name:{arguments.name}"] * bool(arguments.name)
    if arguments.clips:
        command += [f"clips={arguments.clips.as_uri()}"]
    if arguments.jobs:
        # a local executor counts cores, a remote one jobs
        command += ["--cores" if arguments.executor == "default" else "--jobs", str(arguments.jobs)]
    command += ["--keep-going"] * arguments.keep_going
    command += ["--dry-run"] * arguments.dry_run
    command += ["--forceall"] * arguments.fresh
    return [*command, "--", *(str(plan.result(stage)) for stage in wanted)]


def _started_since(plan: "Plan", stage: str, started_s: float) -> bool:
    log = ROOT / plan.log(stage)
    return log.is_file() and log.stat().st_mtime >= started_s


def _failed_since(plan: "Plan", stage: str, started_s: float) -> bool:
    """Say whether the stage was started in this run and left no result."""
    return _started_since(plan, stage, started_s) and not (ROOT / plan.result(stage)).is_file()


def _withdraw_dependants(plan: "Plan", failed: list[str]) -> dict[str, str]:
    """Take back what an earlier run left of stages that build on a failed one; return ``{stage: failed need}``.

    Their figures belong to inputs that no longer exist, and beside the new ones they would mislead.
    """
    blocked: dict[str, str] = {}
    for stage in plan.stages.values():
        cause = next((need for need in stage.needs if need in failed or need in blocked), None)
        if cause is not None:
            blocked[stage.name] = cause
            for path in (plan.result(stage.name), plan.html(stage.name)):
                (ROOT / path).unlink(missing_ok=True)
    return blocked


if __name__ == "__main__":
    sys.exit(main())
