"""What can be read or written only once, as files: standard input and output, named pipes, process substitution.

A stream is read from both ends and a stream's header is written last, so neither can go through a pipe directly.
"""

import contextlib
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from codecbook.errors import CodecbookError, UnsupportedInput

_INPUT = ("-", "/dev/stdin")
_OUTPUT = ("-", "/dev/stdout")


@contextlib.contextmanager
def readable(source: Path) -> Iterator[Path]:
    """Give a source as a file that can be read from any place: itself, or for a pipe a copy that ends with the block.

    ``-`` and ``/dev/stdin`` are standard input, which may be no terminal. Errors about the copy name the source.
    """
    is_input = str(source) in _INPUT
    if not is_input and not _is_pipe(source):
        yield source
        return
    if is_input and sys.stdin.isatty():
        raise UnsupportedInput("Standard input is a terminal; pipe a file into the command, or name one.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "input"
        given = contextlib.nullcontext(sys.stdin.buffer) if is_input else source.open("rb")
        with given as pipe, copy.open("wb") as file:
            shutil.copyfileobj(pipe, file)
        try:
            yield copy
        except CodecbookError as error:
            raise type(error)(str(error).replace(str(copy), name_of(source))) from error


@contextlib.contextmanager
def writable(target: Path, suffix: str) -> Iterator[Path]:
    """Give a target as a file: itself, or for a pipe a new one, copied there when the block has succeeded.

    ``-`` and ``/dev/stdout`` are standard output, which may be no terminal; what is printed meanwhile then goes to
    standard error. `suffix` ends the new file's name, as a pipe has none.
    """
    is_output = str(target) in _OUTPUT
    if not is_output and not _is_pipe(target):
        yield target
        return
    output = sys.stdout
    if is_output and output.isatty():
        raise UnsupportedInput("Standard output is a terminal, which shows no bytes; lead it into a file or a pipe.")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"output{suffix}"
        with contextlib.redirect_stdout(sys.stderr) if is_output else contextlib.nullcontext():
            yield written
        given = contextlib.nullcontext(output.buffer) if is_output else target.open("wb")
        with written.open("rb") as file, given as pipe:
            shutil.copyfileobj(file, pipe)
            pipe.flush()


def name_of(path: Path, is_target: bool = False) -> str:
    """Return what to call a source or a target."""
    if str(path) in (_OUTPUT if is_target else _INPUT):
        return "standard output" if is_target else "standard input"
    return str(path)


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:  # opening it will show what is wrong with it
        return False
