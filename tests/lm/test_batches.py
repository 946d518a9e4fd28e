"""The order of training windows, on a corpus that does not fit into its cache."""

import numpy as np

from codecbook.lm.batches import BatchOrder
from codecbook.lm.data import Corpus
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.parquet import write_tokens


def _corpus(tmp_path, monkeypatch, cache_bytes: int) -> Corpus:
    monkeypatch.setattr("codecbook.tokens.parquet._ROW_GROUP_CODES", 2000)
    rng = np.random.default_rng(0)
    clips = {f"c{i}": tokens_from_frames(rng.integers(0, 1024, (1000, 2)), 1024, 75.0) for i in range(16)}
    return Corpus.from_files(write_tokens(tmp_path / "a.parquet", clips), cache_bytes=cache_bytes)


def test_every_epoch_visits_each_window_once_in_its_own_order(tmp_path, monkeypatch):
    windows = _corpus(tmp_path, monkeypatch, 1 << 20).windows(100)
    order = BatchOrder(windows, batch_size=12, seed=3)
    drawn = np.concatenate([order.indices(step) for step in range(40)])  # 480 of 3 x 160
    epochs = drawn.reshape(3, 160)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(160))
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(order.indices(20), BatchOrder(windows, 12, 3).indices(20))


def test_an_epoch_reads_each_row_group_once_although_the_cache_holds_half(tmp_path, monkeypatch):
    corpus = _corpus(tmp_path, monkeypatch, cache_bytes=32_000)  # eight of the sixteen row groups
    reads = []
    load = corpus._store.shards[0].__class__.load
    monkeypatch.setattr(
        "codecbook.lm.shards.ParquetShard.load", lambda self, layout: reads.append(self) or load(self, layout)
    )
    windows = corpus.windows(100)
    order = BatchOrder(windows, batch_size=8, seed=0)
    for step in range(20):  # one epoch of 160 windows
        windows.batch(order.indices(step))
    assert len(reads) == 16
    first = order.indices(0)
    assert len(set(windows.clip_indices[first].tolist())) > 1, "a batch mixes clips"
