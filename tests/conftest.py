"""What tests of several rooms share: a Python that has numpy, and nothing else that would need a wheel."""

import subprocess
import sys
from collections.abc import Callable

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
