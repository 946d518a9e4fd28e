import itertools

import numpy as np
import pytest
import zstandard

from codecbook import paths
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines import mixing
from codecbook.lm.baselines.compressors import COMPRESSORS, compressor_costs, cost_after, serialisations
from codecbook.lm.baselines.ngrams import KINDS, SMOOTHINGS, count_bits, count_model, uniform
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens import bits, tokens_from_frames


def _corpus(frames: list[np.ndarray], size: int = 64) -> Corpus:
    return Corpus.from_tokens({f"c{i:03}": tokens_from_frames(rows, size, 75.0) for i, rows in enumerate(frames)})


def _walk(length: int, seed: int, size: int = 64) -> np.ndarray:
    """Codes that follow each other: one goes round in a noisy circle, the other repeats it."""
    rng = np.random.default_rng(seed)
    first = (np.cumsum(rng.integers(1, 3, length)) + rng.integers(size)) % size
    return np.stack([first, (first * 5 + rng.integers(0, 2, length)) % size], axis=1)


@pytest.fixture(scope="module")
def walks() -> tuple[Corpus, Corpus]:
    return _corpus([_walk(150, seed) for seed in range(20)]).split(5)


def _all_sequences(size: int, rows: int, columns: int) -> list[np.ndarray]:
    return [np.array(codes).reshape(rows, columns) for codes in itertools.product(range(size), repeat=rows * columns)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_probabilities_of_all_sequences_sum_to_one(kind, smoothing):
    train = _corpus([np.random.default_rng(i).integers(0, 2, (6, 2)) ** 2 for i in range(3)], size=3)
    clips = _all_sequences(3, rows=2, columns=2)
    cost = count_model(train, _corpus(clips, size=3), kind, smoothing)
    assert np.exp2(-cost.clip_bits.sum(axis=1)).sum() == pytest.approx(1, rel=1e-12)


def test_slots_of_contexts_do_not_wrap():
    # without numba the same function runs on Python's integers, which have no end
    mask = (1 << 22) - 1
    for context in (0, 1, (1 << 42) + (1 << 20), (1 << 43) - 1):
        for node, k in ((1, 0), ((1 << 20) - 1, 63)):
            slot = mixing._slot.py_func(context, node, 8, k, mask)
            assert slot == mixing._slot(context, node, 8, k, mask)
            assert 8 * (mask + 1) <= slot < 9 * (mask + 1)


def test_contexts_spread_over_slots():
    slots = {mixing._slot(c, node, 0, 0, (1 << 16) - 1) for c in range(256) for node in range(1, 129)}
    assert len(slots) > 0.93 * 65536 * (1 - np.exp(-0.5))  # what drawing 32,768 of 65,536 at random reaches


def test_mixing_probabilities_sum_to_one():
    total = sum(
        np.exp2(-mixing.mixing_model(_corpus([rows], size=2)).clip_bits.sum()) for rows in _all_sequences(2, 3, 2)
    )
    assert total == pytest.approx(1, rel=1e-9)


def test_witten_bell_by_hand():
    # after the training set, 5 of 6 codes are 1, and two different codes were seen: P(1) = (5 + 2 / 4) / (6 + 2)
    train = _corpus([np.array([[1], [1], [1], [1], [1], [2]])], size=4)
    cost = count_model(train, _corpus([np.array([[1]])], size=4), "unigram", "witten_bell")
    assert cost.bits_per_token == pytest.approx(-np.log2(5.5 / 8), rel=1e-12)


def test_kneser_ney_by_hand():
    train = _corpus([np.array([[0], [1], [0], [1], [0], [2]])], size=4)
    cost = count_model(train, _corpus([np.array([[3], [0], [1]])], size=4), "bigram", "kneser_ney")
    # pairs: start-0 once, 0-1 twice, 1-0 twice, 0-2 once: n1 = 2, n2 = 2
    discount = 3 / 8
    # different contexts of 0: two; of 1: one; of 2: one; as counts, two are 1 and one is 2
    low_discount = (2 + 1) / (2 + 2 * 1 + 2)
    low = (np.maximum(np.array([2, 1, 1, 0]) - low_discount, 0) + low_discount * 3 / 4) / 4
    expected = -np.log2(discount * low[3])  # after the start: once 0, never 3
    expected -= np.log2(low[0])  # after 3, which was never seen
    expected -= np.log2((2 - discount + discount * 2 * low[1]) / 3)
    assert cost.clip_bits.sum() == pytest.approx(expected, rel=1e-12)


def test_large_codebooks_are_counted_in_little_memory():
    corpus = _corpus([np.array([[0], [2**32 - 1], [0]])], size=2**32)
    assert 0 < count_model(corpus, corpus, "bigram").bits_per_token < 32


def test_what_a_model_may_use_shows(walks):
    train, held_out = walks
    bits = {kind: count_bits(train, held_out, kind).mean(axis=0) for kind in KINDS}
    assert uniform(held_out).bits_per_token == 6.0
    assert bits["unigram"].min() > 5.8
    assert bits["bigram"][0] < 1.3
    assert bits["in_frame"][1] < 1.3
    assert bits["bigram"][1] > bits["in_frame"][1]


def test_costs_are_kept_by_clip(walks):
    train, held_out = walks
    cost = count_model(train, held_out)
    assert cost.clip_bits.shape == (len(held_out), 2)
    alone = count_model(train, held_out.subset(held_out.clips[1:2]))
    np.testing.assert_allclose(alone.clip_bits[0], cost.clip_bits[1], rtol=1e-12)
    assert cost.bits_per_token == pytest.approx(count_bits(train, held_out).mean(), rel=1e-12)


def test_a_clip_without_tokens_costs_nothing():
    held_out = _corpus([np.zeros((0, 1), dtype=int), np.array([[1], [2]])], size=4)
    for cost in (uniform(held_out), count_model(held_out, held_out), mixing.mixing_model(held_out)):
        assert cost.clip_bits[0, 0] == 0
        assert np.isfinite(cost.bits_per_token)


@pytest.mark.parametrize("serialisation", ["words, frames", "words, codebooks", "packed, frames", "packed, codebooks"])
def test_serialisations_keep_every_code(serialisation):
    sizes = (1024, 7, 300)
    rows = np.stack([np.random.default_rng(k).integers(0, size, 100) for k, size in enumerate(sizes)], axis=1)
    data = serialisations(rows, sizes)[serialisation]
    if serialisation.startswith("words"):
        flat = np.frombuffer(data, "<u2")
        back = flat.reshape(100, 3) if serialisation.endswith("frames") else flat.reshape(3, 100).T
    else:
        widths = [10, 3, 9]
        lengths = [100 * width for width in widths]
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        if serialisation.endswith("frames"):
            cells = np.split(bits[: sum(lengths)].reshape(100, sum(widths)), np.cumsum(widths)[:-1], axis=1)
        else:
            starts = np.cumsum([0, *(-(-length // 8) * 8 for length in lengths[:-1])])
            cells = [bits[start : start + n].reshape(100, -1) for start, n in zip(starts, lengths, strict=True)]
        back = np.stack([cell @ (1 << np.arange(cell.shape[1])) for cell in cells], axis=1)
    np.testing.assert_array_equal(back, rows)


def test_packing_in_parts_is_packing_at_once(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 1024, (100, 2))
    whole = serialisations(rows, (1024, 1024))["packed, frames"]
    monkeypatch.setattr(bits, "_BLOCK_BITS", 100)
    assert serialisations(rows, (1024, 1024))["packed, frames"] == whole
    assert len(whole) == 250


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressors_find_what_repeats(name, walks):
    training, held_out = walks
    costs = compressor_costs(held_out, name)
    assert [cost.bits_per_token for cost in costs] == sorted(cost.bits_per_token for cost in costs)
    assert len({cost.name for cost in costs}) == 4
    assert 0 < costs[0].bits_per_token < 6
    after = cost_after(training, held_out, name)
    assert 0 < after.bits_per_token < costs[0].bits_per_token
    assert cost_after(held_out, held_out, "xz -9e").bits_per_token < 0.2 * costs[0].bits_per_token, "it has seen them"


def test_compressor_bits_are_those_of_the_file(walks):
    _, held_out = walks
    cost = next(c for c in compressor_costs(held_out, "zstd -19") if c.name == "zstd -19 (words, frames)")
    assert cost.clip_bits.sum() == 8 * len(
        zstandard.ZstdCompressor(level=19).compress(held_out.rows().astype(np.uint8).tobytes())
    )


def test_mixing_beats_counts_on_its_own(walks):
    train, held_out = walks
    alone = mixing.mixing_model(held_out)
    assert alone.clip_bits.shape == (len(held_out), 2)
    assert alone.bits_per_token < 3.55  # what counts of both contexts need that learn from these clips alone
    assert mixing.mixing_model(held_out, train).bits_per_token < alone.bits_per_token
    np.testing.assert_array_equal(mixing.mixing_model(held_out).clip_bits, alone.clip_bits)


def test_random_codes_cannot_be_mixed_away():
    held_out = _corpus([np.random.default_rng(0).integers(0, 64, (2000, 2))])
    assert mixing.mixing_model(held_out).bits_per_token > 6


def test_unusable_input_is_refused(walks):
    train, held_out = walks
    other = _corpus([np.zeros((3, 2), dtype=int)], size=32)
    empty = _corpus([np.zeros((0, 2), dtype=int)])
    for model in (count_model, mixing.mixing_model):
        for known, scored in ((other, held_out), (train, empty)):
            arguments = (known, scored) if model is count_model else (scored, known)
            with pytest.raises(UnsupportedInput):
                model(*arguments)
    for known, scored in ((other, held_out), (None, empty)):
        with pytest.raises(UnsupportedInput):
            mixing.mixing_model(scored, known)
    with pytest.raises(UnsupportedInput, match="no tokens"):
        uniform(empty)
    with pytest.raises(UnsupportedInput, match="no training tokens"):
        count_model(empty, held_out)
    for options in ({"kind": "tetragram"}, {"smoothing": "none"}):
        with pytest.raises(UnsupportedInput, match="unknown"):
            count_model(train, held_out, **options)
    with pytest.raises(UnsupportedInput, match="unknown"):
        compressor_costs(held_out, "rar")


def test_bark_tokens_cost_what_they_did():
    extra = paths.extra_dir()
    if extra is None or not (extra / "data" / "bark_encodec_tokens").is_dir():
        pytest.skip("Bark's prompts need CODECBOOK_EXTRA with data/bark_encodec_tokens")
    corpus = Corpus.from_files(extra / "data" / "bark_encodec_tokens", num_codebooks=2, bark=True)
    # every tenth name is held out, as when the figures were taken
    held_out = corpus.subset(sorted(corpus.clips)[::10])
    train = corpus.subset(set(corpus.clips) - set(held_out.clips))
    costs = {s: count_model(train, held_out, smoothing=s).bits_per_token for s in SMOOTHINGS}
    # measured once; sums of float64 logarithms differ between machines only far behind these digits
    assert costs["kneser_ney"] == pytest.approx(6.0064, abs=0.001)
    assert costs["witten_bell"] == pytest.approx(6.2306, abs=0.001)
