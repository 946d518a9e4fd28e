from pathlib import Path

import numpy as np
import pytest
import torch

from codecbook.codecs.corpus.index import ClipRow
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import build_lm
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import num_trunk_parameters
from codecbook.measure.rates.bits_per_second import rate_of
from codecbook.measure.rates.streams import Stream, code_stream
from codecbook.measure.rates.study import (
    CODES,
    MODEL,
    StudyRecipe,
    batches,
    by_level,
    context_rows,
    distinct_share,
    fewer,
    leading_clips,
    learn,
    mixed,
    mixture_share,
    model_bits,
    row_parameters,
    split_clips,
)
from codecbook.tokens import tokens_from_frames

RECIPE = StudyRecipe(
    dim=16, layers=1, heads=2, dropout=0.0, context_tokens=16, passes=3.5, tokens_per_step=64, evaluations=3,
    learning_rate=1e-2,
)  # fmt: skip


def row(clip: str, speaker: str, split: str = "train") -> ClipRow:
    return ClipRow(clip, "s", "speech", speaker, split, 1.0)


def counting(num_clips: int = 24, num_codebooks: int = 2) -> Stream:
    """Return clips whose codes count up, each codebook from its own start: nothing is left to chance."""
    tokens = {}
    for clip in range(num_clips):
        frames = (np.arange(20)[:, None] + 3 * np.arange(num_codebooks) + clip) % 8
        tokens[f"clip{clip:02d}"] = tokens_from_frames(frames, 8, 20.0)
    return code_stream("counting", tokens, "flat" if num_codebooks > 1 else "parallel")


def test_one_voice_is_split_by_clip() -> None:
    rows = [row(f"c{i:02d}", "k", "held_out" if i % 10 == 0 else "train") for i in range(30)]
    parts = split_clips(rows)
    assert parts.test == ("c00", "c10", "c20")
    assert 1 <= len(parts.validation) < 9
    assert sorted(parts.all) == [r.clip for r in rows]
    fewer = split_clips([row for row in rows if row.clip != "c11"])
    assert set(fewer.validation) == set(parts.validation) - {"c11"}, "no clip moves when another goes"


def test_many_voices_are_split_by_speaker() -> None:
    rows = [
        row(f"{s:02d}-{i}", f"s{s:02d}", "held_out" if s % 5 == 0 else "train") for s in range(15) for i in range(2)
    ]
    parts = split_clips(rows)
    sides = [{clip.split("-")[0] for clip in side} for side in (parts.train, parts.validation, parts.test)]
    assert len(sides[0]) + len(sides[1]) == 12
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]


def test_a_speaker_on_both_sides_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match="a"):
        split_clips([row("1", "a"), row("2", "a", "held_out"), row("3", "b")])


@pytest.mark.parametrize("splits", [["train", "train"], ["held_out"], []])
def test_empty_sides_are_refused(splits: list[str]) -> None:
    with pytest.raises(UnsupportedInput, match="none may be 0"):
        split_clips([row(str(i), "", split) for i, split in enumerate(splits)])


@pytest.mark.parametrize(
    ("lengths", "longest", "expected"),
    [([10] * 5, 512, 10), ([10] * 5, 4, 4), ([4, 5, 6, 10], 512, 6), ([1000], 256, 256), ([1] * 9 + [100], 512, 4)],
)
def test_context_is_as_long_as_filling_allows(lengths: list[int], longest: int, expected: int) -> None:
    clip_rows = np.array(lengths)
    context = context_rows(clip_rows, longest)
    assert context_rows(clip_rows, longest, 3) % 3 == 0  # so that windows begin with a frame
    waste = np.ceil(clip_rows / context).sum() * context / clip_rows.sum()
    assert (context, waste <= 1.25) == (expected, True)


def test_budget_is_passes_over_the_training_clips() -> None:
    corpus = counting().corpus  # 24 clips of 40 tokens
    recipe = StudyRecipe(passes=10, tokens_per_step=80)
    assert batches(corpus, 40, recipe) == (1, 240)  # a hundredth of a pass is less than one window
    assert batches(corpus, 8, recipe) == (1, 1200)
    assert batches(corpus, 2, StudyRecipe(passes=0.5, tokens_per_step=80)) == (5, 48)


def test_smaller_shares_of_the_clips_are_part_of_larger_ones() -> None:
    parts = split_clips([row(f"c{i:02d}", "k", "held_out" if i % 10 == 0 else "train") for i in range(60)])
    durations_s = dict.fromkeys(parts.all, 1.0)
    quarter, half = (fewer(parts, share, durations_s) for share in (0.25, 0.5))
    assert set(quarter.train) < set(half.train) < set(parts.train)
    assert len(half.train) == pytest.approx(len(parts.train) / 2, abs=1)
    assert (half.validation, half.test) == (parts.validation, parts.test)
    assert fewer(parts, 1.0, durations_s) == parts


def test_leading_clips_reach_a_number_of_tokens() -> None:
    corpus = counting().corpus
    assert [len(leading_clips(corpus, n)) for n in (1, 40, 41, 100, 10_000)] == [1, 1, 2, 3, 24]


def test_distinct_share_is_the_mean_over_columns() -> None:
    corpus = Corpus.from_tokens({"a": tokens_from_frames(np.array([[0, 1], [0, 2]]), 4, 1.0)})
    assert distinct_share(corpus) == (1 / 4 + 2 / 4) / 2


def test_bits_of_levels_add_up_to_those_of_clips() -> None:
    stream = counting(4, 3)
    torch.manual_seed(0)
    model = build_lm(stream.architecture, {**RECIPE.arguments(stream, 60), "codebook_sizes": [8]})
    bits = model_bits(stream, model, stream.columns.clips)
    assert bits.shape == (80, 3)
    levels = by_level(stream, stream.columns, bits)
    np.testing.assert_allclose(levels.sum(axis=0), bits.sum(axis=0), rtol=1e-12)
    for clip in range(4):
        each = token_bits(model, stream.corpus.clip(clip)).reshape(20, 3)
        np.testing.assert_allclose(levels[clip], each.sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(by_level(stream, stream.columns, np.ones(bits.shape)), np.full((4, 3), 20))


def test_a_mixture_is_a_code_and_is_fitted() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (2, 50))
    costs = -np.log2(probabilities)
    assert np.exp2(-mixed(costs[0], costs[1], 0.3)).sum(axis=-1) == pytest.approx(1)
    first, second = np.array([1.0, 9.0] * 10), np.array([9.0, 1.0] * 10)
    assert mixture_share(first, second) == pytest.approx(0.5, abs=1e-3)
    assert mixed(first, second, 0.5).sum() < min(first.sum(), second.sum())
    assert mixture_share(np.full(9, 1.0), np.full(9, 5.0)) > 0.99


@pytest.mark.parametrize("num_codebooks", [1, 2])
def test_a_model_learns_what_is_regular(tmp_path: Path, num_codebooks: int) -> None:
    stream = counting(num_codebooks=num_codebooks)
    parts = split_clips(
        row(name, "one", "held_out" if i % 6 == 0 else "train") for i, name in enumerate(stream.corpus.clips)
    )
    lines: list[str] = []
    learned = learn(stream, parts, RECIPE, tmp_path, say=lines.append)
    assert learned.clips == parts.test
    assert lines
    assert tuple(learned.level_bits) == CODES
    # 8 codes, evenly used: 3 bits raw at each level, next to none once counting has been understood
    assert learned.bits_per_token("raw codes") == 3
    assert learned.bits_per_token(MODEL) < 1.5
    assert learned.bits_per_token("model and counts") < learned.bits_per_token(MODEL) + 0.01
    assert learned.evaluations[-1].bits_per_token < learned.evaluations[0].bits_per_token
    assert learned.passes == pytest.approx(3.5, rel=0.1)  # whole windows
    rate = rate_of(learned, {clip: "four" for clip in parts.test})
    assert rate["tokens_per_s"] == 20 * num_codebooks
    assert rate["capacity_bits_per_s"] == 60 * num_codebooks
    assert rate["bits_per_byte"] == pytest.approx(learned.shortest_bits.sum() / 16)
    with pytest.raises(UnsupportedInput, match="no text"):
        rate_of(learned, {})


def test_trunks_of_both_architectures_are_equal_and_networks_of_a_row_are_counted() -> None:
    tokens = {f"c{i}": tokens_from_frames(np.zeros((9, 2), dtype=int), 8, 20.0) for i in range(3)}
    trunk, hidden, found = 2 * 12 * 128**2 + 5 * 128, 2 * 128 * 256 + 2 * 128, {}
    for order in ("flat", "parallel"):
        stream = code_stream("c", tokens, order)
        arguments = {**StudyRecipe().arguments(stream, 16), "codebook_sizes": stream.corpus.codebook_sizes}
        model = build_lm(stream.architecture, arguments)
        assert num_trunk_parameters(model) == trunk
        found[order] = row_parameters(model)
    assert found == {"flat": trunk, "parallel": trunk + 128 * 256 + 2 * hidden}
