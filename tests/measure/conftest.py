"""A small model of random weights, its exact form, and a corpus of random tokens for it."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig
from codecbook.measure.coder_speed import torch_threads
from codecbook.tokens import Tokens

V, K = 64, 3


@pytest.fixture
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def small_lm() -> RVQTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = RVQTransformerConfig(
            (V,) * K, dim=32, layers=1, heads=2, hidden=48, window_frames=8, head_dim=16, head_hidden=24
        )
        return RVQTransformer(config).eval()


@pytest.fixture(scope="session")
def small_clips() -> Corpus:
    rng = np.random.default_rng(0)
    tokens = {
        f"clip {n}": Tokens(
            codes=tuple(rng.integers(0, V, 40 + n) for _ in range(K)),
            codebook_sizes=(V,) * K,
            frame_rates_hz=(50.0,) * K,
        )
        for n in range(3)
    }
    return Corpus.from_tokens(tokens)


@pytest.fixture(scope="session")
def small_exact(small_lm: RVQTransformer, small_clips: Corpus) -> ExactLM:
    return export_exact(small_lm, [small_clips.clip(0)])
