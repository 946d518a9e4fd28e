"""`kernel`: compile an integer loop with numba, and keep the machine code between runs where that is possible.

Compilation takes seconds and running takes microseconds, so kernels are cached on disk. numba looks for a place to
write (``NUMBA_CACHE_DIR``, beside the source, the user's cache folder) and refuses to define the function where it
finds none, as in a read-only container; here it is then compiled anew by every process instead.

Where numba is not installed, kernels run as the Python functions that they are. They keep all numbers below 2^63, so
the results are the same. Where a Python loop would take too long, or numbers wrap at 2^64, `kernel_or` names another
function for it.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from codecbook.lazy import optional_module

_Function = TypeVar("_Function", bound=Callable[..., Any])

numba: Any = optional_module("numba")


def kernel(function: _Function) -> _Function:
    """Compile a function of integers and integer arrays at its first call, without the interpreter lock.

    A kernel that another file's kernel calls is copied into the caller's cached code, and numba watches only the
    caller's file: after an edit of the inner one, remove the ``__pycache__`` folders.

    Args:
        function: Uses numba's subset of Python; no floats, so that the result is the same on every machine.

    Returns:
        The compiled function; `function` itself where numba is not installed.
    """
    if numba is None:
        return function
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return cast(_Function, numba.njit(nogil=True)(function))


def kernel_or(arrays: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate as `kernel`, but take `arrays`, which does the same without a compiler, where numba is not installed.

    For functions that no other kernel calls, since numba cannot call `arrays`.
    """

    def choose(function: Callable[..., Any]) -> Callable[..., Any]:
        return arrays if numba is None else kernel(function)

    return choose
