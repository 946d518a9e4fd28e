"""Costs of one set of tokens under several coders: each is what that coder really writes."""

import numpy as np
import pytest
import torch

from codecbook.coding.arithmetic import encode_grid, encode_upstream
from codecbook.coding.counts import GRID_DIALECTS, cdf_upstream
from codecbook.coding.exact.frames import encode_frames
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.ngrams import TokenCost, count_model, uniform
from codecbook.lm.costs import lm_cost
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer
from codecbook.measure.rates.coder_costs import (
    against_modelless,
    codebook_table,
    coder_costs,
    cost_table,
    exact_coder_cost,
    first_saves,
    float_logits,
    leading,
    over_ideal,
    past_saves,
    saving,
)
from codecbook.tokens import Tokens
from codecbook.tokens.text import TextTokens

V = 64

pytestmark = pytest.mark.usefixtures("one_thread")


def test_logits_in_chunks_are_those_of_a_whole_pass(small_lm: RVQTransformer, small_clips: Corpus) -> None:
    codes = small_clips.clip(1)
    with torch.inference_mode():
        whole = small_lm(torch.from_numpy(np.array(codes))[None])[0].transpose(1, 2).numpy()
    # chunks and whole passes round differently, in float32
    np.testing.assert_allclose(float_logits(small_lm, codes, chunk_frames=16), whole, rtol=1e-4, atol=1e-5)


def test_each_coder_is_charged_what_it_writes(
    small_lm: RVQTransformer, small_exact: ExactLM, small_clips: Corpus
) -> None:
    written, intervals = coder_costs(small_lm, small_exact, small_clips, small_clips)
    assert next(iter(written)) == "raw"
    assert written["raw"].bits_per_token == pytest.approx(np.log2(V))
    for i in range(len(small_clips)):
        codes = small_clips.clip(i)
        logits = float_logits(small_lm, codes)
        upstream = encode_upstream(codes.T, cdf_upstream(logits))
        grid = encode_grid(codes.T, GRID_DIALECTS["qstep64"].cdf(logits))
        assert written["upstream (acv 2)"].clip_bits[i].sum() == 8 * len(upstream)
        assert written["acv 4, qstep 1/64"].clip_bits[i].sum() == 8 * len(grid)
        assert written["exact"].clip_bits[i].sum() == 8 * len(encode_frames(small_exact, codes).payload)
    # what a compressor has seen before costs it next to nothing, and it has seen the corpus
    assert written["xz -9e"].bits_per_token < 1.5
    assert coder_costs(small_lm, small_exact, small_clips, leading(small_clips, 2))[0]["xz -9e"].bits_per_token > 5.0
    ideal = written["float model, ideal"].bits_per_token
    assert list(intervals) == ["upstream (acv 2)", "acv 4, qstep 1/128", "acv 4, qstep 1/64", "exact"]
    for name in ("upstream (acv 2)", "acv 4, qstep 1/128", "exact"):
        # a forced width costs up to V / 2^20 of the mass, the grid half a step of a nat
        assert intervals[name].bits_per_token == pytest.approx(ideal, rel=2e-3)
        assert written[name].bits_per_token >= intervals[name].bits_per_token


def test_leading_rows_and_codebooks_keep_the_codes(small_clips: Corpus) -> None:
    short = leading(small_clips.subset(["clip 2", "clip 0"]), 10, 2)
    assert short.clips == ("clip 0", "clip 2")
    np.testing.assert_array_equal(short.clip(1), small_clips.clip(2)[:10, :2])


def test_exact_cost_of_no_frames_is_one_byte(small_exact: ExactLM, small_clips: Corpus) -> None:
    empty = leading(small_clips.subset(["clip 0"]), 0)
    assert exact_coder_cost(small_exact, empty)[0].clip_bits.tolist() == [[8.0]]


def test_text_has_no_codebooks() -> None:
    text = Corpus.from_text({"a": TextTokens(np.arange(4), 10, 1.0)})
    with pytest.raises(UnsupportedInput, match="no codebooks"):
        leading(text, 2)


def _cost(name: str, bits: np.ndarray, tokens: np.ndarray) -> TokenCost:
    return TokenCost(name, bits, tokens)


def test_tables_hold_models_codebooks_and_savings():
    tokens = np.array([20, 40])
    first = _cost("a", np.array([[60.0, 80.0], [120.0, 160.0]]), tokens)
    second = _cost("b", np.array([[70.0, 90.0], [140.0, 180.0]]), tokens)
    table = cost_table({"a": first, "b": second}, raw_bits_per_token=10.0)
    assert table["model"].tolist() == ["a", "b"]
    assert table["bits_per_token"].tolist() == [7.0, 8.0]
    assert table["of_raw_percent"].tolist() == pytest.approx([70.0, 80.0])
    books = codebook_table({"a": first})
    assert books[["codebook", "bits_per_token"]].to_numpy().tolist() == [[0.0, 6.0], [1.0, 8.0]]
    gain = saving(first, second)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((1.0, 1.0, 1.0), rel=1e-12)
    with pytest.raises(UnsupportedInput, match="compare the same"):
        saving(first, _cost("c", second.clip_bits, tokens + 2))


def test_the_exact_coder_is_held_against_the_best_without_a_model() -> None:
    tokens, raw = np.array([100, 120, 90, 110]), 10.0
    ideal = _cost("ideal", 8.0 * tokens[:, None], tokens)

    def costs(bits: float, xz: float) -> dict[str, TokenCost]:
        found = {"raw": raw, "zstd -19": 9.6, "xz -9e": xz}
        streams = {name: _cost(name, np.array([[rate * tokens.sum()]]), tokens.sum(keepdims=True))
                   for name, rate in found.items()}  # fmt: skip
        wobble = np.array([0.1, -0.2, 0.2, -0.1]) * tokens
        return streams | {"exact": _cost("exact", (bits * tokens + wobble)[:, None], tokens)}

    exact, rival, rate = against_modelless(costs(8.0, xz=9.3))
    assert (rival, exact.below(rate)) == ("xz -9e", True)
    # a coder that writes raw codes, and a compressor that knows as much as the model
    exact, rival, rate = against_modelless(costs(raw, xz=9.3))
    assert exact.below(rate) is False
    exact, rival, rate = against_modelless(costs(8.0, xz=7.9))
    assert (rival, exact.below(rate)) == ("xz -9e", False)
    above = over_ideal({"same": ideal, "raw": _cost("raw", raw * tokens[:, None], tokens)}, ideal)
    assert (above["same"].mean, above["same"].below(1)) == (0.0, True)
    assert (above["raw"].mean, above["raw"].below(1)) == (pytest.approx(25.0), False)


def test_a_cost_of_one_stream_has_no_interval_in_the_table():
    stream = _cost("xz", np.array([[80.0]]), np.array([10]))
    row = cost_table({"xz": stream}, raw_bits_per_token=10.0).iloc[0]
    assert row["bits_per_token"] == 8.0
    assert np.isnan(row["bits_per_token_low"])


def _sides(shuffled: bool) -> tuple[Corpus, Corpus]:
    """Return clips whose first codebook follows from the past and whose others follow from the one above, to two sides.

    Shuffled, each codebook's codes are in another order, clip by clip: all that is left is how often each occurs.
    """
    random, clips = np.random.default_rng(0), {}
    for n in range(24):
        first = np.repeat(random.integers(0, V, 100), 4)
        second, third = ((first * step + random.integers(0, 4, len(first))) % V for step in (5, 7))
        codes = (first, second, (second + third) % 4 + second // 4 * 4)
        if shuffled:
            codes = tuple(map(random.permutation, codes))
        clips[f"clip {n:02}"] = Tokens(codes, (V,) * 3, (50.0,) * 3)
    whole = Corpus.from_tokens(clips)
    return whole.subset(whole.clips[:16]), whole.subset(whole.clips[16:])


@pytest.mark.parametrize("shuffled", [False, True])
def test_claims_of_counts_hold_of_codes_and_not_of_shuffled_ones(shuffled: bool) -> None:
    train, test = _sides(shuffled)
    bigram, in_frame = (count_model(train, test, kind) for kind in ("bigram", "in_frame"))
    claims = {
        "counts save": saving(bigram, uniform(test)).above(0),
        "the past says most of the first codebook": first_saves(bigram).above(0),
        "the code above says more of the others": saving(in_frame, bigram, slice(1, None)).above(0),
    }
    assert claims == dict.fromkeys(claims, not shuffled)


def test_claims_of_a_model_fail_for_one_that_has_learned_nothing(small_lm: RVQTransformer) -> None:
    train, test = _sides(shuffled=False)
    raw, untrained = uniform(test), lm_cost("random weights", small_lm, test)
    best = count_model(train, test, "in_frame")
    for stand_in in (raw, untrained):
        assert saving(stand_in, best).above(0) is False, "it beats counting"
        assert saving(stand_in, raw).above(0) is False, "it is below the raw rate"
        assert saving(stand_in, stand_in).above(0) is False, "conditioning saves"
    assert first_saves(raw).above(0) is False


def test_the_past_saves_nothing_where_costs_do_not_fall() -> None:
    random, known = np.random.default_rng(0), np.arange(64)
    noise = random.normal(0, 0.3, (30, 64))
    assert [part.above(0) for part in past_saves(8 - 1.0 * (1 - 0.8**known) + noise)] == [True, True]
    assert [part.above(0) for part in past_saves(np.full((30, 64), 10.0))] == [False, False], "a uniform model"
    assert [part.above(0) for part in past_saves(8 - known / 64 + noise)] == [True, False], "as much at any distance"
