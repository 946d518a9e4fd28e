import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import IGNORE, Windows
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.npq import write_npq

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)


def _tokens(count: int, seed: int = 0) -> Tokens:
    return tokens_from_frames(np.random.default_rng(seed).integers(0, 1024, (count, 2)), 1024, 75.0)


@pytest.fixture
def windows() -> Windows:
    return Windows(Corpus.from_tokens({f"c{i}": _tokens(1000, seed=i) for i in range(16)}), 100)


@PROPERTY
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 9))
def test_windows_hold_every_row(lengths, context, stride):
    corpus = Corpus.from_tokens({f"c{i}": _tokens(n, seed=i) for i, n in enumerate(lengths)})
    if stride > context or corpus.num_rows < context:
        with pytest.raises(UnsupportedInput):
            Windows(corpus, context, stride)
        return
    windows = Windows(corpus, context, stride)
    rows, last, known = [], -1, 0
    for i in range(len(windows)):
        window = windows[i]
        assert window.shape == (context, 2)
        clip, start, length = windows.clip_indices[i], windows.starts[i], windows.lengths[i]
        assert (window[length:] == IGNORE).all()
        assert 0 <= start < start + length <= corpus.clip_rows[clip]
        last, known = clip, known if clip == last else 0
        rows.append(window[known - start : length])
        assert len(rows[-1]) > 0, "no window is made of what others hold already"
        known = start + length
    np.testing.assert_array_equal(np.concatenate(rows), corpus.rows())


def test_windows_by_hand():
    frames = np.arange(14).reshape(7, 2)
    corpus = Corpus.from_tokens({"a": tokens_from_frames(frames, 1024, 75.0)})
    windows = Windows(corpus, 4, 2)
    assert windows.starts.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(windows[2][:, 0], [8, 10, 12, -1])
    np.testing.assert_array_equal(windows.batch([0, -1]), np.stack([windows[0], windows[2]]))
    assert len(Windows(corpus, 4)) == 2
    with pytest.raises(IndexError):
        windows[3]


def test_every_epoch_visits_each_window_once_in_its_own_order(windows):
    drawn = np.concatenate([windows.of_step(step, 12, seed=3) for step in range(40)])  # 480 of 3 x 160
    epochs = drawn.reshape(3, 160)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(160))
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(drawn[240:252], windows.of_step(20, 12, seed=3))
    assert not np.array_equal(drawn[:12], windows.of_step(0, 12, seed=4))


def test_the_order_of_a_seed_stays_as_it_is(windows):
    # runs of earlier versions go on with the windows that they would have had
    assert windows.of_step(0, 8, seed=0).tolist() == [64, 140, 9, 40, 3, 68, 55, 76]
    assert windows.of_step(25, 8, seed=3).tolist() == [4, 84, 104, 12, 48, 128, 79, 42]


def test_rows_are_read_from_the_map_and_not_kept(tmp_path):
    for i in range(8):
        write_npq(tmp_path / f"{i}.npq", _tokens(1 << 16, seed=i))  # 256 KiB each
    tracemalloc.start()
    try:
        corpus = Corpus.from_files(tmp_path)
        windows = Windows(corpus, 256, 256)
        order = windows.of_step(0, len(windows), seed=0)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for i in order:
            windows[i]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert corpus.num_rows == 8 << 16
    assert before < 1 << 18
    assert peak - before < 1 << 18
