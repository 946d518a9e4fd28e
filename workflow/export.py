"""Write a run as one page: the part of ``./run_all.sh export`` that starts once the environment stands.

Exit status: 0, or 2 for a mistyped command line.
"""

import argparse
import sys
from pathlib import Path

from usage import Parser, run_folder


def main(arguments: list[str] | None = None) -> int:
    """Export the run that the command line names and return the exit status."""
    parser = Parser(
        prog="./run_all.sh export",
        description="Write the index and all reports of a run as one HTML file that opens from disk.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", metavar="RUN", type=run_folder, nargs="?", default="fast", help="name below reports/, or folder (fast)"
    )
    parser.add_argument("--out", type=Path, metavar="PAGE.html", help="(default: codecbook-RUN.html, here)")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # parse only
    options = parser.parse_args(arguments)
    if options.check:
        return 0
    from codecbook.book.pages.export import export_run
    from codecbook.errors import CodecbookError

    try:
        page = export_run(options.run, options.out or Path(f"codecbook-{options.run.name}.html"))
    except (CodecbookError, OSError) as error:
        parser.error(str(error))
    print(f"Page: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
