import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.rates.bits_per_second import apart, rate_of


def rate(bits: list[float], tokens: list[int], size: int = 64, texts: dict[str, str] | None = None, **more: Any):
    """Return the rate of clips of a second each; bits and tokens are those of a clip at its only level."""
    stream = SimpleNamespace(
        vocabulary_size=size, corpus=SimpleNamespace(codebook_sizes=(size,) * more.pop("columns", 1))
    )
    given: Any = SimpleNamespace(
        stream=stream, clips=tuple(map(str, range(len(bits)))), level_bits=np.array(bits, dtype=float)[:, None],
        level_tokens=np.array(tokens)[:, None],
        **{"durations_s": np.ones(len(bits)), "trunk_parameters": 1, "tokens_seen": 1} | more,
    )  # fmt: skip
    return rate_of(given, texts)


def test_quantities_of_a_case_computed_by_hand() -> None:
    # 2 clips, 100 tokens of 1024 kinds in 4 s, 600 bits, read two at a time; 70 rows seen in training
    found = rate(
        [400, 200], [60, 40], 1024, {"0": "x" * 30, "1": "y" * 20}, columns=2, durations_s=np.array([2.5, 1.5]),
        trunk_parameters=1000, tokens_seen=140,
    )  # fmt: skip
    assert found == pytest.approx(
        {
            "bits_per_token": 6.0,
            "tokens_per_s": 25.0,
            "vocabulary_size": 1024,
            "bits_per_s": 150.0,
            "bits_per_s_low": found["bits_per_s_low"],
            "bits_per_s_high": found["bits_per_s_high"],
            "capacity_bits_per_s": 250.0,
            "utilisation": 0.6,
            "bits_per_byte": 12.0,
            "container_bits": 16,
            "information_per_storage": 0.375,
            "trunk_parameters": 1000,
            "inference_flops_per_bit": 2000 / 12,
            "training_flops": 420_000.0,
            "duration_s": 4.0,
            "clips": 2,
        }
    )
    assert found["bits_per_s_low"] <= 150 <= found["bits_per_s_high"]


def test_without_transcripts_there_are_no_bits_per_byte() -> None:
    assert math.isnan(rate([10, 12], [4, 4])["bits_per_byte"])


def test_one_clip_has_no_interval() -> None:
    found = rate([10], [4])
    assert math.isnan(found["bits_per_s_low"])
    assert found["bits_per_s"] == 10


@pytest.mark.parametrize("bits", [[], [0.0, 0.0]])
def test_clips_without_information_are_refused(bits: list[float]) -> None:
    with pytest.raises(UnsupportedInput):
        rate(bits, [1] * len(bits))


@pytest.mark.parametrize(("size", "width"), [(2, 8), (256, 8), (257, 16), (65_536, 16), (65_537, 32)])
def test_container(size: int, width: int) -> None:
    assert rate([1], [1], size)["container_bits"] == width


def test_kinds_of_streams_are_told_apart_by_their_intervals() -> None:
    few, more, most = (rate([b, b + 2] * 3, [10] * 6) for b in (10, 20, 40))  # 10 to 12, 20 to 22, 40 to 42 bits/s
    assert apart([few, more], [most]) == (True, "at most 22 and at least 40 bits/s, 6 clips")
    assert apart([few, most], [more])[0] is False
    assert apart([few], [more | {"bits_per_s_low": 11.5}])[0] is False
    assert apart([rate([10], [10])], [more]) == (None, "10 and 21 bits/s; one clip has no interval")
