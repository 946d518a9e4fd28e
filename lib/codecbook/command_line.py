"""What all command lines share: an error is one line on stderr, and what went wrong is told by the exit status.

    def main(arguments: Sequence[str] | None = None) -> int:
        options = _parser().parse_args(arguments)  # an `ArgumentParser` of this module
        return exit_status(lambda: options.command(options), "nothing was written", options)

A mistyped command line is such an error too.
"""

import argparse
import contextlib
import difflib
import io
import math
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from codecbook.errors import CodecbookError, CodecbookWarning

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells count a process that SIGINT ended: 128 + 2
EXIT_TERMINATED = 143  # and SIGTERM

_program = ""  # how the command was called, where it was not by ``python -m`` and its module
_WORDS = "option_words"  # in a namespace: options by the names that functions have for them
# where a function's name for it is not the option's
_OTHER_NAMES = {
    "bandwidth_kbps": "bandwidth", "num_codebooks": "codebooks", "chunk_s": "chunk_seconds",
    "segment_s": "segment_seconds", "start_s": "start", "end_s": "end", "by": "split_by",
    "max_duration_s": "max_seconds",
}  # fmt: skip
_ARGUMENT = re.compile(
    r"""(?<![\w.('"/])(?P<name>[a-z][a-z0-9_]*)=(?P<value>'[^']*'|"[^"]*"|\w+\([^)]*\)|[+\-.]?\w+(?:[.:+\-]\w+)*)?"""
)
# one way out of several that a program alone can take; another one follows, or came before
_PROGRAMS_WAY = re.compile(
    r"(?:pass|give|use) (?P<name>[a-z][a-z0-9_]*)=[^\s,;.(]*, or "
    r"|, or (?:use )?codecbook(?:\.\w+)+(?:\([^)]*\))?"
)


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, which says in one line what is wrong with a command, and what the mistyped name may have meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if _program:  # subcommands' names begin with this one
            self.prog = self.prog.replace("python -m codecbook.", f"{_program} ", 1).replace("probes.", "", 1)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is unknown here: a subcommand knows its own options, its parent does not."""
        given = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:  # before a mistyped option is missed as one that is required
            own = given[: given.index("--")] if "--" in given else given
            names = [(word, word.partition("=")[0]) for word in own if re.match(r"--\w[^ ]*$", word)]
            options = tuple(self._option_string_actions)
            self._refuse([w for w, name in names if not any(option.startswith(name) for option in options)])
        parsed, unknown = super().parse_known_args(given, namespace)
        self._refuse(unknown)
        words = {
            action.dest: (action.option_strings[-1], action.nargs == 0)
            for action in self._actions
            if action.option_strings
        }
        setattr(parsed, _WORDS, {**words, **getattr(parsed, _WORDS, {})})
        return parsed, unknown

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"{unknown[0]!r} has no meaning here{_nearest(unknown[0].partition('=')[0], options)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"{value!r} is none of {', '.join(choices)}{_nearest(str(value), choices)}"
            )

    def error(self, message: str) -> NoReturn:
        """Print one line, and exit with `EXIT_ERROR`."""
        self.exit(EXIT_ERROR, f"codecbook: {' '.join(message.split())}; see {self.prog} --help\n")


def _nearest(word: str, names: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, names, 1)
    return f" (is {found[0]} meant?)" if found else ""


def in_option_words(text: str, options: argparse.Namespace) -> str:
    """Say an error of a function in the words of the command that called it.

    What functions call ``overwrite=True`` is ``--overwrite`` here, ``lm=None`` is ``--lm none``, and a remedy that this
    command has no option for is left out where another one is given. `options` is what an `ArgumentParser` returned.
    """
    words = getattr(options, _WORDS, {})

    def option(name: str) -> tuple[str, bool] | None:
        return words.get(name) or words.get(_OTHER_NAMES.get(name, ""))

    def kept(match: re.Match[str]) -> str:
        return match[0] if match["name"] and option(match["name"]) else ""

    def said(match: re.Match[str]) -> str:
        found, value = option(match["name"]), match["value"]
        if found is None:
            return match[0]
        name, is_switch = found
        if value is None or is_switch:
            return name
        if value == "None" and name != "--lm":
            return f"no {name}"
        return f"{name} {value.strip(chr(39) + chr(34)).replace('None', 'none')}"

    return _ARGUMENT.sub(said, _PROGRAMS_WAY.sub(kept, text))


def exit_status(
    run: Callable[[], int], when_interrupted: str | None = None, options: argparse.Namespace | None = None
) -> int:
    """Run a command and return its exit status; turn errors of the input and of files into one line on stderr.

    Other exceptions are faults of the program and pass through, with their traceback. SIGTERM becomes `SystemExit`, so
    that half-written files are removed as after any exception. `when_interrupted` says what becomes of the work on
    Ctrl-C ("nothing was written"); None lets `KeyboardInterrupt` pass. `options` is the parsed command line, in whose
    words errors are told (`in_option_words`).
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: paths need be no text
    try:
        with _terminable(), _warnings_in_a_line():
            return run()
    except CodecbookError as error:
        line = " ".join(str(error).split())
        print(f"codecbook: {line if options is None else in_option_words(line, options)}", file=sys.stderr)
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


def call_as(program: str) -> None:
    """Name commands as they were called, ``codecbook coding``, and not by their module."""
    global _program
    _program = program


def num_threads(text: str) -> int:
    """Read the value of ``--threads``, for argparse: how many, or 0 to leave what the library chooses."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; give 1 or more, or 0 for the default")
    return int(text)


def positive_number(text: str) -> float:
    """Read a finite number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Print this package's own warnings as errors are printed, without the place in its code."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, CodecbookWarning):
                print(f"codecbook: {message}", file=sys.stderr)
            else:
                usual(message, category, *place)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit` meanwhile, where it would end the process at once."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
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
