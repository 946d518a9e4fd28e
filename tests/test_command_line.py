"""Command lines end with a status and at most one line on stderr."""

import errno
import importlib.util
import os
import signal
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import codecbook
from codecbook import __main__ as console
from codecbook.command_line import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    ArgumentParser,
    exit_status,
    in_option_words,
)
from codecbook.errors import CodecbookError, CodecbookWarning, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.paths import repository_dir
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.npq import write_npq


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> NoReturn:
        raise error

    return run


@pytest.mark.parametrize("status", [0, 1, 7])
def test_a_command_that_ends_by_itself_keeps_its_status(status: int, capsys) -> None:
    assert exit_status(lambda: status, "nothing was written") == status
    assert capsys.readouterr() == ("", "")


def test_a_warning_of_the_package_is_one_line_too(capsys) -> None:
    def run() -> int:
        warnings.simplefilter("always")
        warnings.warn("odd.npq has no name", CodecbookWarning, stacklevel=1)
        warnings.warn("of torch", UserWarning, stacklevel=1)
        return 0

    shown = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        assert exit_status(run) == 0
    assert capsys.readouterr() == ("", "codecbook: odd.npq has no name\n")
    assert shown == ["of torch"]


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


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(prog="tool")
    commands = parser.add_subparsers(required=True, metavar="command")
    making = commands.add_parser("make")
    making.add_argument("source")
    making.add_argument("--out", required=True)
    for name in ("--lm", "--weights", "--bandwidth", "--steps", "--minutes"):
        making.add_argument(name)
    making.add_argument("--start", type=float)
    making.add_argument("--codec", choices=["mimi", "encodec_24khz", "encodec_48khz"])
    making.add_argument("--overwrite", action="store_true")
    making.add_argument("--bark", action="store_true")
    commands.add_parser("list")
    return parser


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "the following arguments are required: command; see tool --help"),
        ("mak x", "argument command: 'mak' is none of make, list (is make meant?); see tool --help"),
        ("make x", "the following arguments are required: --out; see tool make --help"),
        ("make x --outt y", "'--outt' has no meaning here (is --out meant?); see tool make --help"),
        ("make x --out y --lmm=z", "'--lmm=z' has no meaning here (is --lm meant?); see tool make --help"),
        ("make x --out y z", "'z' has no meaning here; see tool make --help"),
        ("list --out y", "'--out' has no meaning here; see tool list --help"),
        ("make x --out y --start z", "argument --start: invalid float value: 'z'; see tool make --help"),
        ("make x --out y --codec encodec_24", "'encodec_24' is none of mimi, encodec_24khz, encodec_48khz (is enc"),
        ("make x --out", "argument --out: expected one argument; see tool make --help"),
    ],
)  # fmt: skip
def test_a_mistyped_command_is_one_line_with_the_nearest_name(
    words: str, message: str, parser: ArgumentParser, capsys
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words.split())
    assert ended.value.code == EXIT_ERROR
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("codecbook: ")
    assert message in error


def test_what_is_well_typed_is_parsed_as_ever(parser: ArgumentParser) -> None:
    options = parser.parse_args(["make", "--overw", "--out=--x", "--start", "-4", "--", "--source"])
    assert (options.source, options.out, options.start, options.overwrite) == ("--source", "--x", -4.0, True)


@pytest.mark.parametrize(
    ("text", "told", "told_without_options"),
    [
        ("x exists; pass overwrite=True, or choose another.", "x exists; pass --overwrite, or choose another.",
         "x exists; choose another."),
        ("pass lm= a folder, or lm=None for raw.", "pass --lm a folder, or --lm none for raw.", None),
        ("pass it as lm=.", "pass it as --lm.", None),
        ("pass codec=, or read its tokens.", "pass --codec, or read its tokens.", "read its tokens."),
        ("pass bark=True where it is one of Bark's.", "pass --bark where it is one of Bark's.", None),
        ("weights='pretrained', or weights='random:0' (for tests).",
         "--weights pretrained, or --weights random:0 (for tests).", None),
        ("A budget of steps=None and minutes=-1.0.", "A budget of no --steps and --minutes -1.0.", None),
        ("bandwidth_kbps=6.5; start_s=nan", "--bandwidth 6.5; --start nan", None),
        ("a/lm=2 and 'lm=3' and f(lm=4)", "a/lm=2 and 'lm=3' and f(lm=4)", None),
        ("x is a folder; pass one file, or use codecbook.clips.load_folder.", "x is a folder; pass one file.",
         "x is a folder; pass one file."),
    ],
)  # fmt: skip
def test_remedies_are_told_in_the_words_of_the_command(
    text: str, told: str, told_without_options: str | None, parser: ArgumentParser, capsys
) -> None:
    options = parser.parse_args(["make", "x", "--out", "y"])
    assert in_option_words(text, options) == told
    assert exit_status(raising(CodecbookError(text)), options=options) == EXIT_ERROR
    assert capsys.readouterr().err == f"codecbook: {told}\n"
    if told_without_options is not None:
        assert in_option_words(text, parser.parse_args(["list"])) == told_without_options


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
import codecbook.command_line

print({"numpy", "torch"} & set(sys.modules))
"""
    assert numpy_alone(code).strip() == "set()"


def python(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
    )


def test_one_command_leads_to_all_others(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        console.main(["--version"])
    assert capsys.readouterr().out == f"codecbook {codecbook.__version__}\n"
    script = tomllib.loads((repository_dir() / "pyproject.toml").read_text())["project"]["scripts"]["codecbook"]
    assert script == "codecbook.__main__:main"
    for words, message in (
        (["codings"], "'codings' is none of "),
        (["coding", "inspct"], "(is inspect meant?); see codecbook coding --help"),
        (["codecs.corpus", "x"], "see codecbook codecs.corpus --help"),
    ):
        done = python("-m", "codecbook", *words, folder=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert message in done.stderr
    for module, _ in console.COMMANDS.values():
        assert importlib.util.find_spec(module) is not None


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    for name in ("html", "argparse", "numpy", "secrets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the current folder was imported')")
    done = python("-m", "codecbook", "codecs", "list", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "own.py").write_text("import codecbook\nimport mine\n")
    (tmp_path / "mine.py").write_text("print('mine')")
    assert python("-m", "own", folder=tmp_path).stdout == "mine\n", "others' modules are found as ever"


def test_an_installation_without_data_says_what_to_set(tmp_path: Path) -> None:
    away = {"CODECBOOK_DATA": str(tmp_path / "none")}
    listed = python("-m", "codecbook.codecs", "list", folder=tmp_path, **away)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "fsq_50hz         random:SEED" in listed.stdout
    words = ["to-wav", "x.npq", "--codec", "fsq_50hz", "--out", "x.wav"]
    tokens = tokens_from_frames(np.zeros((9, 1), dtype=np.int64), (16,), 50.0)
    write_npq(tmp_path / "x.npq", tokens)
    done = python("-m", "codecbook.codecs", *words, folder=tmp_path, **away)
    assert done.returncode == 2
    assert "set CODECBOOK_DATA" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_package_encodec_there_is_a_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "encodec" else find(name, *package)
from codecbook.coding.__main__ import main
sys.exit(main(["compress", "-", "-", "--codec", "encodec_24khz"]))
"""
    done = python("-c", code, folder=tmp_path)
    assert done.returncode == 2
    assert "pip install --no-deps encodec==0.1.1" in done.stderr
    assert done.stderr.count("\n") == 1


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
