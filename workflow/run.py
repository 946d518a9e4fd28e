"""Run the workbook: the part of ``./run_all.sh`` that starts once the environment stands.

Checks the preset and every parameter before anything runs, lets Snakemake run what is out of date, and ends with the
index page and a word on each stage that failed. Only the standard library is imported at the top, so that a mistyped
option is refused before the environment is installed.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from stages import Plan

ROOT = Path(__file__).resolve().parents[1]
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

# jsonschema, below nbformat, builds a grammar of international addresses wherever it finds this package: seconds of
# every start, for a format that no notebook has
sys.modules["rfc3987_syntax"] = None  # pyright: ignore[reportArgumentType]


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    arguments = _arguments()
    if arguments.check:
        return 0
    from codecbook.errors import CodecbookError

    try:
        plan = _checked_plan(arguments.preset)
        unknown = [name for name in arguments.stages if name not in plan.stages]
        if unknown:
            _refuse(f"{unknown[0]} is no stage of config/stages.yaml. Known: {', '.join(plan.stages)}.")
    except CodecbookError as error:
        _refuse(str(error))
    wanted = plan.with_needs(arguments.stages)
    if arguments.dry_run:
        return _snakemake(plan, wanted, arguments, None)
    with _only_run(plan) as lock:
        return _run(plan, wanted, arguments, lock)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        _refuse(message)


def _arguments() -> argparse.Namespace:
    """Parse the command line; presets, executors and stages are held against the files of the checkout."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--preset", type=_preset, default="fast")
    parser.add_argument("--jobs", type=_positive)
    parser.add_argument("--executor", type=_executor, default="default")
    parser.add_argument("--keep-going", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--check", action="store_true")  # parse only
    arguments = parser.parse_intermixed_args()
    known = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for stage in arguments.stages:
        if stage not in known:
            _refuse(f"{stage} is neither a command nor a stage. Stages: {', '.join(known)}.")
    return arguments


def _preset(value: str) -> Path:
    own = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "stages")
    if value in own:
        return ROOT / "config" / f"{value}.yaml"
    path = Path(value).expanduser().resolve()
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise argparse.ArgumentTypeError(
            f"{value} is neither a preset ({', '.join(own)}) nor the path of a YAML file."
        )
    if path.stem in own and path.parent != ROOT / "config":
        raise argparse.ArgumentTypeError(
            f"{value} would write into reports/{path.stem}, the folder of the project's own preset; rename the file."
        )
    return path


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value} is no whole number of at least 1.")
    return int(value)


def _executor(value: str) -> str:
    own = sorted(path.parent.name for path in (ROOT / "profiles").glob("*/config.yaml"))
    if value not in own:
        raise argparse.ArgumentTypeError(
            f"there is no profiles/{value}/config.yaml. Known: {', '.join(own)}."
        )
    return value


def _refuse(message: str) -> NoReturn:
    """End with a message about the command line or a file of the user's."""
    print(f"run_all.sh: {message} (./run_all.sh --help)", file=sys.stderr)
    sys.exit(EXIT_USAGE)


def _checked_plan(preset: Path) -> "Plan":
    """Read the plan and hold every parameter against its notebook, as papermill itself would only warn."""
    from stages import read_plan

    from codecbook.book.parameters import check_against_notebook

    plan = read_plan(preset, ROOT)
    for stage in plan.stages.values():
        if stage.parameters:
            check_against_notebook(ROOT / "notebooks" / f"{stage.name}.ipynb", stage.parameters)
    return plan


@contextlib.contextmanager
def _only_run(plan: "Plan") -> Iterator[TextIO]:
    """Hold the lock of the run's folder.

    The system gives it back when its last holder ends, however it ends; Snakemake inherits it. So a killed run leaves
    no lock behind, and Snakemake's own, which stays, is not used.
    """
    path = ROOT / plan.run_dir / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            _refuse(f"another run writes into {plan.run_dir} (process {holder}); wait until it has ended.")
        yield lock


def _run(plan: "Plan", wanted: list[str], arguments: argparse.Namespace, lock: TextIO) -> int:
    """Run what is out of date, render the index, and report."""
    from codecbook.book.render import render_index

    _restore_reports(plan, wanted)
    started_s = time.time()
    returncode = _snakemake(plan, wanted, arguments, lock)
    if returncode == 0 and not any(_started_since(plan, stage, started_s) for stage in wanted):
        print(f"Nothing to do: {len(wanted)} of {len(wanted)} stages are up to date.")
    failed = [stage for stage in wanted if _failed_since(plan, stage, started_s)]
    blocked = _withdraw_dependants(plan, failed) if returncode == EXIT_FAILED else {}
    index = render_index(ROOT / plan.run_dir)
    if returncode == EXIT_INTERRUPTED:
        print("Stopped; the next call goes on from here.")
    elif returncode:
        for stage in failed:
            page = plan.html(stage) if (ROOT / plan.html(stage)).is_file() else plan.log(stage)
            print(f"failed   {stage}: look at {page}")
        for stage, need in blocked.items():
            print(f"not run  {stage}: it needs {need}")
        print("The next call goes on from here.")
    print(f"Report: {index}")
    return returncode


def _restore_reports(plan: "Plan", wanted: list[str]) -> None:
    """Make missing HTML of finished stages anew; Snakemake does not, as log files are no targets.

    Where the executed notebook is gone too, the result goes, and the stage is run again.
    """
    from codecbook.book.render import render_report

    for stage in wanted:
        result, html, executed = (ROOT / path(stage) for path in (plan.result, plan.html, plan.executed))
        if not result.is_file() or (html.is_file() and executed.is_file()):
            continue
        if executed.is_file():
            print(f"      rendering {stage} again")
            render_report(executed, html)
        else:
            result.unlink()


def _snakemake(plan: "Plan", wanted: list[str], arguments: argparse.Namespace, lock: TextIO | None) -> int:
    """Let Snakemake bring the wanted stages up to date; a signal that ends this process ends the jobs too."""
    process: subprocess.Popen | None = None
    interrupted = False

    def interrupt(_signal_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        if process and process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)

    # before the start: what runs in the background of a script inherits an ignored interrupt, and would pass it on
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has its way
            signal.signal(number, interrupt)
    sys.stdout.flush()  # what was printed so far stands before the engine's own lines, also in a pipe
    process = subprocess.Popen(
        _command(plan, wanted, arguments),
        cwd=ROOT,
        env=_environment(),
        pass_fds=[lock.fileno()] if lock else [],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # with its jobs, to which it passes no signal on
    )
    if lock:
        lock.truncate(0)
        lock.write(str(process.pid))
        lock.flush()
    for line in process.stderr or ():
        if "for setting default command line arguments" not in line:  # said on every start
            print(line, end="", file=sys.stderr, flush=True)
    returncode = process.wait()
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if returncode else 0


def _command(plan: "Plan", wanted: list[str], arguments: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile"]
    command += ["--workflow-profile", f"profiles/{arguments.executor}", "--logger", "codecbook", "--nolock"]
    command += ["--config", f"preset={arguments.preset}"]
    if arguments.jobs:
        # a local executor counts cores, a remote one jobs
        command += ["--cores" if arguments.executor == "default" else "--jobs", str(arguments.jobs)]
    command += ["--keep-going"] * arguments.keep_going
    command += ["--dry-run"] * arguments.dry_run
    command += ["--forceall"] * arguments.fresh
    return [*command, "--", *(str(plan.result(stage)) for stage in wanted)]


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("SNAKEMAKE_PROFILE", None)  # a user's own profile would mix with the project's
    search_path = [str(ROOT / "workflow" / "logger"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
    return environment


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
