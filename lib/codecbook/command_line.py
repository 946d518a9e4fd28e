"""What all command lines share: an error is one line on stderr, and what went wrong is told by the exit status."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from codecbook.errors import CodecbookError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells count a process that SIGINT ended: 128 + 2
EXIT_TERMINATED = 143  # and SIGTERM


def exit_status(run: Callable[[], int], when_interrupted: str | None = None) -> int:
    """Run a command and return its exit status; turn errors of the input and of files into one line on stderr.

    Other exceptions are faults of the program and pass through, with their traceback. SIGTERM becomes `SystemExit`, so
    that half-written files are removed as after any exception.

    Args:
        run: The command, its arguments bound; returns an exit status.
        when_interrupted: What becomes of the work on Ctrl-C ("nothing was written"); None lets `KeyboardInterrupt`
            pass, for commands that have nothing to say about it.

    Returns:
        What `run` returned; `EXIT_ERROR` after a `CodecbookError` or an `OSError`; `EXIT_INTERRUPTED` after Ctrl-C.
    """
    try:
        with _terminable():
            return run()
    except CodecbookError as error:
        print(f"codecbook: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError as error:
        # a pipe that nobody reads any more has no name
        name = "" if error.filename is None else f": {error.filename}"
        print(f"codecbook: {error.strerror or error}{name}", file=sys.stderr)
    except KeyboardInterrupt:
        if when_interrupted is None:
            raise
        print(f"codecbook: interrupted; {when_interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_ERROR


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit` meanwhile, where it would end the process at once."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return
    process = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process
        if os.getpid() != process:
            os.kill(os.getpid(), number)  # of a fork: files are its parent's
        raise SystemExit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
