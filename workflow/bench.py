"""Measure how fast this checkout is here: the part of ``./run_all.sh bench`` that starts once the environment stands.

Exit status: 0 where every bar is met, 1 where one is not, 2 for a mistyped command line.
"""

import argparse
import sys
import time
from datetime import UTC, datetime

from usage import Parser

PARTS = ("coders", "counts", "training")  # those of benchmarks, known before it can be imported
EXIT_MISSED = 1


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line names and return the exit status."""
    parser = Parser(
        prog="./run_all.sh bench",
        description="Time this project's code against the usual way, side by side. Ratios are medians over pairs with "
        "their quartiles; leave the machine to it meanwhile.",
        epilog="Exit status: 0 where every bar is met, 1 where one is missed, 2 for a mistyped command line.",
        allow_abbrev=False,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without one")
    parser.add_argument("--rounds", type=_positive, default=9, metavar="N", help="pairs of each (default: 9)")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count what the processor worked, all threads together, where other work cannot be stopped",
    )
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # parse only
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is nothing to time; choose of {', '.join(PARTS)}")
    if options.check:
        return 0
    from benchmarks import bench

    from codecbook.book import provenance

    facts = provenance.collect({}, datetime.now(UTC), provenance.checkout())
    clock, counted = (time.process_time, "processor") if options.processor_time else (time.perf_counter, "wall clock")
    text = "{cpu}, {cores} cores, {threads} threads of torch, {os}; {counted} time"
    print(text.format(counted=counted, **facts), flush=True)
    met = True
    for part in options.parts or PARTS:
        for bar in bench(part, options.rounds, clock=clock):
            print(bar, flush=True)
            met = met and bar.met
    return 0 if met else EXIT_MISSED


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value} is no whole number of at least 1")
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
