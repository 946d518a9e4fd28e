"""Other processors on one machine: a foreign Python whose every instruction is emulated.

User-mode emulation (qemu) runs programs of another processor: other vector units, other kernels of the linear algebra
library, other orders of summation, another byte order, another word length. A `ForeignRoot` is a folder with Debian's
Python and numpy of such a processor, for Arm64 with PyTorch and numba as well. The emulator reads it in place; it
takes neither a chroot, nor a registration with the kernel, nor an administrator's rights. Emulated floating point
follows IEEE 754 as the processor would, so a hash says what that processor computes; times say nothing about it.

    python -m codecbook.probes.determinism.foreign make arm64 s390x --torch
    python -m codecbook.probes.determinism.foreign list
    python -m codecbook.probes.determinism.foreign run arm64 -- script.py arguments

A foreign Python cannot start itself again (``multiprocessing``, ``subprocess`` of ``sys.executable``), because the
kernel does not know its programs.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from codecbook.command_line import exit_status
from codecbook.errors import CodecbookError
from codecbook.probes.determinism.foreign_make import describe, make_root
from codecbook.probes.determinism.foreign_root import (
    ARCHITECTURES,
    Architecture,
    ForeignRoot,
    command,
    find_root,
    roots_folder,
)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ForeignRoot",
    "command",
    "find_root",
    "main",
    "make_root",
    "roots_folder",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; that of ``run`` is the foreign process's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    options = _parser().parse_args(words[:end])
    options.arguments = words[end + 1 :]
    return exit_status(lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m codecbook.probes.determinism.foreign")
    commands = parser.add_subparsers(required=True, metavar="command")
    making = commands.add_parser("make", help="make roots, where they are not there yet")
    making.add_argument("arch", nargs="+", choices=list(ARCHITECTURES))
    making.add_argument(
        "--torch", action="store_true", help="with PyTorch, where the processor has it (arm64)"
    )
    making.add_argument("--suite", default="", help="Debian suite (default: the machine's own)")
    making.add_argument("--mirror", default="", help="Debian archive (default: that of the apt sources)")
    making.set_defaults(command=_make)
    listing = commands.add_parser("list", help="say which roots are there")
    listing.set_defaults(command=_list)
    running = commands.add_parser(
        "run",
        help="run a foreign Python; this package can be imported in it",
        usage="%(prog)s [options] arch -- ARGUMENTS, as after the word python",
    )
    running.add_argument("arch", choices=list(ARCHITECTURES))
    running.add_argument("--cpu", default="", help="model of processor, as the emulator names it")
    running.set_defaults(command=_run)
    for command_parser in (making, listing, running):
        command_parser.add_argument(
            "--folder", type=Path, help=f"folder of all roots (default: {roots_folder()})"
        )
    return parser


def _make(options: argparse.Namespace) -> int:
    for arch in options.arch:
        with_torch = options.torch and bool(ARCHITECTURES[arch].platforms)
        make_root(arch, options.folder, with_torch, _say, options.suite, options.mirror)
    return 0


def _list(options: argparse.Namespace) -> int:
    for arch in ARCHITECTURES:
        try:
            print(f"{arch}: {describe(find_root(arch, options.folder))}")
        except CodecbookError as error:
            print(f"{arch}: {error}")
    return 0


def _run(options: argparse.Namespace) -> int:
    root = find_root(options.arch, options.folder)
    library = Path(__file__).resolve().parents[3]
    return subprocess.run(command(root, options.arguments, [library], cpu=options.cpu)).returncode


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
