"""What protection of a stream costs, and what it is worth: framing, parity across segments, the inner code.

Damage here hits a whole stream at random, seeded; a segment counts as exact if all of its codes come out right.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from codecbook.coding.stream import encode_tokens
from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.inner_code import add_inner_code
from codecbook.coding.stream.reader import StreamReader, inspect
from codecbook.errors import CorruptInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure.statistics import pooled_share
from codecbook.probes.corruption.channels import gilbert_elliott, independent
from codecbook.tokens import Tokens
from codecbook.tokens.bits import packed_bytes

Damager = Callable[[bytes, int], bytes]
"""Takes a stream and a seed."""


def framing(tokens: Tokens, segment_lengths_s: tuple[float, ...], models: Mapping[str, ExactLM | None]) -> pd.DataFrame:
    """Return what a stream adds to its codes, one row per coder and length of segments.

    Columns: ``coder``, ``segment_s``, ``segments``, ``codes_bytes``, ``stream_bytes``, ``framing_bytes``,
    ``framing_percent`` (of the codes as they are coded), ``percent_of_raw`` (of the codes at fixed width).
    """
    rows = []
    for name, model in models.items():
        for segment_s in segment_lengths_s:
            report = inspect(encode_tokens(tokens, model, segment_s=segment_s))
            raw = packed_bytes(report.header.columns, report.header.num_rows)
            added = report.num_bytes - report.payload_bytes
            rows.append(
                {"coder": name, "segment_s": segment_s, "segments": len(report.segments),
                 "codes_bytes": report.payload_bytes, "stream_bytes": report.num_bytes, "framing_bytes": added,
                 "framing_percent": 100 * added / report.payload_bytes, "percent_of_raw": 100 * added / raw}
            )  # fmt: skip
    return pd.DataFrame(rows)


def protected(tokens: Tokens, ways: Mapping[str, Parity | int | None], segment_s: float) -> dict[str, bytes]:
    """Return a stream for each way to protect it: parity, so many bytes of an inner code, or None for neither."""
    streams = {}
    for name, way in ways.items():
        parity = way if isinstance(way, Parity) else None
        data = encode_tokens(tokens, segment_s=segment_s, parity=parity)
        streams[name] = add_inner_code(data, way) if isinstance(way, int) else data
    return streams


def lose_one(data: bytes, seed: int) -> bytes:
    """Take out one segment, or one of parity: the next one with the next seed."""
    places = _places(data)
    start, end = places[seed % len(places)]
    return data[:start] + data[end:]


def lose_segments(share: float, burst: float = 1.0) -> Damager:
    """Take out segments, of parity too: each with this probability, or so many of all in bursts of a mean length."""

    def damage(data: bytes, seed: int) -> bytes:
        places = _places(data)
        lost = independent(len(places), share, seed) if burst == 1 else gilbert_elliott(len(places), share, burst, seed)
        kept, place = [], 0
        for (start, end), is_lost in zip(places, lost, strict=True):
            kept.append(data[place:start])
            place = end if is_lost else start
        return b"".join([*kept, data[place:]])

    return damage


def _places(data: bytes) -> list[tuple[int, int]]:
    report = inspect(data)
    return sorted([(start, end) for start, end, _ in report.segments] + list(report.parity_segments))


def change_bytes(rate: float) -> Damager:
    """Replace each byte by another one with this probability."""

    def damage(data: bytes, seed: int) -> bytes:
        random, found = np.random.default_rng(seed), np.frombuffer(data, dtype=np.uint8)
        other = found + random.integers(1, 256, len(found), dtype=np.uint8)
        return np.where(random.random(len(found)) < rate, other, found).tobytes()

    return damage


def survival(
    tokens: Tokens, streams: Mapping[str, bytes], damages: Mapping[str, Damager], *, num_segments: int, seed: int = 0
) -> pd.DataFrame:
    """Damage streams of the same tokens until so many segments were at stake, and count those that come out exact.

    Returns one row per stream and kind of damage: ``protection``, ``overhead_percent`` (bytes over those of the first
    stream), ``damage``, ``trials``, ``segments``, ``exact_percent`` with ``_low`` and ``_high`` (over streams, whose
    segments share their fate; bounds on segments where all or none are), ``refused`` (streams of which nothing
    could be read), and ``undetected`` (codes that are wrong and not reported).
    """
    rows = []
    plain = len(next(iter(streams.values())))
    for name, stream in streams.items():
        count = len(inspect(stream).segments)
        trials = -(-num_segments // count)
        for kind, damage in damages.items():
            found = [_outcome(tokens, damage(stream, 1000 * seed + trial)) for trial in range(trials)]
            exact = np.array([0 if lost is None else count - lost for lost, _ in found])
            share = pooled_share(exact, np.full(trials, count), trials * count)
            rows.append(
                {"protection": name, "overhead_percent": 100 * (len(stream) / plain - 1), "damage": kind,
                 "trials": trials, "segments": trials * count, **share.columns("exact_percent", 100),
                 "refused": sum(lost is None for lost, _ in found), "undetected": sum(wrong for _, wrong in found)}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _outcome(tokens: Tokens, data: bytes) -> tuple[int | None, int]:
    """Return how many segments are lost, None for all, and how many codes are wrong without being reported."""
    try:
        with StreamReader(data) as reader:
            read, layout = reader.read(), reader.header.layout
    except CorruptInput:
        return None, 0
    wanted, rows = layout.to_rows(tokens), layout.to_rows(read.tokens)
    wrong = int((rows != wanted[: len(rows)])[~read.lost].sum())  # what is missing at the end is reported
    return sum(part.num_segments for part in read.damage), wrong
