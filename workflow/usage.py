"""What commands of ``./run_all.sh`` that take arguments of their own have in common."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        print(f"{self.prog.removeprefix('./')}: {message} ({self.prog} --help)", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def run_folder(value: str) -> Path:
    """Return the folder of a run that an argument names, by its name below ``reports`` or by its path."""
    for folder in (ROOT / "reports" / value, Path(value)):
        if value and (folder / "results").is_dir():
            return folder.resolve()
    known = ", ".join(sorted(path.parent.name for path in ROOT.glob("reports/*/results")))
    raise argparse.ArgumentTypeError(
        f"{value!r} is neither a run below reports/ ({known or 'none yet'}) nor a folder with results/"
    )
