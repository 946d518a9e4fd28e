"""What tests of several rooms share: a Python that has nothing but numpy, and a disk that is full."""

import contextlib
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

_NUMPY_ALONE = """
import importlib.abc
import sys


class NumpyAlone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "numpy", "codecbook"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, NumpyAlone())
"""


@pytest.fixture(scope="session")
def numpy_alone() -> Callable[..., str]:
    """Return a function that runs code where only numpy can be imported, with warnings as errors; gives its output."""

    def run(code: str, *arguments: str) -> str:
        command = [sys.executable, "-W", "error", "-c", _NUMPY_ALONE + code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def room() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Give a block in which files grow to so many bytes, which is how a full disk looks to whoever writes."""

    @contextlib.contextmanager
    def bounded(num_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
        try:
            yield
        finally:  # before pytest says anything, as it may write to a file itself
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return bounded
