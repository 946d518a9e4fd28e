"""What the command line of ``./run_all.sh`` asks for, where it starts a run."""

import argparse
import contextlib
import difflib
import importlib.util
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from usage import EXIT_USAGE, ROOT

COMMANDS = ("test", "lab", "bench", "compare", "export", "corpus", "doctor")  # of run_all.sh, which are no stages
MOST_JOBS = 1000
OTHER_RUNS = ("interactive", "sample")  # folders of reports/ that belong to no preset


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest option."""

    def error(self, message: str) -> NoReturn:
        _, unknown, options = message.partition("unrecognized arguments: ")
        if unknown:
            message += _nearest(options.split()[0].partition("=")[0], self._option_string_actions)
        refuse(f"{message}{'' if message.endswith(('.', '?')) else '.'} See ./run_all.sh --help.")


def read_arguments(command_line: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; presets, executors and stages are held against the files of the checkout."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parameters = parser.add_mutually_exclusive_group()
    parameters.add_argument("--preset", type=_preset, default="fast")
    parameters.add_argument("--sweep", type=_sweep)
    parser.add_argument("--name", type=_name)
    parser.add_argument("--clips", type=_clips)
    parser.add_argument("--jobs", type=number_of_jobs)
    parser.add_argument("--executor", type=executor_name, default="default")
    parser.add_argument("--keep-going", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--check", action="store_true")  # parse only
    arguments = parser.parse_intermixed_args(command_line)
    known = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for stage in arguments.stages:
        if stage in COMMANDS:
            refuse(f"{stage} is a command and stands first: ./run_all.sh {stage}.")
        if stage not in known:
            hint = _nearest(Path(stage).stem, [*known, *COMMANDS])
            refuse(f"{stage!r} is neither a command nor a stage{hint} Stages: {', '.join(known)}.")
    if arguments.sweep and (arguments.stages or arguments.clips):
        refuse(f"{arguments.sweep} itself says which stages and clips it takes; leave STAGE and --clips out.")
    if arguments.clips and not arguments.name:
        name = re.sub(r"[^A-Za-z0-9._]+", "-", arguments.clips.name).strip("-._")
        try:
            arguments.name = _name(name)
        except argparse.ArgumentTypeError:
            refuse(f"{arguments.clips} has no name that could be that of a folder of reports; add --name NAME.")
    return arguments


def _nearest(wanted: str, names: Collection[str]) -> str:
    """Return the end of a sentence, with a hint at the one name that begins so, or else the most similar one."""
    begun = [name for name in names if wanted and name.startswith(wanted)]
    nearest = begun if len(begun) == 1 else difflib.get_close_matches(wanted, names, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else "."


def _own_presets() -> list[str]:
    return sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "stages")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", value, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{value!r} is no name for a folder of reports; take letters, digits, '_', '-' and '.', no sign first."
        )
    if value in (*_own_presets(), *OTHER_RUNS):
        raise argparse.ArgumentTypeError(f"reports/{value} is a folder of the project's own; give another name.")
    return value


def _sweep(value: str) -> Path:
    folder = ROOT / "config" / "sweeps"
    return _parameter_file(value, sorted(path.stem for path in folder.glob("*.yaml")), folder, "sweep")


def _preset(value: str) -> Path:
    path = _parameter_file(value, _own_presets(), ROOT / "config", "preset")
    if path == ROOT / "config" / "stages.yaml":
        raise argparse.ArgumentTypeError(f"{value!r} is the list of stages, no preset; give a file of your own.")
    return path


def _parameter_file(value: str, own: list[str], folder: Path, kind: str) -> Path:
    """Return the file that names parameters: one of the project's, by its name, or any other, by its path."""
    if value in own:
        return folder / f"{value}.yaml"
    path = _resolved(value)
    if path is None or path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise argparse.ArgumentTypeError(
            f"{value!r} is neither a {kind} ({', '.join(own)}) nor the path of a YAML file{_nearest(value, own)}"
        )
    if path.stem in (*_own_presets(), *OTHER_RUNS) and path.parent != ROOT / "config":
        raise argparse.ArgumentTypeError(
            f"{value!r} would write into reports/{path.stem}, the folder of the project's own; rename the file."
        )
    if path.stem.startswith(".") or not path.stem.isprintable() or set(path.stem) & set("{}"):
        raise argparse.ArgumentTypeError(
            f"{value!r} names no folder for its report; rename the file, without a point in front, braces, or bytes "
            "that cannot be printed."
        )
    return path


def _clips(value: str) -> Path:
    path = _resolved(value)
    if path is None or not path.is_dir():
        raise argparse.ArgumentTypeError(f"{value!r} is no folder; give one with recordings.")
    return path


def _resolved(value: str) -> Path | None:
    """Return what is at a path; None where nothing is."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a null character, an unknown user, a loop of links
        return Path(value).expanduser().resolve(strict=True) if value else None


def number_of_jobs(value: str) -> int:
    """Read how many jobs are to run at a time."""
    if not value.isdecimal() or not 1 <= int(value[:9]) <= MOST_JOBS or len(value) > 9:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number from 1 to {MOST_JOBS}.")
    return int(value)


def executor_name(value: str) -> str:
    """Check the name of an executor, which is that of a folder in ``profiles``."""
    own = sorted(path.parent.name for path in (ROOT / "profiles").glob("*/config.yaml"))
    if value not in own:
        raise argparse.ArgumentTypeError(
            f"there is no profiles/{value}/config.yaml{_nearest(value, own)} Known: {', '.join(own)}."
        )
    return value


def refuse_missing_executor(profile: str) -> None:
    """End with a message where the package is missing by which the engine speaks to a cluster."""
    settings = (ROOT / "profiles" / profile / "config.yaml").read_text(encoding="utf-8")
    named = re.search(r"^executor: *([\w-]+)", settings, re.MULTILINE)
    if named and not importlib.util.find_spec(f"snakemake_executor_plugin_{named[1].replace('-', '_')}"):
        refuse(
            f"--executor {profile} needs the package snakemake-executor-plugin-{named[1]}, which is not installed; "
            "install it here, or leave --executor out."
        )


def refuse(message: str) -> NoReturn:
    """End with a message about the command line or a file of the user's."""
    print(f"run_all.sh: {message}", file=sys.stderr)
    sys.exit(EXIT_USAGE)
