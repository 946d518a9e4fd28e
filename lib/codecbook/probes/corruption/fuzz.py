"""Try readers with altered inputs: each ends with content, or with one of `codecbook.errors`, in time and memory.

Inputs are read in a process of its own, whose address space has a limit and which is ended where one takes too long;
then another one goes on. An input follows from reader and seed alone.
"""

import contextlib
import faulthandler
import functools
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.files import write_file

CATALOGUE = "codecbook.probes.corruption.readers"
TIMEOUT_S = 10.0
MEMORY_MIB = 512
"""Address space that an input of a few kilobytes may take beyond what its reader has taken for good ones."""
INPUT_NAME = "input"
OUTCOMES = ("refused", "read", "undetected", "crash", "hang")
"""One of `codecbook.errors`; content that is right, or where damage is reported; wrong tokens and no word of it;
another exception; no end in time."""


Files = dict[str, bytes]
"""An input: files of a folder by name."""


@dataclass(frozen=True)
class Reader:
    """A reader, and what it is tried with."""

    make: Callable[[Path], object]  # writes good inputs, each into a folder of its own in this one
    read: Callable[[Path], Any]  # returns the content of such a folder
    alter: Callable[[Files, Random], tuple[Files, bool]]  # and say whether checksums were made to fit again
    share: int = 1  # of all inputs, in relation to the other readers'
    checked: bool = False  # whether the format promises that wrong tokens are found
    is_wrong: Callable[[Any, Any], bool] | None = None  # whether content is not the good one and does not say so
    unchecked: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    """In which checksums are passed over; entered for half of the inputs in which they were made to fit."""


@dataclass(frozen=True)
class Failure:
    """An input that a reader did not take as it should."""

    reader: str
    seed: int
    outcome: str  # "crash", "hang", or "undetected" in a format that promises otherwise
    detail: str  # the traceback, or the first words of it

    def __str__(self) -> str:
        last = self.detail.strip().splitlines()[-1:] or [""]
        return f"{self.reader} --seed {self.seed}: {self.outcome} {last[0][:160]}"


@dataclass(frozen=True)
class FuzzReport:
    """What became of the inputs."""

    counts: pd.DataFrame  # a row a reader, a column of each of `OUTCOMES`
    failures: list[Failure]


def fuzz(
    inputs: int,
    *,
    readers: Sequence[str] = (),
    seed: int = 0,
    timeout_s: float = TIMEOUT_S,
    memory_mib: int = MEMORY_MIB,
    out: str | Path | None = None,
    catalogue: str = CATALOGUE,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> FuzzReport:
    """Try so many inputs, shared out among readers by `Reader.share`; Ctrl-C ends with what was found until then.

    Args:
        inputs: How many, each reader at least one.
        readers: Names in `catalogue`; all by default.
        seed: Of each reader's first input; its others have the next ones.
        timeout_s: Seconds for an input.
        memory_mib: See `MEMORY_MIB`; where the system does not tell how much is taken, there is no limit.
        out: A folder for the files of inputs that fail, and why.
        catalogue: Name of a module with a mapping ``READERS`` of names to `Reader`.
        on_progress: Called with reader, inputs done of it, and all of it.

    Raises UnsupportedInput: an unknown reader.
    """
    known = importlib.import_module(catalogue).READERS
    unknown = sorted(set(readers) - known.keys())
    if unknown:
        raise UnsupportedInput(f"There is no reader {unknown[0]!r}; choose from {', '.join(known)}.")
    chosen = {name: known[name].share for name in readers or known}
    shares = {name: max(1, inputs * share // sum(chosen.values())) for name, share in chosen.items()}
    counts = pd.DataFrame(0, index=pd.Index(shares, name="reader"), columns=list(OUTCOMES))
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as pools, contextlib.suppress(KeyboardInterrupt):
        worker = _Worker((Path(name), memory_mib, catalogue), timeout_s, pools)
        for reader, number in ((reader, number) for reader, count in shares.items() for number in range(count)):
            outcome, detail = worker.try_one(reader, seed + number)
            counts.loc[reader, outcome] += 1
            if outcome in ("crash", "hang") or (outcome == "undetected" and known[reader].checked):
                failures.append(Failure(reader, seed + number, outcome, detail))
                _keep(failures[-1], Path(name) / reader / INPUT_NAME, out)
            if on_progress is not None:
                on_progress(reader, number + 1, shares[reader])
    return FuzzReport(counts, failures)


def _keep(failure: Failure, source: Path, out: str | Path | None) -> None:
    if out is None:
        return
    folder = Path(out) / f"{failure.reader}_{failure.seed}"
    for path in source.iterdir():
        write_file(folder / path.name, path.read_bytes(), overwrite=True)
    write_file(folder / "failure.txt", f"{failure}\n{failure.detail}", overwrite=True)


class _Worker:
    """The process that reads, and another one after that has ended."""

    def __init__(self, settings: tuple[Path, int, str], timeout_s: float, pools: contextlib.ExitStack) -> None:
        self._settings, self._timeout_s, self._pools = settings, timeout_s, pools
        self._pool: ProcessPoolExecutor | None = None

    def try_one(self, reader: str, seed: int) -> tuple[str, str]:
        """Return how an input ended, and details."""
        if self._pool is None:
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)
            self._pool = self._pools.enter_context(pool)
        try:
            return self._pool.submit(_try_one, seed, self._timeout_s, reader, *self._settings).result()
        except BrokenExecutor:
            self._pool = None
        where = (self._settings[0] / _HANG).read_text()
        return ("hang", f"no end after {self._timeout_s:g} s\n{where}") if where else ("crash", "the process ended")


_HANG = "hang"  # file for what a process was at when its time was over


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to deal with
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders of audio complain there, in C


def _try_one(seed: int, timeout_s: float, reader: str, scratch: Path, *settings: Any) -> tuple[str, str]:
    trial = _trial(reader, scratch, *settings)  # which may take its time
    with (scratch / _HANG).open("w") as log:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=log)
        try:
            return trial.run(seed)
        finally:
            faulthandler.cancel_dump_traceback_later()


@functools.lru_cache(1)
def _trial(reader: str, scratch: Path, memory_mib: int, catalogue: str) -> "Trial":
    return Trial(reader, importlib.import_module(catalogue).READERS[reader], scratch / reader, memory_mib)


class Trial:
    """A reader, and the good inputs that are altered for it; with a limit, this process has it from then on."""

    def __init__(self, name: str, reader: Reader, folder: Path, memory_mib: int | None = None) -> None:
        _limit_memory(None)
        self._name, self._reader, self._input = name, reader, folder / INPUT_NAME
        good = folder / "good"
        shutil.rmtree(folder, ignore_errors=True)
        good.mkdir(parents=True)
        self._reader.make(good)
        self.good: list[tuple[Files, Any]] = []
        for each in sorted(path for path in good.iterdir() if path.is_dir()):
            files = {path.name: path.read_bytes() for path in each.iterdir()}
            self.good.append((files, self._read(files)))
        _limit_memory(memory_mib)

    def run(self, seed: int) -> tuple[str, str]:
        """Alter an input, read it, and say how that ended, of `OUTCOMES`."""
        random = Random(f"{self._name} {seed}")
        files, content = random.choice(self.good)
        altered, has_checksums = self._reader.alter(files, random)
        unchecked = has_checksums and random.random() < 0.5
        try:
            with self._reader.unchecked() if unchecked else contextlib.nullcontext():
                found = self._read(altered)
        except CodecbookError as error:
            said = str(error)
            return ("refused", said) if said and "\n" not in said else ("crash", f"not one line: {said!r}")
        except BaseException:
            return "crash", traceback.format_exc()
        is_wrong = self._reader.is_wrong
        if has_checksums or is_wrong is None or not is_wrong(content, found):
            return "read", ""
        return "undetected", "wrong content, and no word of it"

    def _read(self, files: Files) -> Any:
        shutil.rmtree(self._input, ignore_errors=True)
        self._input.mkdir()
        for name, data in files.items():
            (self._input / name).write_bytes(data)
        return self._reader.read(self._input)


def _limit_memory(more_mib: int | None) -> None:
    """Limit this process to so much more address space than it has; None: no limit."""
    statistics, (_, hard) = Path("/proc/self/statm"), resource.getrlimit(resource.RLIMIT_AS)
    if statistics.exists():  # elsewhere nothing says how much it has
        pages = int(statistics.read_text().split()[0])
        limit = hard if more_mib is None else pages * resource.getpagesize() + (more_mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
