"""`kernel`: compile an integer loop with numba, and keep the machine code between runs where that is possible.

Compilation takes seconds and running takes microseconds, so kernels are cached on disk: in ``NUMBA_CACHE_DIR`` where
it is set, else beside the source or in the user's cache folder. Where none of these can be written to, every process
compiles again. numba only asks whether the file of a function has changed, but copies into its machine code the kernels
it calls and the constants it uses, from whatever file; so each version of all these has a cache folder of its own here.

Where numba is not installed, kernels run as plain Python functions. They keep all numbers below 2^63, so the results
are the same. Where a Python loop would take too long, or numbers wrap at 2^64, `kernel_or` names another function.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from codecbook.lazy import optional_module

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

numba: Any = optional_module("numba")


def kernel(function: _Function) -> _Function:
    """Compile a function of numbers and arrays at its first call, without the interpreter lock, where numba is.

    It computes no floats where a result decides how a stream is coded, as machines round differently. The kernels and
    constants of other files that it uses are imported above it.
    """
    if numba is None:
        return function
    folder = _cache_folder(function)
    if folder is None:
        return cast(_Function, numba.njit(nogil=True)(function))
    given, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True)(function))
    finally:
        numba.config.CACHE_DIR = given


def kernel_or(arrays: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate as `kernel`, but take `arrays`, which does the same without a compiler, where numba is not installed.

    Other kernels may call what it returns: where numba is, that is a kernel.
    """

    def choose(function: Callable[..., Any]) -> Callable[..., Any]:
        return arrays if numba is None else kernel(function)

    return choose


def thread_count(num_items: int, threads: int | None = None) -> int:
    """Return how many threads to share items out to: no more than there are, at least one.

    `threads` None takes numba's number, which is that of the cores, or ``NUMBA_NUM_THREADS``.
    """
    most = threads or (1 if numba is None else numba.config.NUMBA_NUM_THREADS)
    return max(1, min(most, num_items))


def on_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], threads: int | None = None
) -> list[_Result]:
    """Return what a function that spends its time in kernels makes of each item, on `thread_count` threads."""
    count = thread_count(len(items), threads)
    if count == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, items))


def _cache_folder(function: Callable[..., Any]) -> Path | None:
    """Return a folder for the machine code of this version of a function; None where none can be written to."""
    source = Path(function.__code__.co_filename)
    if not source.is_file():
        return None
    digest = hashlib.sha256()
    for part in _ingredients(function, set()):
        digest.update(hashlib.sha256(part).digest())
    name = f"kernels-{digest.hexdigest()[:16]}"
    given = numba.config.CACHE_DIR
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codecbook"
    for place in (Path(given),) if given else (source.parent / "__pycache__", users):
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place / name).close()
        except OSError:
            continue
        return place / name
    return None


def _ingredients(function: Any, seen: set[str]) -> Iterator[bytes]:
    """Yield what machine code is made of: the function's file, all constants and kernels there, and so on from these.

    Not only what the function names itself: a kernel further down in the file, which it calls, is not defined yet.
    """
    file = function.__code__.co_filename
    if file in seen:
        return
    seen.add(file)
    yield Path(file).read_bytes()
    for name, value in sorted(function.__globals__.items()):
        definition = getattr(value, "py_func", None) or getattr(value, "_defn", None)  # of a kernel, of an intrinsic
        if definition is not None:
            yield from _ingredients(definition, seen)
        elif isinstance(value, np.ndarray):
            yield f"{name} {value.dtype} {value.shape}".encode() + value.tobytes()
        elif isinstance(value, (int, float, tuple, np.generic)):
            yield f"{name} {value!r}".encode()
