"""Compare two runs: the part of ``./run_all.sh compare`` that starts once the environment stands.

Exit status: 0 where nothing differs that counts, 1 where something does, 2 for a mistyped command line.
"""

import argparse
import sys
from pathlib import Path

from usage import Parser, run_folder

EXIT_DIFFERENT = 1


def main(arguments: list[str] | None = None) -> int:
    """Compare what the command line names and return the exit status."""
    parser = Parser(
        prog="./run_all.sh compare",
        description="Say which figures and claims moved between two runs, whether beyond their intervals, and which "
        "parameter, version, machine, seed or commit differs.",
        epilog="Exit status: 0 where nothing that counts differs, 1 where something does, 2 for a wrong command line.",
        allow_abbrev=False,
    )
    for name in ("before", "after"):
        parser.add_argument(
            name, metavar=f"RUN_{'AB'[name == 'after']}", type=run_folder, help="name below reports/, or folder"
        )
    parser.add_argument("--out", type=Path, metavar="PAGE.html", help="write the comparison as a page, too")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # parse only
    options = parser.parse_args(arguments)
    if options.check:
        return 0
    from codecbook.book.pages.compare import compare_runs, render_comparison, text_of
    from codecbook.errors import CodecbookError

    try:
        differences = compare_runs(options.before, options.after)
        print(text_of(differences))
        if options.out:
            print(f"Page: {render_comparison(options.before, options.after, differences, options.out)}")
    except CodecbookError as error:
        parser.error(str(error))
    return EXIT_DIFFERENT if any(difference.counts for difference in differences) else 0


if __name__ == "__main__":
    sys.exit(main())
