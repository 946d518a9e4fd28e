"""Command lines end with a status and at most one line on stderr."""

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from codecbook.command_line import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED, exit_status
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
    assert capsys.readouterr().err == "codecbook: no device\n"
    assert exit_status(raising(OSError(errno.ENOSPC, "No space left on device", "out"))) == 2
    assert capsys.readouterr().err == "codecbook: No space left on device: out\n"
    assert exit_status(raising(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 2
    assert capsys.readouterr().err == "codecbook: Broken pipe\n"


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


TERMINATED = """
import os, signal, sys
from codecbook.command_line import exit_status
from codecbook.files import new_file

def run():
    with new_file(sys.argv[1]) as partial:
        partial.write_bytes(b"half")
        if sys.argv[2] == "fork":
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
            assert partial.read_bytes() == b"half"
        else:
            os.kill(os.getpid(), signal.SIGTERM)
    return 0

status = exit_status(run, "nothing was written")
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
sys.exit(status)
"""


@pytest.mark.parametrize("who", ["itself", "fork"])
def test_who_is_terminated_leaves_nothing_half_written(who: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", TERMINATED, str(tmp_path / "x"), who]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (EXIT_TERMINATED if who == "itself" else 0, "")
    assert [path.name for path in tmp_path.iterdir()] == ([] if who == "itself" else ["x"])


def test_a_program_that_handles_its_signals_keeps_its_handlers() -> None:
    def handler(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handler)
    try:
        assert exit_status(lambda: int(signal.getsignal(signal.SIGTERM) is handler)) == 1
        assert signal.getsignal(signal.SIGTERM) is handler
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with ThreadPoolExecutor(1) as pool:  # only the main thread may set any
            assert pool.submit(exit_status, lambda: 0).result() == 0
    finally:
        signal.signal(signal.SIGTERM, before)
