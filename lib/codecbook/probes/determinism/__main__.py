"""Command line: ``python -m codecbook.probes.determinism export | run | import``.

    python -m codecbook.probes.determinism export bundle.zip            here: a case, with this machine's answers
    python -m codecbook.probes.determinism run bundle.zip --out r.json  there: every cell that machine has
    python -m codecbook.probes.determinism import r.json --bundle bundle.zip

Errors are one line on stderr and exit status 2. ``import`` ends with 1 if an exact coder or codec differs.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from codecbook.command_line import ArgumentParser, exit_status, positive_number
from codecbook.files import check_target
from codecbook.probes.determinism.bundle import read_bundle, read_result, write_bundle, write_result
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import BASELINE, FAST_CELLS, FULL_CELLS, only
from codecbook.probes.determinism.compare import CellResult
from codecbook.probes.determinism.matrix import count_cells, run_matrix, tabulate, tabulate_codec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: options.command(options), options=options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.probes.determinism")
    commands = parser.add_subparsers(required=True, metavar="command")
    exporting = commands.add_parser("export", help="write a case with this machine's answers")
    exporting.add_argument("bundle", type=Path)
    exporting.add_argument("--codec", default="encodec_24khz")
    exporting.add_argument("--segments", type=int, default=1, help="seconds of tokens (default: %(default)s)")
    exporting.add_argument("--frames", type=int, default=75, help="frames of each (default: %(default)s)")
    exporting.add_argument(
        "--recordings", type=int, default=1, help="seconds of audio that the codec is tried on (default: %(default)s)"
    )
    exporting.add_argument("--seed", type=int, default=0)
    exporting.add_argument("--overwrite", action="store_true", help="replace BUNDLE where it exists")
    exporting.set_defaults(command=_export)
    running = commands.add_parser("run", help="compute a case on this machine")
    running.add_argument("bundle", type=Path)
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--full", action="store_true", help="all combinations")
    running.add_argument("--cells", help="names, separated by commas (default: all)")
    running.add_argument("--timeout-s", type=positive_number, default=600.0, help="per cell (default: %(default)g)")
    running.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    running.set_defaults(command=_run)
    importing = commands.add_parser("import", help="check results, and print what they say")
    importing.add_argument("result", type=Path)
    importing.add_argument("--bundle", type=Path, help="refuse results of another case than this")
    importing.set_defaults(command=_import)
    return parser


def _export(options: argparse.Namespace) -> int:
    check_target(options.bundle, options.overwrite)
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(
            Path(folder) / "case", options.codec, options.segments, options.frames, options.seed,
            recordings=options.recordings,
        )  # fmt: skip
        run_matrix(case, [BASELINE], timeout_s=600.0, progress=_say)
        write_bundle(case, options.bundle, options.overwrite)
    print(f"{options.bundle}: case {case.identity[:16]}...")
    return 0


def _run(options: argparse.Namespace) -> int:
    check_target(options.out, options.overwrite)
    cells = FULL_CELLS if options.full else FAST_CELLS
    if options.cells is not None:
        cells = only(cells, [name.strip() for name in options.cells.split(",")])
    with tempfile.TemporaryDirectory() as folder:
        case = read_bundle(options.bundle, folder)
        results = run_matrix(case, cells, options.timeout_s, progress=_say)
        write_result(case, results, options.out, options.overwrite)
    print(f"{options.out}: {len(results)} cells")
    return 0


def _import(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        case = None if options.bundle is None else read_bundle(options.bundle, folder)
        content, results = read_result(options.result, case)
    table = tabulate(results, content["coders"])
    print(table[["cell", "coder", "outcome", "rows_differing", "segments_wrong", "reason"]].to_string(index=False))
    codecs = tabulate_codec(results)
    if len(codecs):
        shown = ["cell", "coder", "outcome", "tokens_differing", "samples_differing", "reason"]
        print(codecs[shown].to_string(index=False))
    exact_differs = any(
        part.tokens_differing or part.samples_differing
        for result in results
        if (part := result.codec.get("codec_exact"))
    )
    return 1 if exact_differs or count_cells(table).get("exact.cells_differing") else 0


def _say(result: CellResult) -> None:
    print(f"{result.cell.name}: {result.status} {result.reason} ({result.seconds:.1f} s)", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
