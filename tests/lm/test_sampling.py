import numpy as np
import pytest
import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.models import build_lm
from codecbook.lm.sampling import draw, sample
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM
from codecbook.tokens import tokens_from_frames


def small(kind: str = "in_frame") -> TokenLM:
    torch.manual_seed(0)
    shape = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16}
    if kind == "gpt":
        return build_lm("tiny_gpt", {**shape, "codebook_sizes": [6], "context": 12})
    return build_lm("rvq_transformer", {**shape, "codebook_sizes": [6] * 3, "window_frames": 4, "conditioning": kind})


@pytest.mark.parametrize("kind", ["gpt", "none", "in_frame"])
def test_samples_are_tokens_and_repeat_with_their_seed(kind: str) -> None:
    model = small(kind)
    frames = sample(model, 9, seed=5)
    assert tokens_from_frames(frames, model.codebook_sizes, 75.0).num_codebooks == model.num_codebooks
    assert frames.shape == (9, model.num_codebooks)
    assert np.array_equal(frames, sample(model, 9, seed=5))
    assert not np.array_equal(frames, sample(model, 9, seed=6))


def test_a_prompt_is_continued() -> None:
    model = small()
    whole = sample(model, 8, temperature=0.0)
    continued = sample(model, 5, prompt=whole[:3], temperature=0.0)
    assert np.array_equal(continued, whole)


def test_most_probable_codes_are_those_of_the_full_pass() -> None:
    model = small()
    frames = sample(model, 8, temperature=0.0)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(frames)[None])[0]
    assert np.array_equal(logits.argmax(-1).numpy(), frames)


def test_draws_follow_the_model() -> None:
    model = small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    many = np.concatenate([sample(model, 1, seed=seed) for seed in range(150)])
    with torch.no_grad():
        probabilities = model.eval()(torch.zeros(1, 1, 3, dtype=torch.int64))[0, 0, 0].softmax(-1).numpy()
    shares = np.bincount(many[:, 0], minlength=6) / 150
    assert probabilities.max() > 2 * probabilities.min(), "even draws would be far off"
    # four standard deviations of a share of 150 draws are at most 0.163
    np.testing.assert_allclose(shares, probabilities, rtol=0, atol=0.163)
    cold = sample(model, 30, temperature=0.2, seed=1)
    assert token_bits(model, cold).mean() < token_bits(model, sample(model, 30, temperature=3.0, seed=1)).mean()


LOGITS = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]], dtype=torch.float64))


def drawn(**settings: object) -> set[int]:
    generator = torch.Generator().manual_seed(0)
    rows = LOGITS.expand(600, -1)
    arguments = {"temperature": 1.0, "top_k": None, **settings}
    return set(draw(rows, generator=generator, **arguments).tolist())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({}, {0, 1, 2, 3}),
        ({"temperature": 0.0}, {1}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_k": 9}, {0, 1, 2, 3}),
    ],
)
def test_top_k_keeps_the_most_probable(settings: dict, codes: set[int]) -> None:
    assert drawn(**settings) == codes


@pytest.mark.parametrize(
    "settings",
    [
        {"num_frames": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0},
        {"prompt": np.zeros((2, 2), dtype=np.int64)}, {"prompt": np.zeros((1, 2, 3), dtype=int)},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(UnsupportedInput):
        sample(small(), **{"num_frames": 1, **settings})


def test_a_prompt_out_of_range_and_one_beyond_the_context_are_refused() -> None:
    with pytest.raises(CorruptInput, match="prompt"):
        sample(small(), 1, prompt=np.full((2, 3), 6))
    with pytest.raises(UnsupportedInput, match="context 12"):
        sample(small("gpt"), 10, prompt=np.zeros((3, 1), dtype=np.int64))
    assert sample(small("gpt"), 9, prompt=np.zeros((3, 1), dtype=np.int64)).shape == (12, 1)
