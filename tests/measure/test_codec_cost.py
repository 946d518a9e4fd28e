"""What integers cost a codec: next to nothing, and a codec that costs something is found out."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.clips import load_clips
from codecbook.codecs import load_codec
from codecbook.coding import default_lm
from codecbook.measure.codec_cost import codec_cost


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Four bundled ones, two of them speech."""
    return load_clips("", limit=4)[0]


@pytest.mark.parametrize("name", ["fsq_50hz", "snac_24khz"])
def test_integers_cost_next_to_nothing(clips: list[Clip], name: str) -> None:
    floats = load_codec(name)
    cost = codec_cost(floats, load_codec(name, exact=True), default_lm(floats).model, clips, 1.5)
    assert cost is not None
    assert len(cost.pairs) == 4
    assert cost.differences["si_sdr_db"].above(-0.05)
    assert cost.differences["log_mel_distance_db"].below(0.05)
    assert cost.differences["bytes"].below(1.02)
    assert cost.equal_tokens.mean > 0.9
    assert set(cost.times) == {"encode", "decode"}
    assert list(cost.table["measure"]) == ["SI-SDR (dB)", "STOI", "log-mel distance (dB)", "stream (bytes)"]


def test_a_codec_that_costs_something_is_found_out(clips: list[Clip]) -> None:
    """Its first codes are wrong."""
    floats, lm = load_codec("fsq_50hz"), default_lm("fsq_50hz_mini").model
    worse: Any = copy.copy(floats)
    worse.encode = lambda *arguments, **options: _spoilt(floats.encode(*arguments, **options))
    cost = codec_cost(floats, worse, lm, clips, 1.5)
    assert cost is not None
    assert cost.differences["si_sdr_db"].mean < -0.05
    assert not cost.differences["si_sdr_db"].above(-0.05)
    assert cost.differences["bytes"].mean > 1.001
    assert cost.equal_tokens.mean < 0.9


def test_clips_that_cannot_be_coded_leave_nothing() -> None:
    floats, lm = load_codec("fsq_50hz"), default_lm("fsq_50hz_mini").model
    cancelled = np.ones((2, 8000), dtype=np.float32) * [[0.1], [-0.1]]
    assert codec_cost(floats, floats, lm, [Clip(cancelled.astype(np.float32), 16_000)], 1.0) is None


def _spoilt(tokens: Any) -> Any:
    random = np.random.default_rng(0)
    codes = [
        np.where(np.arange(len(book)) % 3 == 0, random.integers(0, size, len(book)), book)
        for book, size in zip(tokens.codes, tokens.codebook_sizes, strict=True)
    ]
    return replace(tokens, codes=tuple(codes))
