"""The engine's process, and the signals that end a run."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TextIO

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
PATIENCE_S = 30.0  # for each kind of request to end; an engine that cancels jobs of a cluster takes its time
POLL_S = 0.05


class Interrupts:
    """Notes the signals that end a run, and passes the first on to the engine, whenever it comes.

    A context manager: signals count from its entry, so also where no engine is running yet, or none any more.

    Attributes:
        came: Whether one has come.
    """

    def __init__(self) -> None:
        self.came = False
        self._process: subprocess.Popen | None = None
        self._first = threading.Lock()
        self._ending: threading.Thread | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has its way
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def watch(self, process: subprocess.Popen) -> None:
        """Pass on to this process group what has come, and what comes from now on."""
        self._process = process
        if self.came:
            self._pass_on()

    def wait(self) -> None:
        """Wait until the process group is gone: a job may outlive the engine while it writes its report."""
        if self._ending is not None:
            self._ending.join()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        self._pass_on()

    def _pass_on(self) -> None:
        # once: a second interrupt would break off the engine's own cleaning up
        if self._process is not None and self._first.acquire(blocking=False):
            self._ending = threading.Thread(target=_end, args=(self._process,), daemon=True)
            self._ending.start()


def engine_environment(root: Path) -> dict[str, str]:
    """Return the environment of the engine, which finds its logger and the scripts of the profiles there."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(root / "workflow"), environment.get("PATH", "")])
    environment.pop("SNAKEMAKE_PROFILE", None)  # a user's own profile would mix with the project's
    search_path = [str(root / "workflow" / "logger"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
    # a home that is not there or cannot be written, as in a container or a service: the engine would give up
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    there = next((path for path in (cache, *cache.parents) if path.exists()), root)
    if not (cache.is_absolute() and there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        environment["XDG_CACHE_HOME"] = str(root / ".snakemake" / "cache")
        environment.setdefault("MPLCONFIGDIR", str(root / ".snakemake" / "cache" / "matplotlib"))
    return environment


def run_engine(
    command: Sequence[str], interrupts: Interrupts, *, cwd: Path, env: Mapping[str, str], lock: TextIO | None = None
) -> int:
    """Run the engine and return 0, 1 where it failed, or 130 where a signal ended it, all of its jobs included.

    Args:
        command: What to run.
        interrupts: Entered before, so that no signal is lost.
        cwd: Folder to run it in.
        env: Its environment.
        lock: File that it holds open as long as it lives; its process id is written there.
    """
    if interrupts.came:
        return EXIT_INTERRUPTED
    sys.stdout.flush()  # what was printed so far stands before the engine's own lines, also in a pipe
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        pass_fds=[lock.fileno()] if lock else [],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # with its jobs, to which it passes no signal on
    )
    interrupts.watch(process)
    if lock:
        with contextlib.suppress(OSError):  # a full disk: who holds the lock is not said then
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(process.pid).encode())  # unbuffered: nothing is left to fail again
    with process:
        for line in process.stderr or ():
            if "for setting default command line arguments" not in line:  # said on every start
                print(line, end="", file=sys.stderr, flush=True)
    if interrupts.came:
        interrupts.wait()
        return EXIT_INTERRUPTED
    return EXIT_FAILED if process.returncode else 0


def _end(process: subprocess.Popen) -> None:
    """End a process group and wait until all of it is gone; ask less politely each time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        _signal_group(process, number)
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            if not _is_alive(process):
                return
            time.sleep(POLL_S)


def _is_alive(process: subprocess.Popen) -> bool:
    """Say whether anything of a process group still runs."""
    if process.returncode is None or not _signal_group(process, 0):
        return process.returncode is None
    import psutil

    # what has ended and lost its parent stays as a zombie where the first process of a container collects none
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _signal_group(process: subprocess.Popen, number: int) -> bool:
    """Send a signal to what is left of a process group; say whether anything was."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: no permission where all are zombies
        os.killpg(process.pid, number)
        return True
    return False
