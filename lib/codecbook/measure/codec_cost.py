"""What integers cost a codec: how it sounds, how long its streams are, and how long it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from codecbook.audio import Clip
from codecbook.codecs import Codec
from codecbook.coding import stream
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure.statistics import Interval, mean_interval, ratio_interval
from codecbook.measure.survey import survey_codec

MEASURES = {"si_sdr_db": "SI-SDR (dB)", "stoi": "STOI", "log_mel_distance_db": "log-mel distance (dB)"}


@dataclass(frozen=True)
class CodecCost:
    """Clips through a codec in integers against the same clips through it in floats.

    Attributes:
        pairs: One row per clip: a survey's columns, with ``_float`` and ``_exact``.
        differences: Integers less floats by measure of `MEASURES`; ``bytes``: of streams, a ratio.
        equal_tokens: Share of the tokens of a clip that both agree in.
        times: ``encode`` and ``decode``, of integers over floats, on this machine.
        table: All of it, to be shown.
    """

    pairs: pd.DataFrame
    differences: dict[str, Interval]
    equal_tokens: Interval
    times: dict[str, float]
    table: pd.DataFrame


def codec_cost(floats: Codec, integers: Codec, lm: ExactLM, clips: Sequence[Clip], seconds: float) -> CodecCost | None:
    """Send the middle of clips through both, with as many codebooks as the language model has.

    None where there are no clips that both can take (`survey_codec`).
    """
    # where codebooks have rates of their own, a frame of the language model holds several codes of one
    count = min(lm.config.num_codebooks, len(floats.codebook_sizes))
    heard = [_middle(clip, seconds) for clip in clips]
    both = [survey_codec(codec, heard, [count], list(MEASURES)) for codec in (floats, integers)]
    if not all(found.tokens for found in both):
        return None
    pairs = pd.merge(both[0].table, both[1].table, on="clip", suffixes=("_float", "_exact"))
    tokens = [[found.tokens[name].leading(count) for found in both] for name in pairs["clip"]]
    sizes = np.array([[len(stream.encode_tokens(each, lm)) for each in pair] for pair in tokens], dtype=float)
    equal = [np.mean(np.concatenate(a.codes) == np.concatenate(b.codes)) for a, b in tokens]
    differences = {
        name: mean_interval((pairs[f"{name}_exact"] - pairs[f"{name}_float"]).to_numpy()) for name in MEASURES
    }
    differences["bytes"] = ratio_interval(sizes[:, 1], sizes[:, 0])
    rows = [
        {"measure": title, "floats": pairs[f"{name}_float"].mean(), "integers": pairs[f"{name}_exact"].mean(),
         "integers less floats": str(differences[name])} for name, title in MEASURES.items()
    ]  # fmt: skip
    rows.append({"measure": "stream (bytes)", "floats": sizes[:, 0].mean(), "integers": sizes[:, 1].mean(),
                 "integers less floats": f"{differences['bytes']} times"})  # fmt: skip
    took = {column: pairs[column].to_numpy().sum() for column in pairs if "_rtf_" in column}
    times = {way: float(took[f"{way}_rtf_exact"] / took[f"{way}_rtf_float"]) for way in ("encode", "decode")}
    return CodecCost(pairs, differences, mean_interval(equal), times, pd.DataFrame(rows))


def _middle(clip: Clip, seconds: float) -> Clip:
    count = min(clip.num_samples, max(1, round(seconds * clip.sample_rate_hz)))
    start = (clip.num_samples - count) // 2
    return replace(clip, samples=clip.samples[:, start : start + count])
