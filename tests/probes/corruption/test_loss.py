"""Senders through channels: the same packets are lost, every byte is counted, and more loss measures worse."""

import numpy as np
import pandas as pd
import pytest

from codecbook.audio import Clip, convert
from codecbook.clips import catalogue, load_entry
from codecbook.codecs import load_codec
from codecbook.coding.packets import HEADER_BYTES, PacketFormat
from codecbook.errors import MissingInput
from codecbook.probes.corruption import channels, loss
from codecbook.probes.corruption.loss import Sent
from codecbook.probes.corruption.opus import Opus


@pytest.fixture(scope="module")
def clip() -> Clip:
    whole = load_entry(catalogue()[0])
    return Clip(whole.samples[:, : 2 * whole.sample_rate_hz], whole.sample_rate_hz, name="a clip")


def stand_in(packets: int, heard: list[np.ndarray], is_silent: bool):
    """Return a sender that is perfect, or silent where packets are lost."""

    def send(clip: Clip) -> Sent:
        sound = convert(clip, 24000, 1)

        def hear(lost: np.ndarray) -> Clip:
            heard.append(lost)
            kept = np.repeat(~lost, -(-sound.num_samples // packets))[: sound.num_samples]
            return Clip(sound.samples * (kept if is_silent else 1.0), 24000)

        return Sent((30,) * packets, 0.04, 12.5, hear)

    return send


def test_all_senders_lose_the_same_packets(clip: Clip):
    short, long = [], []
    senders = {"perfect": stand_in(50, short, False), "silent": stand_in(53, long, True)}
    losses = {
        "10 %": lambda count, seed: channels.independent(count, 0.1, seed),
        "bursts": lambda count, seed: channels.gilbert_elliott(count, 0.1, 2.0, seed),
    }
    table = loss.quality_under_loss([clip, clip], senders, losses, seed=3)
    assert len(table) == 2 * 2 * 2
    for a, b in zip(short, long, strict=True):
        assert np.array_equal(a, b[:50])
    assert not np.array_equal(short[1], short[4]), "each clip has a pattern of its own"
    perfect = table[table.sender == "perfect"]
    assert np.allclose(perfect[["stoi", "stoi_original"]], 1.0)
    assert np.allclose(perfect[["log_mel_db", "log_mel_original_db"]], 0.0)
    assert table[table.sender == "silent"].stoi.mean() < 0.98
    assert np.allclose(table.bitrate_kbps, 30 * 8 / 40)


def test_intervals_are_over_clips():
    values = pd.DataFrame({"sender": "a", "channel": "b", "clip": list("xyz"), "bitrate_kbps": [1.0, 2.0, 3.0],
                           "overhead_percent": 5.0, "lost_percent": 10.0,
                           **{name: [0.1, 0.2, 0.3] for name in loss.MEASURES}})  # fmt: skip
    (row,) = loss.intervals(values).to_dict("records")
    assert row["clips"] == 3
    assert row["bitrate_kbps"] == 2.0
    assert row["stoi"] == pytest.approx(0.2)
    assert row["stoi_low"] < 0.2 < row["stoi_high"]


def test_packets_of_a_codec(clip: Clip):
    codec = load_codec("encodec_24khz")
    known = PacketFormat(codec.token_format(4), parity_codebooks=1)
    plain = loss.packet_sender(codec, PacketFormat(codec.token_format(4), parity_codebooks=0))(clip)
    sent = loss.packet_sender(codec, known)(clip)
    assert set(plain.packet_bytes) == {HEADER_BYTES + 15}  # 3 frames of 4 codebooks of 10 bits
    assert sum(sent.packet_bytes) == sum(plain.packet_bytes) + 4 * (len(sent.packet_bytes) - 3)
    assert sent.overhead_percent > plain.overhead_percent > 100 * HEADER_BYTES / 15 - 1
    none = np.zeros(len(sent.packet_bytes), dtype=bool)
    whole = sent.hear(none)
    assert np.array_equal(whole.samples, plain.hear(none).samples)
    lost = none.copy()
    lost[[10, 20, 30]] = True
    errors = [np.abs(s.hear(lost).samples - whole.samples).mean() for s in (sent, plain)]
    assert 0 < errors[0] < errors[1]


def test_opus_keeps_to_a_bitrate(clip: Clip):
    try:
        opus = Opus()
    except MissingInput as error:
        pytest.skip(str(error))
    sent = loss.opus_sender(opus, 12.0)(clip)
    assert sent.bitrate_kbps == pytest.approx(12.0, rel=0.05)
    heard = sent.hear(np.zeros(len(sent.packet_bytes), dtype=bool))
    assert heard.num_samples == convert(clip, 24000, 1).num_samples
