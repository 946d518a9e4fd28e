"""Quality against packet loss, for this project's packets and for Opus, clip by clip through the same channel.

A decoder's output with losses is held against two references: its own output without any, which tells what the loss
costs, and the clip that was sent, which tells what a listener gets. Bitrates are all bytes of the packets over the time
that they cover; the headers of IP, UDP and RTP below them, 40 bytes a packet, are the same for all and left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from codecbook.audio import Clip, convert
from codecbook.codecs import Codec
from codecbook.coding import packets
from codecbook.coding.conceal import conceal
from codecbook.coding.packets import PacketFormat
from codecbook.measure.quality import log_mel_distance_db, stoi
from codecbook.measure.statistics import mean_columns
from codecbook.probes.corruption.opus import Opus

MEASURES = ("stoi", "log_mel_db", "stoi_original", "log_mel_original_db")
OPUS_RATE_HZ = 24000
_OPUS_TRIES = 5
_MOST_PACKETS_PER_S = 100


@dataclass(frozen=True)
class Sent:
    """A clip as one sender sends it."""

    packet_bytes: tuple[int, ...]
    packet_s: float
    overhead_percent: float  # of all bytes above the raw codes; NaN for Opus
    hear: Callable[[np.ndarray], Clip]  # what is heard where packets bool [P] are lost

    @property
    def bitrate_kbps(self) -> float:
        """All bytes of the packets over the time that they cover."""
        return 8e-3 * sum(self.packet_bytes) / (self.packet_s * len(self.packet_bytes))


Sender = Callable[[Clip], Sent]
"""Takes a clip of any rate."""
Channel = Callable[[int, int], np.ndarray]
"""Takes a number of packets and a seed, and returns which are lost; see `codecbook.probes.corruption.channels`."""


def packet_sender(codec: Codec, known: PacketFormat, method: str = "interpolate") -> Sender:
    """Return what sends a clip's codes as packets, and conceals (`codecbook.coding.conceal`) what stays lost."""

    def send(clip: Clip) -> Sent:
        tokens = codec.encode(
            convert(clip, codec.sample_rate_hz, codec.channels), num_codebooks=known.tokens.num_codebooks
        )
        num_frames, raw = len(tokens.codes[0]), replace(known, lm=None)
        sizes = tuple(map(len, packets.send(tokens, known)))
        # what arrives is the same without the language model, whose decoding takes most of the time
        sent = packets.send(tokens, raw)

        def hear(lost: np.ndarray) -> Clip:
            got = packets.receive([sent[i] for i in np.flatnonzero(~lost)], raw, num_frames)
            return conceal(codec, replace(tokens, codes=got.tokens.codes), got.lost, method)

        return Sent(sizes, known.packet_s, 100 * (8 * sum(sizes) / tokens.bits - 1), hear)

    return send


def opus_sender(opus: Opus, bitrate_kbps: float, *, dred_ms: int = 0, loss_percent: int = 10) -> Sender:
    """Return what sends a clip by Opus in packets of 40 ms, so that all its bytes come to a bitrate; see `Opus`.

    The encoder misses the rate that it is told by some percent, so it is told another until the bytes are right to 1 %.
    """

    def send(clip: Clip) -> Sent:
        mono, aim = convert(clip, OPUS_RATE_HZ, 1), bitrate_kbps
        for _ in range(_OPUS_TRIES):
            coded = opus.encode(mono, aim, loss_percent=loss_percent if dred_ms else 0, dred_ms=dred_ms)
            hear = partial(opus.decode, coded, dred=dred_ms > 0)
            sent = Sent(tuple(map(len, coded.packets)), coded.packet_ms / 1000, math.nan, hear)
            if abs(sent.bitrate_kbps / bitrate_kbps - 1) < 0.01:
                break
            aim *= bitrate_kbps / sent.bitrate_kbps
        return sent

    return send


def quality_under_loss(
    clips: Sequence[Clip], senders: Mapping[str, Sender], channels: Mapping[str, Channel], seed: int = 0
) -> pd.DataFrame:
    """Send every clip by every sender through every channel; of one clip, all senders lose the same packets.

    Returns:
        A row per sender, channel and clip: ``sender``, ``channel``, ``clip``, ``bitrate_kbps``, ``overhead_percent``,
        ``lost_percent`` (of its packets), and `MEASURES`, those with ``original`` against the clip, the others against
        the sender's own decode without loss.
    """
    rows = []
    for number, clip in enumerate(clips):
        print(f"clip {number + 1}/{len(clips)}: {clip.name}")
        length = _MOST_PACKETS_PER_S * (math.ceil(clip.duration_s) + 1)  # of every pattern, so that all lose the same
        for name, sender in senders.items():
            sent = sender(clip)
            P = len(sent.packet_bytes)
            undamaged = sent.hear(np.zeros(P, dtype=bool))
            original = convert(clip, undamaged.sample_rate_hz, undamaged.num_channels)
            for channel, losses in channels.items():
                lost = losses(length, seed + number)[:P]
                heard = sent.hear(lost)
                values = [m(ref, heard) for ref in (undamaged, original) for m in (stoi, log_mel_distance_db)]
                rows.append(
                    {"sender": name, "channel": channel, "clip": clip.name, "bitrate_kbps": sent.bitrate_kbps,
                     "overhead_percent": sent.overhead_percent, "lost_percent": 100 * float(lost.mean())}
                    | dict(zip(MEASURES, values, strict=True))
                )  # fmt: skip
    return pd.DataFrame(rows)


def intervals(table: pd.DataFrame, by: Sequence[str] = ("sender", "channel")) -> pd.DataFrame:
    """Return means over clips of `quality_under_loss`, those of `MEASURES` with intervals (``_low``, ``_high``)."""
    rows = []
    for _, group in table.groupby(list(by), sort=False):
        shares = group[["bitrate_kbps", "overhead_percent", "lost_percent"]].mean()
        rows.append({**group.iloc[0][list(by)], "clips": len(group), **shares, **mean_columns(group, MEASURES)})
    return pd.DataFrame(rows)
