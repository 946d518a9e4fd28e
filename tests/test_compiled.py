"""Kernels run compiled, with or without a place for their cache, and never from an outdated one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import codecbook.compiled
from codecbook.compiled import kernel, kernel_or


def test_kernel_without_a_source_file_is_compiled_uncached() -> None:
    # numba finds no place for the cache of such a function, as in a read-only installation
    namespace: dict = {}
    exec("def triple(x):\n    return 3 * x", namespace)
    triple = kernel(namespace["triple"])
    assert triple(np.int64(14)) == 42
    assert triple.signatures


def test_other_errors_of_numba_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: bool) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(codecbook.compiled.numba, "njit", refuse)
    with pytest.raises(RuntimeError, match="something else"):
        kernel(lambda x: x)


def test_without_numba_kernels_are_the_functions_that_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(values: np.ndarray) -> int:
        total = 0
        for value in values:
            total += value
        return total

    assert kernel_or(np.sum)(loop)(np.arange(5)) == 10
    monkeypatch.setattr(codecbook.compiled, "numba", None)
    assert kernel(loop) is loop
    assert kernel_or(np.sum)(loop) is np.sum


OUTER = """
from inner import twice
from codecbook.compiled import kernel

@kernel
def outer(x):
    return twice(x) + 1

print(outer(5), sum(outer.stats.cache_hits.values()))
"""
INNER = """
from constants import FACTOR
from codecbook.compiled import kernel

@kernel
def twice(x):
    return last(x)

@kernel
def last(x):
    return FACTOR * x + {extra}
"""


def test_a_change_in_another_file_is_compiled_anew(tmp_path: Path) -> None:
    def run() -> str:
        environ = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "outer.py"]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout

    (tmp_path / "outer.py").write_text(OUTER)
    (tmp_path / "inner.py").write_text(INNER.format(extra=0))
    (tmp_path / "constants.py").write_text("FACTOR = 2\n")
    assert run() == "11 0\n"
    assert run() == "11 1\n", "what is unchanged comes from the cache"
    (tmp_path / "inner.py").write_text(INNER.format(extra=3))
    assert run() == "14 0\n"
    # of another length, so that Python itself reads the file anew
    (tmp_path / "constants.py").write_text("FACTOR = 2 + 2\n")
    assert run() == "24 0\n"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(codecbook.compiled.numba.config, "CACHE_DIR", str(tmp_path / "file"))

    def half(x: int) -> int:
        return x // 2

    assert kernel(half)(np.int64(9)) == 4
