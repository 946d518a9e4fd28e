"""Timing: who was timed, on what, and that the work was done."""

from collections.abc import Iterator
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch

from codecbook.coding.ecdc import upstream_lm
from codecbook.coding.ecdc.lm import PackageStepper
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure import coder_speed
from codecbook.measure.coder_speed import (
    UPSTREAM_SHAPE,
    batch_throughput,
    same_size,
    speedup,
    time_coders,
    torch_threads,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_both_models_have_upstreams_shape() -> None:
    codes = np.random.default_rng(0).integers(0, 32, (12, 2))
    twin, exact_model = same_size(2, 32, 10.0, codes)
    exact = exact_model.config
    assert (twin.config.dim, twin.config.layers, twin.config.window_frames) == (200, 5, 35)
    upstream = upstream_lm(2, 32, 10.0)
    assert (exact.dim, exact.layers, exact.hidden, exact.window_frames) == (200, 5, 800, 35)
    assert not exact.conditioned
    assert upstream.transformer.past_context == exact.window_frames
    assert upstream.emb[0].embedding_dim == exact.dim == UPSTREAM_SHAPE["dim"]
    assert len(upstream.transformer.layers) == exact.layers
    assert upstream.transformer.state_dict()["layers.0.linear1.weight"].shape[0] == exact.hidden


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The readings of a clock that goes on by a second with each."""
    readings = count()
    monkeypatch.setattr(coder_speed, "perf_counter", lambda: float(next(readings)))
    return readings


def test_rounds_are_timed_in_turns(small_exact: ExactLM, small_clips: Corpus, ticks: Iterator[int]) -> None:
    codes = small_clips.clip(0)[:5]
    upstream = PackageStepper(upstream_lm(3, 64, 10.0))
    times = time_coders(codes, {"upstream": lambda _: upstream}, {"exact": small_exact}, repeats=2, threads=(1,))
    assert times[["coder", "direction"]].to_numpy().tolist() == [
        ["upstream", "encode"], ["upstream", "decode"], ["exact", "encode"], ["exact", "decode"],
    ]  # fmt: skip
    assert np.stack(times["seconds"].tolist()).tolist() == [[1.0, 1.0]] * 4
    assert (times["frame_ms"] == 200.0).all()
    assert next(ticks) == 2 + 2 * 4 * 3, "a try and a round before the others are not counted"


def test_threads_that_only_get_in_the_way_are_left_out(small_clips: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0 if torch.get_num_threads() == 1 else 3.0
        return now

    monkeypatch.setattr(coder_speed, "perf_counter", clock)
    upstream = PackageStepper(upstream_lm(3, 64, 10.0))
    times = time_coders(small_clips.clip(0)[:3], {"upstream": lambda _: upstream}, {}, 1, (1, 2))
    assert times["threads"].tolist() == [1, 1]
    assert times["processor_share"].between(0, 1).all()


def test_speedup_takes_each_coder_at_its_best() -> None:
    times = pd.DataFrame(
        {"coder": ["a", "a", "b"], "direction": "encode", "threads": [1, 2, 1], "frame_ms": [40.0, 20.0, 10.0],
         "seconds": [[4.0, 4.0, 5.0] * 2, [2.0, 2.0, 4.0] * 2, [1.0, 0.5, 1.0] * 2]}
    )  # fmt: skip
    found = speedup(times, "a", "b", "encode")
    assert (found.mean, found.low, found.high, found.count) == (4.0, 2.0, 4.0, 6)
    # a coder is not faster than itself
    assert not speedup(times, "a", "a", "encode").above(1.0)


@pytest.mark.usefixtures("ticks")
def test_throughput_counts_all_streams(small_exact: ExactLM, small_clips: Corpus) -> None:
    clips = [small_clips.clip(i)[: 4 + i] for i in range(3)]
    found = batch_throughput(small_exact, clips, 2, 2)
    assert (found["streams"], found["threads"], found["frames_per_s"]) == (3, 2, 4 + 5 + 6)


def test_threads_are_set_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(2):
        raise KeyError
    assert torch.get_num_threads() == before
