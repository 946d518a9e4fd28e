"""Kernels run compiled, with or without a place for their cache."""

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
        kernel(len)


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
