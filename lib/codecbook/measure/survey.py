"""Rate and quality of a codec over clips: the table behind every comparison of codecs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pandas as pd

from codecbook.audio import Clip, convert, loudness_lufs, rms
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.measure.quality import evaluate
from codecbook.measure.statistics import Interval, mean_interval, median_interval
from codecbook.tokens.tokens import Tokens

DEFAULT_MEASURES = ("si_sdr_db", "stoi", "log_mel_8khz_distance_db", "log_mel_distance_db")
SPEECH_MEASURES = ("stoi", "pesq_wideband")
_MOST_BANDWIDTHS = 6  # of a codec that offers one for each of its codebooks; Mimi has 32
"""Measures that model how well speech is understood; of music they are numbers without a meaning."""


@dataclass(frozen=True)
class Survey:
    """What `survey_codec` found."""

    table: pd.DataFrame  # one row per clip and number of codebooks
    tokens: dict[str, Tokens]  # by clip, codes at the highest bandwidth
    skipped: list[tuple[str, str]]  # (clip, reason) of those that could not be coded or measured


def load_listed(listed: Iterable[str], weights: str = "bundled", device: str = "cpu") -> dict[str, Codec]:
    """Load the codecs of a list such as ``["encodec_24khz", "snac_24khz=pretrained", "snac_24khz=/my/model"]``.

    An entry without weights of its own gets `weights`. One whose name comes again is called ``name_2`` and so on.

    Raises:
        CodecbookError: No codec is listed, or as `codecbook.codecs.load_codec`.
    """
    loaded: dict[str, Codec] = {}
    for entry in listed:
        name, _, own = (part.strip() for part in entry.partition("="))
        count = sum(codec.name == name for codec in loaded.values())
        loaded[f"{name}_{count + 1}" if count else name] = load_codec(name, own or weights, device)
    if not loaded:
        raise UnsupportedInput("The list of codecs is empty; name at least one, such as 'encodec_24khz'.")
    return loaded


def clip_table(clips: Sequence[Clip]) -> pd.DataFrame:
    """Return one row per clip: ``clip``, ``domain``, ``duration_s``, ``channels``, ``sample_rate_hz``,
    ``loudness_lufs`` (NaN where it is not defined, and ``note`` says why) and ``note``.
    """
    rows = []
    for clip in clips:
        loudness, notes = float("nan"), [clip.note] if clip.note else []
        try:
            loudness = loudness_lufs(clip)
        except UnsupportedInput as error:
            notes.append(str(error))
        rows.append(
            {"clip": clip.name, "domain": clip.domain, "duration_s": clip.duration_s, "channels": clip.num_channels,
             "sample_rate_hz": clip.sample_rate_hz, "loudness_lufs": loudness, "note": "; ".join(notes)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def converted(original: Clip, sample_rate_hz: int, channels: int) -> Clip:
    """Return a clip at a codec's rate and channels; UnsupportedInput where not a thousandth of its level is left."""
    reference = convert(original, sample_rate_hz, channels)
    if rms(reference) < 1e-3 * rms(original):
        raise UnsupportedInput(
            f"{original.name} leaves next to nothing at {sample_rate_hz} Hz and {channels} channel(s): its "
            f"{original.num_channels} channel(s) cancel each other out, or lie above {sample_rate_hz / 2000:g} kHz; "
            "choose one channel, or another recording."
        )
    return reference


def convert_all(clips: Sequence[Clip], sample_rate_hz: int, channels: int) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Return the clips at a codec's rate and channels, and ``(clip name, reason)`` of those that cannot be so."""
    usable, skipped = [], []
    for clip in clips:
        try:
            usable.append(converted(clip, sample_rate_hz, channels))
        except CodecbookError as error:
            skipped.append((clip.name, str(error)))
    return usable, skipped


def survey_codec(
    codec: Codec,
    clips: Sequence[Clip],
    counts: Sequence[int] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    progress: Callable[[str], None] = lambda message: None,
) -> Survey:
    """Encode every clip, decode it from several numbers of codebooks, and measure.

    Each clip is encoded once, at the highest bandwidth: a residual quantiser's codes at a lower one are the
    leading codebooks of these. A clip is judged against itself after conversion to the codec's rate and channels,
    so that what the codec cannot represent at all (say, 24 kHz of bandwidth) is not held against it twice. A clip
    that cannot be coded or measured is left out as a whole, with the reason; `SPEECH_MEASURES` are not taken of music.

    Args:
        codec: One without a decoder gives its rows all the same, with their measures missing.
        clips: Of any rate and number of channels.
        counts: Numbers of leading codebooks; None takes those of the bandwidths that the codec offers, and of more than
            six the powers of two and all.
        measures: Of `codecbook.measure.quality.MEASURES`.
        progress: Called with a line before each step of each clip.

    Returns:
        The table has one row per clip and number of codebooks, with the columns ``codec``, ``weights``, ``clip``,
        ``domain``, ``duration_s``, ``bandwidth_kbps`` (nominal), ``codebooks``, ``actual_kbps`` (raw codes over
        duration), one column per measure, ``notes`` (undefined measures, a delay), ``encode_rtf`` (all codebooks) and
        ``decode_rtf`` (processing time over duration, one call each, so only indicative).
    """
    if counts is None:
        offered = {kbps: codec.num_codebooks_at(kbps) for kbps in codec.bandwidths_kbps}
        if len(offered) > _MOST_BANDWIDTHS:
            most = max(offered.values())
            offered = {kbps: count for kbps, count in offered.items() if count.bit_count() == 1 or count == most}
    else:
        offered = {codec.bitrate_kbps(count): count for count in counts}
    rows, kept, skipped = [], {}, []
    for number, original in enumerate(clips, start=1):
        progress(f"{codec.name}: {number}/{len(clips)} {original.name}")
        try:
            reference = converted(original, codec.sample_rate_hz, codec.channels)
            start = perf_counter()
            tokens = codec.encode(reference, max(codec.bandwidths_kbps))
            encode_rtf = (perf_counter() - start) / reference.duration_s
            of_clip = []
            for bandwidth_kbps, count in offered.items():
                progress(f"{codec.name}: {number}/{len(clips)} {original.name}, {bandwidth_kbps:.3g} kbps")
                leading = tokens.leading(count)
                of_clip.append(
                    {"codec": codec.name, "weights": codec.weights.kind, "clip": original.name,
                     "domain": original.domain, "duration_s": reference.duration_s, "bandwidth_kbps": bandwidth_kbps,
                     "codebooks": count, "actual_kbps": leading.bits / reference.duration_s / 1000,
                     "encode_rtf": encode_rtf, **_decode_and_measure(codec, leading, reference, measures)}
                )  # fmt: skip
        except CodecbookError as error:
            skipped.append((original.name, str(error)))
            continue
        kept[original.name] = tokens
        rows += of_clip
    return Survey(pd.DataFrame(rows), kept, skipped)


def _decode_and_measure(codec: Codec, tokens: Tokens, reference: Clip, measures: Sequence[str]) -> dict:
    """Return the columns that a row owes to decoding; missing ones for a tokenizer that cannot decode."""
    if not codec.decodes:
        return {**dict.fromkeys(measures, np.nan), "notes": "a tokenizer without a decoder", "decode_rtf": np.nan}
    start = perf_counter()
    estimate = codec.decode(tokens)
    decode_rtf = (perf_counter() - start) / reference.duration_s
    taken = [name for name in measures if reference.domain != "music" or name not in SPEECH_MEASURES]
    values, notes = evaluate(reference, estimate, taken)
    return {**dict.fromkeys(measures, np.nan), **values, "notes": "; ".join(notes), "decode_rtf": decode_rtf}


def beyond_nominal_bits(tokens: Tokens) -> float:
    """Return by how many bits a clip lies outside of what the rate of its codebooks allows; up to 0 where it does not.

    It costs at least that rate over its duration, and at most one partly filled frame of the slowest codebook more.
    With segments of a second, as EnCodec 48 kHz has them, that is a frame for each, and 1 % for their overlap.
    """
    bits_per_s = float(np.dot(tokens.frame_rates_hz, np.log2(tokens.codebook_sizes)))
    frame_s, overlap = max(1, len(tokens.segment_frames)) / min(tokens.frame_rates_hz), 0.01
    least = bits_per_s * tokens.duration_s
    most = least / (1 - overlap if tokens.segment_frames else 1) + bits_per_s * frame_s
    return max(least - tokens.bits, tokens.bits - most)


def typical(measure: str, values: Sequence[float] | np.ndarray) -> Interval:
    """Return the median of SI-SDR over clips, infinite values included, and the mean of any other measure.

    One clip that comes out with its phase wrong can have an SI-SDR of -60 dB, and a mean of ten would say only that.
    """
    if measure == "si_sdr_db":
        return median_interval(values)
    return mean_interval(np.where(np.isfinite(values), values, np.nan))


def summarise(
    table: pd.DataFrame,
    measures: Sequence[str] = DEFAULT_MEASURES,
    by: Sequence[str] = ("codec", "bandwidth_kbps", "domain"),
) -> pd.DataFrame:
    """Say what is `typical` of the clips of each group of one or more surveys.

    There is one row per group: the columns `by`, ``clips``, and for each measure `Interval.columns` (NaN where a group
    has too few clips, or where the measure is undefined for it).
    """
    rows = []
    for _, group in table.groupby(list(by), sort=False):
        row: dict = {name: group[name].iloc[0] for name in by}
        row["clips"] = group["clip"].nunique()
        for measure in measures:
            row |= typical(measure, group[measure].to_numpy(float)).columns(measure)
        rows.append(row)
    ends = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*by, "clips", *ends])


def steps(table: pd.DataFrame, measure: str) -> list[Interval]:
    """Return by how much a measure changes from each bandwidth to the next, clip by clip; `table` is of one survey."""
    by_rate = table.pivot(index="clip", columns="bandwidth_kbps", values=measure).astype(float)
    changes_of_clips = by_rate.sort_index(axis=1).diff(axis=1).iloc[:, 1:]
    return [typical(measure, of_step.to_numpy()) for _, of_step in changes_of_clips.items()]


def all_above(intervals: Sequence[Interval]) -> bool | None:
    """Say whether all of all intervals lies above 0; None for none, or where one is not defined."""
    if not intervals or not all(part.defined for part in intervals):
        return None
    return all(part.low > 0 for part in intervals)


def changes(table: pd.DataFrame, measure: str) -> dict[str, Interval]:
    """Return by how much a measure changes from the lowest to the highest bandwidth, clip by clip, per domain.

    A clip has one row per bandwidth in its domain. Empty where there is one bandwidth.
    """
    by_rate = table.pivot(index=["domain", "clip"], columns="bandwidth_kbps", values=measure).astype(float)
    lowest, highest = by_rate.columns.min(), by_rate.columns.max()
    if lowest == highest:
        return {}
    differences = (by_rate[highest] - by_rate[lowest]).groupby("domain", sort=False)
    return {str(domain): typical(measure, values.to_numpy()) for domain, values in differences}
