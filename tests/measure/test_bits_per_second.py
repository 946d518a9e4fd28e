import dataclasses
import math

import pytest

from codecbook.errors import UnsupportedInput
from codecbook.measure.rates.bits_per_second import apart, container_bits, stream_rate


def test_quantities_of_a_case_computed_by_hand() -> None:
    # 2 clips, 100 tokens of 1024 kinds in 4 s, 600 bits, read two at a time
    rate = stream_rate(
        [400, 200], [60, 40], [2.5, 1.5], 1024, 1000, rows_seen=70, tokens_per_row=2, transcript_bytes=50
    )
    assert dataclasses.asdict(rate) == pytest.approx(
        {
            "bits_per_token": 6.0,
            "tokens_per_s": 25.0,
            "vocabulary_size": 1024,
            "bits_per_s": 150.0,
            "bits_per_s_low": rate.bits_per_s_low,
            "bits_per_s_high": rate.bits_per_s_high,
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
    assert rate.bits_per_s_low <= 150 <= rate.bits_per_s_high


def test_without_transcripts_there_are_no_bits_per_byte() -> None:
    assert math.isnan(stream_rate([10, 12], [4, 4], [1, 1], 16, 10, 1).bits_per_byte)


def test_one_clip_has_no_interval() -> None:
    rate = stream_rate([10], [4], [1], 16, 10, 1)
    assert math.isnan(rate.bits_per_s_low)
    assert rate.bits_per_s == 10


@pytest.mark.parametrize("bits", [[], [0.0, 0.0], [1.0]])
def test_clips_that_do_not_match_are_refused(bits: list[float]) -> None:
    with pytest.raises(UnsupportedInput):
        stream_rate(bits, [1, 1], [1.0, 1.0], 16, 10, 1)


@pytest.mark.parametrize(("size", "width"), [(2, 8), (256, 8), (257, 16), (65_536, 16), (65_537, 32)])
def test_container(size: int, width: int) -> None:
    assert container_bits(size) == width


def test_kinds_of_streams_are_told_apart_by_their_intervals() -> None:
    few, more, most = (
        stream_rate([b, b + 2], [10, 10], [1.0, 1.0], 64, 1, 1) for b in (10, 20, 40)
    )  # 10 to 12, 20 to 22, 40 to 42 bits/s
    assert apart([few, more], [most]) == (True, "at most 22 and at least 40 bits/s, 2 clips")
    assert apart([few, most], [more])[0] is False
    assert apart([few], [dataclasses.replace(more, bits_per_s_low=11.5)])[0] is False
    alone = stream_rate([10], [10], [1.0], 64, 1, 1)
    assert apart([alone], [more]) == (None, "10 and 21 bits/s; one clip has no interval")
