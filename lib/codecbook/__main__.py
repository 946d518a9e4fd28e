"""The command ``codecbook``, or ``python -m codecbook``: all command lines of the package by one name.

codecbook coding compress song.wav song.cbs
codecbook codecs list
codecbook --version
"""

import importlib
import sys
from collections.abc import Sequence

from codecbook import __version__
from codecbook.command_line import ArgumentParser, call_as

# each is a module of the same name below codecbook, the last three below its probes
COMMANDS = {
    "codecs": ("codecbook.codecs.__main__", "audio to token files and back"),
    "codecs.corpus": ("codecbook.codecs.corpus.__main__", "recordings to corpora of tokens"),
    "codecs.train": ("codecbook.codecs.training.__main__", "train a codec"),
    "coding": ("codecbook.coding.__main__", "recordings to streams and back"),
    "lm": ("codecbook.lm.__main__", "language models on tokens"),
    "determinism": ("codecbook.probes.determinism.__main__", "whether streams decode elsewhere"),
    "corruption": ("codecbook.probes.corruption.__main__", "try every reader with altered inputs"),
    "weights": ("codecbook.probes.weights.__main__", "models as smaller files"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of one of the rooms and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = ArgumentParser(prog="codecbook", description="Neural audio codec tokens: codecs, streams, and models.")
    parser.add_argument("--version", action="version", version=f"codecbook {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    parser.parse_args(words[:1])  # what follows is the command's own business
    call_as("codecbook")
    return importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
