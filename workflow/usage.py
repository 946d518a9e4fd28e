"""The parser of commands of ``./run_all.sh`` that take arguments of their own."""

import argparse
import sys
from typing import NoReturn

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        print(f"{self.prog.removeprefix('./')}: {message} ({self.prog} --help)", file=sys.stderr)
        sys.exit(EXIT_USAGE)
