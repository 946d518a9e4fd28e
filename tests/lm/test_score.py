import math

import numpy as np
import pytest
import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import build_lm
from codecbook.lm.score import clip_bits, token_bits
from codecbook.lm.token_lm import TokenLM
from codecbook.tokens import tokens_from_frames


def small(architecture: str, **arguments: object) -> TokenLM:
    torch.manual_seed(0)
    shape = {"dim": 16, "layers": 2, "heads": 2, "hidden": 16, "dropout": 0.5, **arguments}
    return build_lm(architecture, shape).double()


def transformer() -> TokenLM:
    return small("rvq_transformer", codebook_sizes=[9, 9], window_frames=5, head_dim=8, head_hidden=8)


def full_pass_bits(model: TokenLM, codes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(codes)[None])[0]
    return -logits.log_softmax(-1).gather(-1, torch.from_numpy(codes)[..., None])[..., 0].numpy() / math.log(2)


@pytest.mark.parametrize("chunk_frames", [1, 2, 7, 30, 31, 100])
def test_chunks_cost_what_a_full_pass_costs(chunk_frames: int) -> None:
    model, codes = transformer(), np.random.default_rng(0).integers(0, 9, (31, 2))
    # float64; chunks add in another order
    np.testing.assert_allclose(token_bits(model, codes, chunk_frames), full_pass_bits(model, codes), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_tokens", [1, 9, 10, 11, 25])
def test_gpt_reads_a_long_stream_context_by_context(num_tokens: int) -> None:
    model = small("tiny_gpt", codebook_sizes=[9], context=10)
    codes = np.random.default_rng(0).integers(0, 9, (num_tokens, 1))
    expected = [full_pass_bits(model, codes[:10])]
    # every further context of 10 begins with 5 tokens that have been charged
    expected += [full_pass_bits(model, codes[start : start + 10])[5:] for start in range(5, num_tokens - 5, 5)]
    np.testing.assert_allclose(token_bits(model, codes), np.concatenate(expected), rtol=0, atol=1e-12)


def test_contexts_begin_with_a_frame_where_tokens_take_turns() -> None:
    model = small("tiny_gpt", codebook_sizes=[9], context=11, places=[0, 1, 2])
    codes = np.random.default_rng(0).integers(0, 9, (20, 1))
    expected = [full_pass_bits(model, codes[:9])]
    expected += [full_pass_bits(model, codes[start : start + 9])[3:] for start in (6, 12)]
    np.testing.assert_allclose(token_bits(model, codes), np.concatenate(expected)[:20], rtol=0, atol=1e-12)


def test_bits_of_clips_are_sums_over_their_tokens_and_the_mode_comes_back() -> None:
    model, rng = transformer().train(), np.random.default_rng(0)
    clips = [rng.integers(0, 9, (length, 2)) for length in (4, 0, 13)]
    corpus = Corpus.from_tokens({str(i): tokens_from_frames(clip, 9, 75.0) for i, clip in enumerate(clips)})
    expected = [token_bits(model, clips[0]).sum(axis=0), np.zeros(2), token_bits(model, clips[2]).sum(axis=0)]
    np.testing.assert_array_equal(clip_bits(model, corpus), expected)
    np.testing.assert_array_equal(clip_bits(model, corpus, [2]), expected[2:])
    assert model.training


def test_bad_clips_are_refused() -> None:
    model = transformer()
    with pytest.raises(CorruptInput, match=r"code 9 at \[1, 0\] is outside 0\.\.8"):
        token_bits(model, np.array([[0, 1], [9, 2]]))
    with pytest.raises(UnsupportedInput, match="not integers"):
        token_bits(model, np.zeros((5, 3), dtype=np.int64))
    with pytest.raises(UnsupportedInput, match="T >= 1"):
        token_bits(model, np.zeros((0, 2), dtype=np.int64))
