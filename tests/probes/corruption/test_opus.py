"""Opus by whatever libopus this machine has; what needs a newer one, or another build, skips."""

import os

import numpy as np
import pytest

from codecbook.audio import Clip, convert
from codecbook.clips import catalogue, load_entry
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.measure.quality import stoi
from codecbook.probes.corruption.opus import Opus

RATE_HZ = 24000


@pytest.fixture(scope="module")
def opus() -> Opus:
    try:
        return Opus(os.environ.get("CODECBOOK_OPUS", ""))  # such as one that tools/build_opus.py has made
    except MissingInput as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clip() -> Clip:
    whole = convert(load_entry(catalogue()[0]), RATE_HZ, 1)
    return Clip(whole.samples[:, : 2 * RATE_HZ + 7], RATE_HZ)


@pytest.mark.parametrize("packet_ms", [20, 40])
def test_a_clip_comes_back_in_time_and_length(opus: Opus, clip: Clip, packet_ms: int):
    coded = opus.encode(clip, 24.0, packet_ms)
    assert 8 * sum(map(len, coded.packets)) / (packet_ms * len(coded.packets)) == pytest.approx(24.0, rel=0.25)
    decoded = opus.decode(coded, np.zeros(len(coded.packets), dtype=bool))
    assert decoded.samples.shape == clip.samples.shape
    assert stoi(clip, decoded) > 0.95


def test_loss_is_heard_where_it_is(opus: Opus, clip: Clip):
    coded = opus.encode(clip, 24.0, 20)
    lost = np.zeros(len(coded.packets), dtype=bool)
    whole = opus.decode(coded, lost).samples[0]
    lost[50] = True
    heard = opus.decode(coded, lost).samples[0]
    first = 50 * coded.frame_samples - coded.delay_samples
    assert np.array_equal(whole[:first], heard[:first])
    assert not np.array_equal(whole[first:], heard[first:])


def test_dred_mends(opus: Opus, clip: Clip):
    if not opus.dred:
        pytest.skip(f"{opus.version} was built without DRED; CODECBOOK_OPUS may name another")
    coded = opus.encode(clip, 32.0, 20, loss_percent=20, dred_ms=200)
    lost = np.arange(len(coded.packets)) % 8 < 3  # three after each other
    whole = opus.decode(coded, np.zeros_like(lost))
    assert stoi(whole, opus.decode(coded, lost, dred=True)) > stoi(whole, opus.decode(coded, lost)) + 0.05


def test_deep_plc_is_another_sound(opus: Opus, clip: Clip):
    if not opus.deep_plc:
        pytest.skip(f"{opus.version} conceals without a network")
    coded = opus.encode(clip, 24.0, 20)
    lost = np.arange(len(coded.packets)) % 10 == 5
    plain, deep = (opus.decode(coded, lost, complexity=c).samples for c in (4, 5))
    assert not np.array_equal(plain, deep)


def test_what_is_missing_or_wrong_is_said(opus: Opus, clip: Clip, tmp_path):
    with pytest.raises(MissingInput, match="gone"):
        Opus(tmp_path / "gone.so")
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(UnsupportedInput, match="cannot be used"):
        Opus(tmp_path / "text.so")
    with pytest.raises(UnsupportedInput, match="refuses rate"):
        opus.encode(Clip(clip.samples, 22050), 24.0)
    with pytest.raises(UnsupportedInput, match="setting"):
        opus.encode(clip, 0)
    if not opus.dred:
        with pytest.raises(UnsupportedInput, match="without DRED"):
            opus.encode(clip, 24.0, dred_ms=100)


def test_a_packet_that_is_no_opus_is_refused(opus: Opus, clip: Clip):
    coded = opus.encode(clip, 24.0, 20)
    packets = (b"\xff\xff", *coded.packets[1:])  # 63 frames, of which it holds none
    with pytest.raises(CorruptInput, match="not one of Opus"):
        opus.decode(
            type(coded)(packets, 20, RATE_HZ, coded.num_samples, coded.delay_samples), np.zeros(200, dtype=bool)
        )
