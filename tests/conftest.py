"""What tests share: a Python that has nothing but numpy, a full disk, and the code that CONTRIBUTING.md spells out."""

import contextlib
import importlib
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

_MOST_LINES = 30  # of code, in what one adds

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


@pytest.fixture
def spelled_out() -> Callable[[str], tuple[str, str, str]]:
    """Return a function that gives the file, the code and the line of a list in a section of CONTRIBUTING.md."""

    def read(heading: str) -> tuple[str, str, str]:
        text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
        (section,) = re.findall(rf"^## {heading}\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
        (code,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        assert len([line for line in code.splitlines() if line.strip()]) <= _MOST_LINES
        (line,) = re.findall(r"the line\s(?:is )?`(.*?)`", section, re.IGNORECASE)
        before, _, _ = section.partition("```python")
        return re.findall(r"`(\w+/\w+\.(?:py|ipynb))`", before)[-1], code, line

    return read


@pytest.fixture
def added(
    spelled_out: Callable[[str], tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str, ModuleType], tuple[ModuleType, str]]:
    """Return a function that adds the module of a section to a package; gives it, and the line for a list."""

    def add(heading: str, package: ModuleType) -> tuple[ModuleType, str]:
        file, code, line = spelled_out(heading)
        (tmp_path / Path(file).name).write_text(code)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        importlib.invalidate_caches()
        return importlib.import_module(f"{package.__name__}.{Path(file).stem}"), line

    return add
