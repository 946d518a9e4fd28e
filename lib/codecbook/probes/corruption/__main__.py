"""Command line: ``python -m codecbook.probes.corruption fuzz``.

    python -m codecbook.probes.corruption fuzz --inputs 100000 --out failures   all readers
    python -m codecbook.probes.corruption fuzz --reader npq --seed 17           one input again, with its traceback

Ctrl-C ends with a summary. The exit status is 1 if an input ended otherwise than it should, 2 after a wrong option.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from codecbook.command_line import ArgumentParser, exit_status, positive_number
from codecbook.probes.corruption.fuzz import CATALOGUE, MEMORY_MIB, TIMEOUT_S, fuzz


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: options.command(options), options=options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.probes.corruption")
    commands = parser.add_subparsers(required=True, metavar="command")
    fuzzing = commands.add_parser("fuzz", help="read altered inputs, and see that each ends as it should")
    fuzzing.add_argument("--inputs", type=int, help="how many (default: 10000; 1 where a seed is given)")
    fuzzing.add_argument("--reader", action="append", default=[], help="this one alone; may be given again")
    fuzzing.add_argument("--seed", type=int, help="of each reader's first input (default: 0)")
    fuzzing.add_argument("--timeout-s", type=positive_number, default=TIMEOUT_S, help="(default: %(default)g)")
    fuzzing.add_argument("--memory-mib", type=int, default=MEMORY_MIB, help="beyond good inputs (default: %(default)s)")
    fuzzing.add_argument("--out", type=Path, help="folder for inputs that fail")
    fuzzing.set_defaults(command=_fuzz)
    return parser


def _fuzz(options: argparse.Namespace) -> int:
    inputs = options.inputs or (10_000 if options.seed is None else 1)
    report = fuzz(
        inputs, readers=options.reader, seed=options.seed or 0, timeout_s=options.timeout_s,
        memory_mib=options.memory_mib, out=options.out, catalogue=CATALOGUE, on_progress=_say,
    )  # fmt: skip
    print(f"\n{report.counts.to_string()}")
    total = int(report.counts.to_numpy().sum())
    for failure in report.failures:
        print(failure.detail if total == 1 else failure)
    print(f"{total} inputs, {len(report.failures)} failures")
    return 1 if report.failures else 0


def _say(reader: str, done: int, count: int) -> None:
    if done % 100 == 0 or done == count:
        print(f"\r{reader}: {done} of {count}   ", end="\n" * (done == count), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
