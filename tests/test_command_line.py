"""Command lines end with a status and at most one line on stderr."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from codecbook.command_line import EXIT_ERROR, EXIT_INTERRUPTED, exit_status
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> NoReturn:
        raise error

    return run


@pytest.mark.parametrize("status", [0, 1, 7])
def test_a_command_that_ends_by_itself_keeps_its_status(status: int, capsys) -> None:
    assert exit_status(lambda: status, "nothing was written") == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [CodecbookError, CorruptInput, UnsupportedInput, MissingWeights])
def test_an_error_of_the_package_is_one_line(kind: type[CodecbookError], capsys) -> None:
    assert exit_status(raising(kind("a.wav is\n  truncated;\tcopy it again."))) == EXIT_ERROR == 2
    assert capsys.readouterr() == ("", "codecbook: a.wav is truncated; copy it again.\n")


def test_an_error_of_the_file_system_names_the_file(tmp_path: Path, capsys) -> None:
    missing = tmp_path / "missing"
    assert exit_status(lambda: len(missing.read_bytes())) == 2
    assert capsys.readouterr().err == f"codecbook: No such file or directory: {missing}\n"
    assert exit_status(raising(OSError("no device"))) == 2
    assert capsys.readouterr().err == "codecbook: no device: None\n"
    assert exit_status(raising(OSError(errno.ENOSPC, "No space left on device", "out"))) == 2
    assert capsys.readouterr().err == "codecbook: No space left on device: out\n"


def test_who_is_interrupted_learns_what_becomes_of_the_work(capsys) -> None:
    assert exit_status(raising(KeyboardInterrupt()), "nothing was written") == EXIT_INTERRUPTED == 130
    assert capsys.readouterr() == ("", "codecbook: interrupted; nothing was written\n")
    with pytest.raises(KeyboardInterrupt):
        exit_status(raising(KeyboardInterrupt()))


@pytest.mark.parametrize("error", [ValueError("a fault"), SystemExit(3), AssertionError()])
def test_faults_of_the_program_pass_through(error: BaseException, capsys) -> None:
    with pytest.raises(type(error)):
        exit_status(raising(error), "nothing was written")
    assert capsys.readouterr().err == ""


def test_the_standard_library_is_enough(numpy_alone: Callable[..., str]) -> None:
    code = """
import codecbook.probes.determinism.foreign  # its command line makes the machines that lack all else

print({"numpy", "torch"} & set(sys.modules))
"""
    assert numpy_alone(code).strip() == "set()"
