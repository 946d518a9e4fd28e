"""Costs by clip, codebook and position agree with what scoring says."""

import numpy as np
import pytest
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.costs import baseline_costs, bits_by_position, lm_cost
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import build_lm
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM
from codecbook.tokens import tokens_from_frames


@pytest.fixture
def model() -> TokenLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16, "window_frames": 4, "head_dim": 8, "head_hidden": 8}
        model = build_lm("rvq_transformer", {"codebook_sizes": (16, 16), **shape})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)  # far from even probabilities, so that equal costs mean something
    return model.eval()


def _corpus(*lengths: int) -> Corpus:
    rng = np.random.default_rng(0)
    return Corpus.from_tokens(
        {f"c{i}": tokens_from_frames(rng.integers(0, 16, (n, 2)), 16, 75.0) for i, n in enumerate(lengths)}
    )


def test_costs_add_up_to_the_score(model):
    corpus = _corpus(7, 12, 0, 3)
    cost = lm_cost("m", model, corpus)
    bits = np.concatenate([token_bits(model, corpus.clip(i)) for i in (0, 1, 3)])
    assert cost.bits_per_token == pytest.approx(bits.mean(), rel=1e-12)
    assert cost.clip_bits.sum(axis=0) == pytest.approx(bits.sum(axis=0), rel=1e-12)
    assert cost.clip_tokens.tolist() == [14, 24, 0, 6]
    assert cost.clip_bits[2].tolist() == [0.0, 0.0]


def test_positions_are_those_of_windows_read_from_bos(model):
    corpus = _corpus(9, 4, 7)
    bits = bits_by_position(model, corpus, num_frames=5, stride_frames=2, batch_size=2)
    assert bits.shape == (2, 5)  # the clip of four frames has no window, and first windows are left out
    first = corpus.clip(0)
    starts = (2, 4)
    expected = np.mean([token_bits(model, first[s : s + 5]).mean(axis=1) for s in starts], axis=0)
    # batches may add up products in another order: float32, some 20 bits
    np.testing.assert_allclose(bits[0], expected, rtol=1e-4)
    np.testing.assert_allclose(bits[1], token_bits(model, corpus.clip(2)[2:]).mean(axis=1), rtol=1e-4)
    with pytest.raises(UnsupportedInput, match="lower num_frames"):
        bits_by_position(model, corpus, num_frames=10, stride_frames=2)


def test_baselines_are_named_and_charged_for_the_same_clips():
    corpus = _corpus(200, 150, 90, 60)
    train, held_out = corpus.split(2)
    costs = baseline_costs(train, held_out, ("zstd -19",))
    assert list(costs) == [
        "uniform", "unigram, witten_bell", "bigram, witten_bell", "bigram, kneser_ney", "in_frame, kneser_ney",
        "zstd -19", "context mixing, held-out clips alone",
    ]  # fmt: skip
    assert costs["uniform"].bits_per_token == 4.0
    assert {int(cost.clip_tokens.sum()) for cost in costs.values()} == {held_out.num_tokens}
    assert "context mixing" in baseline_costs(train, held_out, (), mix_train=True)
