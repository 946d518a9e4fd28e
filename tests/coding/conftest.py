"""The property that every entropy coder must have, for all tests of this folder."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # helpers lie beside the tests


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: its operations here are tiny, and its softmax rounds as the threads divide it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def assert_roundtrip() -> Callable[..., bytes]:
    """Return a check that a coder gives symbols back: at once and symbol by symbol, to the byte."""

    def check(
        encode: Callable, decode: Callable, encoder: Any, decoder: Callable, symbols: np.ndarray, cdf: np.ndarray
    ) -> bytes:
        K, T = symbols.shape
        data = encode(symbols, cdf)
        np.testing.assert_array_equal(decode(data, cdf), symbols)
        puller = decoder(data)
        for t in range(T):
            for k in range(K):
                encoder.push(int(symbols[k, t]), cdf[t, k])
                assert puller.pull(cdf[t, k]) == symbols[k, t]
        assert encoder.finish() == data
        assert encoder.finish() == encode(symbols[:, :0], cdf[:0]), "a finished encoder is empty again"
        return data

    return check
