"""The engine's process under signals: whenever one comes, the run says 130 and leaves nothing behind."""

import contextlib
import importlib
import linecache
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ["sh", "-c", "sleep 600 | sleep 600"]  # an engine with jobs, which would go on for ever
# one that ends at once, and whose job takes a moment longer
JOB = "import time\ntry: time.sleep(600)\nexcept KeyboardInterrupt: time.sleep(0.3)"
SLOW_JOB = ["sh", "-c", f"'{sys.executable}' -c '{JOB}' | sleep 600"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    # Under nohup hangups are ignored, and a run then ignores them too.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield importlib.import_module("engine")
    signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def at_line(number: int, act: int, file: str) -> Iterator[list[str]]:
    """Send a signal to this process before the numbered line of a file is run; yields the lines that are run."""
    seen: list[str] = []

    def trace(frame: FrameType, event: str, _argument: object) -> Callable | None:
        if frame.f_code.co_filename != file:
            return None
        if event == "line":
            seen.append(f"{frame.f_code.co_name}: {linecache.getline(file, frame.f_lineno).strip()}")
            if len(seen) == number:
                os.kill(os.getpid(), act)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


def run(
    engine: ModuleType, command: list[str], folder: Path, line: int = 0, number: int = signal.SIGTERM
) -> tuple[int, bool, list[str]]:
    """Return the exit code, whether a process was started, and the engine's lines that were run."""
    lock_file = folder / "lock"
    lock_file.write_text("")
    with (
        lock_file.open("a+") as lock,
        engine.Interrupts() as interrupts,
        at_line(line, number, engine.__file__) as seen,
    ):
        code = engine.run_engine(command, interrupts, cwd=folder, env=dict(os.environ), lock=lock)
    text = lock_file.read_text()
    assert not text or not members(int(text)), "nothing of its process group is left"
    return code, bool(text), seen


def members(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_line_up_to_the_wait_ends_the_run(engine: ModuleType, tmp_path: Path, number: int) -> None:
    code, _, seen = run(engine, ["true"], tmp_path)
    assert code == 0
    lines = 1 + next(place for place, line in enumerate(seen) if "for line in process.stderr" in line)
    assert any("Popen" in line for line in seen[:lines])
    ended = [run(engine, ENGINE, tmp_path, line, number) for line in range(1, lines + 1)]
    assert {code for code, _, _ in ended} == {130}
    assert {started for _, started, _ in ended} == {False, True}, "before and after the start"


@pytest.mark.parametrize("command", [ENGINE, SLOW_JOB])
def test_a_signal_during_the_wait_ends_the_run_and_all_of_its_jobs(
    engine: ModuleType, tmp_path: Path, command: list[str]
) -> None:
    code, _, _ = run(engine, [*command[:-1], f"kill -TERM {os.getpid()}; {command[-1]}"], tmp_path)
    assert code == 130


def test_what_does_not_end_by_itself_is_killed(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PATIENCE_S", 0.5)
    deaf = ["sh", "-c", f"trap '' INT TERM; kill -TERM {os.getpid()}; while :; do sleep 600; done"]
    assert run(engine, deaf, tmp_path)[0] == 130


def test_without_a_signal_the_exit_code_is_the_engines(engine: ModuleType, tmp_path: Path) -> None:
    assert run(engine, ["true"], tmp_path)[0] == 0
    assert run(engine, ["sh", "-c", "exit 3"], tmp_path)[0] == 1


@pytest.mark.parametrize("home", ["a file/home", "a folder"])
def test_without_a_home_to_write_to_caches_lie_in_the_checkout(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    cache = engine.engine_environment(tmp_path).get("XDG_CACHE_HOME")
    assert cache == (str(tmp_path / ".snakemake" / "cache") if "file" in home else None)
