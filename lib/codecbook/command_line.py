"""What all command lines share: an error is one line on stderr, and what went wrong is told by the exit status."""

import sys
from collections.abc import Callable

from codecbook.errors import CodecbookError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells count a process that SIGINT ended: 128 + 2


def exit_status(run: Callable[[], int], when_interrupted: str | None = None) -> int:
    """Run a command and return its exit status; turn errors of the input and of files into one line on stderr.

    Other exceptions are faults of the program and pass through, with their traceback.

    Args:
        run: The command, its arguments bound; returns an exit status.
        when_interrupted: What becomes of the work on Ctrl-C ("nothing was written"); None lets `KeyboardInterrupt`
            pass, for commands that have nothing to say about it.

    Returns:
        What `run` returned; `EXIT_ERROR` after a `CodecbookError` or an `OSError`; `EXIT_INTERRUPTED` after Ctrl-C.
    """
    try:
        return run()
    except CodecbookError as error:
        print(f"codecbook: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError as error:
        print(f"codecbook: {error.strerror or error}: {error.filename}", file=sys.stderr)
    except KeyboardInterrupt:
        if when_interrupted is None:
            raise
        print(f"codecbook: interrupted; {when_interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_ERROR
