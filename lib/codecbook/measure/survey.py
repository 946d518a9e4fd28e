"""Rate and quality of a codec over clips: the table behind every comparison of codecs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import pandas as pd

from codecbook.audio import Clip, convert
from codecbook.codecs.base import Codec
from codecbook.errors import CodecbookError
from codecbook.measure.quality import evaluate
from codecbook.measure.statistics import bootstrap_interval
from codecbook.tokens.tokens import Tokens

DEFAULT_MEASURES = ("si_sdr_db", "stoi", "log_mel_distance_db", "stft_distance")


@dataclass(frozen=True)
class Survey:
    """What `survey_codec` found.

    Attributes:
        table: One row per clip and bandwidth, see `survey_codec`.
        tokens: Codes of each clip at the highest bandwidth that was asked for, by clip name.
        skipped: ``(clip name, reason)`` of the clips that the codec could not take.
    """

    table: pd.DataFrame
    tokens: dict[str, Tokens] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def survey_codec(
    codec: Codec,
    clips: Sequence[Clip],
    bandwidths_kbps: Sequence[float] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    progress: Callable[[str], None] = lambda message: None,
) -> Survey:
    """Encode every clip, decode it at every bandwidth, and measure.

    Each clip is encoded once, at the highest bandwidth: a residual quantiser's codes at a lower one are the
    leading codebooks of these. A clip is judged against itself after conversion to the codec's rate and channels,
    so that what the codec cannot represent at all (say, 24 kHz of bandwidth) is not held against it twice.

    Args:
        codec: One without a decoder gives one row per clip and bandwidth all the same, with its measures missing.
        clips: Of any rate and any number of channels that `codecbook.audio.convert` takes.
        bandwidths_kbps: Of those that the codec offers; None takes all.
        measures: As `codecbook.measure.quality.evaluate` takes them.
        progress: Called with a line per clip.

    Returns:
        The table has the columns ``codec``, ``weights``, ``clip``, ``domain``, ``duration_s``, ``bandwidth_kbps``
        (nominal), ``codebooks``, ``actual_kbps`` (raw codes over duration), one column per measure, ``notes``
        (undefined measures, a delay), ``encode_rtf`` (all codebooks) and ``decode_rtf`` (processing time over
        duration, one call each, so only indicative).
    """
    offered = tuple(bandwidths_kbps or codec.bandwidths_kbps)
    highest = max(offered)
    rows, kept, skipped = [], {}, []
    for number, original in enumerate(clips, start=1):
        progress(f"{codec.name}: {number}/{len(clips)} {original.name}")
        try:
            reference = convert(original, codec.sample_rate_hz, codec.channels)
            start = perf_counter()
            tokens = codec.encode(reference, highest)
        except CodecbookError as error:
            skipped.append((original.name, str(error)))
            continue
        encode_rtf = (perf_counter() - start) / reference.duration_s
        kept[original.name] = tokens
        for bandwidth_kbps in offered:
            leading = tokens.leading(codec.num_codebooks_at(bandwidth_kbps))
            rows.append(
                {
                    "codec": codec.name,
                    "weights": codec.weights.kind,
                    "clip": original.name,
                    "domain": original.domain,
                    "duration_s": reference.duration_s,
                    "bandwidth_kbps": bandwidth_kbps,
                    "codebooks": leading.num_codebooks,
                    "actual_kbps": leading.bits / reference.duration_s / 1000,
                    "encode_rtf": encode_rtf,
                    **_decode_and_measure(codec, leading, reference, measures),
                }
            )
    return Survey(pd.DataFrame(rows), kept, skipped)


def quality_by_codebooks(
    codec: Codec,
    clips: Sequence[Clip],
    counts: Sequence[int],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> pd.DataFrame:
    """Decode each clip from its first codebook, its first two, and so on, and measure.

    Args:
        codec: With a decoder.
        clips: Of any rate and any number of channels that `codecbook.audio.convert` takes.
        counts: How many leading codebooks to decode from, such as ``(1, 2, 4, 8)``.
        measures: As `codecbook.measure.quality.evaluate` takes them.

    Returns:
        One row per clip and count: ``codec``, ``weights``, ``clip``, ``domain``, ``codebooks``, one column per
        measure, ``notes``, ``decode_rtf``.
    """
    rows = []
    for original in clips:
        reference = convert(original, codec.sample_rate_hz, codec.channels)
        tokens = codec.encode(reference)
        for count in counts:
            rows.append(
                {
                    "codec": codec.name,
                    "weights": codec.weights.kind,
                    "clip": original.name,
                    "domain": original.domain,
                    "codebooks": count,
                    **_decode_and_measure(codec, tokens.leading(count), reference, measures),
                }
            )
    return pd.DataFrame(rows)


def _decode_and_measure(codec: Codec, tokens: Tokens, reference: Clip, measures: Sequence[str]) -> dict:
    """Return the columns that a row owes to decoding; missing ones for a tokenizer that cannot decode."""
    if not codec.decodes:
        return {
            **dict.fromkeys(measures, np.nan),
            "notes": "a tokenizer without a decoder",
            "decode_rtf": np.nan,
        }
    start = perf_counter()
    estimate = codec.decode(tokens)
    decode_rtf = (perf_counter() - start) / reference.duration_s
    quality = evaluate(reference, estimate, measures=measures)
    values = {name: getattr(quality, name) for name in measures}
    return {**values, "notes": "; ".join(quality.notes), "decode_rtf": decode_rtf}


def summarise(
    table: pd.DataFrame,
    measures: Sequence[str] = DEFAULT_MEASURES,
    by: Sequence[str] = ("codec", "bandwidth_kbps", "domain"),
    seed: int = 0,
) -> pd.DataFrame:
    """Average measures over the clips of each group, with bootstrap intervals.

    Args:
        table: Of one or more surveys, one row per clip and bandwidth.
        measures: Columns to average.
        by: Columns that make up a group.
        seed: Seed of the bootstrap.

    Returns:
        One row per group: the columns `by`, ``clips``, and for each measure its mean under its own name and the ends
        of its 95 % interval under ``<measure>_low`` and ``<measure>_high`` (NaN where a group has one clip, or where
        the measure is undefined for it).
    """
    rows = []
    for _, group in table.groupby(list(by), sort=False):
        row: dict = {name: group[name].iloc[0] for name in by}
        row["clips"] = group["clip"].nunique()
        for measure in measures:
            # a perfect or a wholly wrong copy has no finite SI-SDR; it cannot enter a mean
            values = group[measure].astype(float).replace([np.inf, -np.inf], np.nan)
            interval = bootstrap_interval(values.to_numpy(), seed=seed)
            row |= {measure: interval.mean, f"{measure}_low": interval.low, f"{measure}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)
