"""The closed set of exceptions that codecbook raises for bad input.

Every message states the condition, the value that was received and the remedy. All kinds derive from `CodecbookError`,
itself a `ValueError`, so a caller who wants to go on with the next file needs one ``except`` clause.
"""

from collections.abc import Collection
from typing import Any


class CodecbookError(ValueError):
    """Something that was given to codecbook cannot be used; the message says what, and what to do."""


class CorruptInput(CodecbookError):
    """Bytes, samples or tokens contradict their own format: truncated, altered, out of range, not finite."""


class MissingInput(CodecbookError, FileNotFoundError):
    """A file or folder that was named is not there."""


class UnsupportedInput(CodecbookError):
    """The input is well-formed, but not something this function can take: wrong rate, name, version, type."""


class MissingWeights(CodecbookError):
    """Model weights are not on this machine and could not be fetched."""


class CodecbookWarning(UserWarning):
    """Something may be wrong with what was given, and the work goes on; a command says so in one line on stderr."""


def require_one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise UnsupportedInput unless a setting is one of its choices."""
    if value not in choices:
        raise UnsupportedInput(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, choices))}.")
