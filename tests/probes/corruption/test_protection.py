"""What protection is worth is counted right, and a reader that passes damage on is seen."""

from dataclasses import replace

import numpy as np
import pytest

from codecbook.coding.stream import StreamReader
from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.reader import inspect
from codecbook.probes.corruption import protection
from codecbook.tokens import Tokens


def tokens_of(seconds):
    codes = tuple(np.random.default_rng(k).integers(0, 1024, round(75 * seconds)) for k in range(8))
    return Tokens(codes, (1024,) * 8, (75.0,) * 8, sample_rate_hz=24_000, channels=1, codec="encodec_24khz")


def test_framing_is_at_most_2_percent_at_2_s_and_150_bytes_around_a_short_clip():
    at_2_s = protection.framing(tokens_of(60), (2.0,), {"raw": None}).iloc[0]
    assert at_2_s.segments == 30
    assert at_2_s.framing_bytes + at_2_s.codes_bytes == at_2_s.stream_bytes
    assert at_2_s.framing_percent <= 2
    short = protection.framing(tokens_of(6.7), (10.0,), {"raw": None}).iloc[0]
    assert short.framing_bytes <= 150


def test_one_lost_segment_of_ten_costs_nothing_and_two_cost_both():
    tokens = tokens_of(40)
    streams = protection.protected(tokens, {"none": None, "1 of 10": Parity(10, 1)}, 2.0)

    def lose(count):
        def damage(data, seed):
            places = [(start, end) for start, end, _ in inspect(data).segments]
            first = 10 * (seed % 2)
            for start, end in reversed([places[first], places[first + 7]][:count]):
                data = data[:start] + data[end:]
            return data

        return damage

    table = protection.survival(tokens, streams, {"one": lose(1), "two": lose(2)}, num_segments=40)
    exact = {(row.protection, row.damage): row.exact_percent for row in table.itertuples()}
    assert exact == {("none", "one"): 95, ("none", "two"): 90, ("1 of 10", "one"): 100, ("1 of 10", "two"): 90}
    assert table.undetected.sum() == 0
    overhead = table.set_index("protection").overhead_percent["1 of 10"].iloc[0]
    assert 10 < overhead < 12.5


def test_each_segment_is_lost_in_turn():
    tokens = tokens_of(10)
    streams = protection.protected(tokens, {"none": None, "1 of 10": Parity(10, 1)}, 1.0)
    table = protection.survival(tokens, streams, {"one": protection.lose_one}, num_segments=110)
    assert table.exact_percent.round().tolist() == [90, 100]


def test_bytes_are_changed_at_the_rate_that_is_asked_for():
    data = bytes(100_000)
    changed = np.frombuffer(protection.change_bytes(0.01)(data, 1), dtype=np.uint8)
    assert 900 < np.count_nonzero(changed) < 1100
    assert protection.change_bytes(0.01)(data, 1) == changed.tobytes()
    assert protection.change_bytes(0.0)(data, 1) == data


@pytest.mark.parametrize("burst", [1.0, 3.0])
def test_segments_are_lost_at_the_rate_that_is_asked_for(burst):
    stream = protection.protected(tokens_of(60), {"": Parity(10, 1)}, 0.2)[""]
    lost = 0
    for seed in range(10):
        report = inspect(protection.lose_segments(0.1, burst)(stream, seed))
        lost += 330 - len(report.segments) - len(report.parity_segments)
    assert 0.06 < lost / 3300 < 0.14


def test_an_inner_code_corrects_what_destroys_a_stream_without():
    tokens = tokens_of(20)
    streams = protection.protected(tokens, {"none": None, "22 of 255": 22}, 1.0)
    table = protection.survival(tokens, streams, {"1 %": protection.change_bytes(0.01)}, num_segments=60)
    none, coded = table.set_index("protection").exact_percent[["none", "22 of 255"]]
    assert none < 5
    assert coded == 100
    assert table.overhead_percent.max() < 11


def test_a_reader_that_hides_damage_is_seen(monkeypatch):
    tokens = tokens_of(10)
    streams = protection.protected(tokens, {"none": None}, 1.0)
    real = StreamReader.read
    monkeypatch.setattr(
        StreamReader, "read", lambda self: replace(real(self), lost=np.zeros(len(real(self).lost), dtype=bool))
    )
    damage = {"1e-3": protection.change_bytes(1e-3)}
    assert protection.survival(tokens, streams, damage, num_segments=20).undetected.sum() > 0
