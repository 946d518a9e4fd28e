"""How well lost frames are concealed: methods over gaps of several lengths, against the audio of the undamaged codes.

Gaps lie where there is speech (`place_gaps`), several in an utterance, and the same for all methods. Each is judged on
its own: the log-mel distance of the gap itself, and STOI of the gap and `AROUND_S` on either side. A mean over
an utterance's gaps is one value; intervals are over utterances.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from codecbook.audio import Clip
from codecbook.codecs import Codec
from codecbook.coding.conceal import conceal
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure.quality import log_mel_distance_db, stoi
from codecbook.measure.statistics import Interval, mean_columns, mean_interval
from codecbook.tokens import Tokens

AROUND_S = 1.0
"""Seconds on either side of a gap that STOI hears, and at least between two gaps."""
SHORTEST_S, LONGEST_S = 5.0, 12.0
"""Seconds of a bundled utterance at least, and of any one that are used at most."""


def held_out_speech(codec: Codec, limit: int) -> dict[str, Tokens]:
    """Return bundled tokens of speech that neither codec nor language model was trained on, one speaker after another.

    They have the codebooks of the codec's default bandwidth. Raises UnsupportedInput: the codec has none.
    """
    corpus = bundled_tokens(codec.name, codec.num_codebooks_at(codec.default_bandwidth_kbps))
    kept = set(corpus.held_out.clips)
    speech: dict[str, list[str]] = {}
    for row in corpus.clips:
        if row.clip in kept and row.domain == "speech" and row.duration_s >= SHORTEST_S:
            speech.setdefault(row.speaker, []).append(row.clip)
    turns = itertools.zip_longest(*speech.values())
    names = [name for turn in turns for name in sorted(filter(None, turn))][:limit]
    known = codec.token_format(len(corpus.layout.format.codebook_sizes))
    codes = [corpus.held_out.clip(corpus.held_out.clips.index(name)).astype(np.int64) for name in names]
    return {name: known.tokens(corpus.layout.to_tokens(rows).codes) for name, rows in zip(names, codes, strict=True)}


def place_gaps(reference: Clip, hop: int, frames: int, most: int, seed: int) -> list[int]:
    """Draw the first frames of up to so many gaps in the half of all places where a clip is loudest, `AROUND_S` apart.

    None lies within `AROUND_S` of an end. `hop` is the samples of a frame; a clip that is too short has no gaps.
    """
    around = round(AROUND_S * reference.sample_rate_hz / hop)
    T = reference.num_samples // hop
    power = np.square(reference.samples[:, : T * hop], dtype=np.float64).mean(axis=0).reshape(T, hop).mean(axis=1)
    places = np.arange(around, T - frames - around + 1)
    if not len(places):
        return []
    level_db = 10 * np.log10(power + 1e-10)
    mean_db = np.convolve(level_db, np.full(frames, 1 / frames), "valid")[places]
    chosen: list[int] = []
    for place in np.random.default_rng((seed, frames)).permutation(places[mean_db >= np.median(mean_db)]).tolist():
        if len(chosen) < most and all(abs(place - other) >= frames + around for other in chosen):
            chosen.append(place)
    return sorted(chosen)


def measure_concealment(
    codec: Codec,
    utterances: Mapping[str, Tokens],
    methods: Sequence[str],
    gap_frames: Sequence[int] = (8, 15),
    gaps: int = 6,
    lm: ExactLM | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Lose `gaps` stretches of `gap_frames` frames in each utterance, conceal them by each method, and score that.

    Utterances are tokens of the codec, whose codebooks run at one rate. Those with room for no gap are left out.

    Returns a row for each utterance, length and method: ``utterance``, ``method``, ``gap_ms``, ``gaps`` (how many), and
    means over these, ``log_mel_db`` of what was lost, ``stoi`` of that and a second on either side.

    Raises:
        UnsupportedInput: No utterance has room for a gap, rates that differ, or as `codecbook.coding.conceal.conceal`.
    """
    scores = []
    for index, (name, tokens) in enumerate(utterances.items()):
        frames = np.stack(tokens.codes)[:, : round(LONGEST_S * codec.frame_rates_hz[0])]
        tokens = tokens.format.tokens(list(frames))
        reference = codec.decode(tokens)
        hop = round(codec.sample_rate_hz / codec.frame_rates_hz[0])
        for count in gap_frames:
            starts = place_gaps(reference, hop, count, gaps, seed + index)
            lost = np.zeros(frames.shape, dtype=bool)
            for start in starts:
                lost[:, start : start + count] = True
            for method in methods if starts else ():
                sound = conceal(codec, tokens, lost, method, lm=lm, seed=seed)
                pairs = [_score(reference, sound, start * hop, (start + count) * hop) for start in starts]
                gap_ms = 1000 * count / codec.frame_rates_hz[0]
                scores.append((name, method, gap_ms, len(starts), *np.nanmean(pairs, axis=0)))
    if not scores:
        raise UnsupportedInput(
            f"None of {len(utterances)} utterances has room for a gap of {min(gap_frames)} frames with {AROUND_S:g} s "
            "on either side; give longer ones."
        )
    return pd.DataFrame(scores, columns=["utterance", "method", "gap_ms", "gaps", "log_mel_db", "stoi"])


def difference(scores: pd.DataFrame, measure: str, method: str, other: str, gap_ms: float) -> Interval:
    """Return by how much a method's `measure`, a column of the scores, is above another's, paired by utterance."""
    pairs = scores[scores.gap_ms == gap_ms].pivot(index="utterance", columns="method", values=measure)
    return mean_interval((pairs[method] - pairs[other]).to_numpy())


def table(scores: pd.DataFrame, against: str = "hold") -> pd.DataFrame:
    """Return a row for each length and method: means with their intervals, and STOI above that of one method."""
    rows = []
    for _, some in scores.groupby(["gap_ms", "method"], sort=False):
        gap_ms, method = some.iloc[0][["gap_ms", "method"]]
        rows.append(
            {"gap_ms": gap_ms, "method": method, "utterances": len(some), "gaps": some.gaps.sum()}
            | mean_columns(some, ("log_mel_db", "stoi"))
            | difference(scores, "stoi", method, against, gap_ms).columns(f"stoi_above_{against}")
        )
    return pd.DataFrame(rows)


def _score(reference: Clip, sound: Clip, start: int, end: int) -> tuple[float, float]:
    """Return log-mel distance of a gap, and STOI of it and what is around it."""
    around = round(AROUND_S * reference.sample_rate_hz)
    gap, wide = (
        [Clip(clip.samples[:, a:b], clip.sample_rate_hz) for clip in (reference, sound)]
        for a, b in ((start, end), (start - around, end + around))
    )
    return log_mel_distance_db(*gap), stoi(*wide)
