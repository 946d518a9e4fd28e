"""What the same tokens cost under several models and coders: the formats of EnCodec, this project's, and compressors.

Bits per token are bits of all clips over tokens of all clips: what storing them all would take. Clips differ in length
and are resampled whole, so an interval is that of a ratio of sums, not of a mean of ratios.

The float coders (upstream's, and both dialects of ``acv=4``) get the logits of one and the same float model, evaluated
over known frames at once; what they put out has the right size, but a decoder, which steps, would not read it
everywhere. The exact coder gets that model in integers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from codecbook.coding.arithmetic import encode_grid, encode_upstream
from codecbook.coding.cdf import coded_intervals, ideal_bits
from codecbook.coding.counts import GRID_DIALECTS, TOTAL, cdf_upstream
from codecbook.coding.exact.frames import encode_many
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.compressors import cost_after
from codecbook.lm.baselines.ngrams import TokenCost, uniform
from codecbook.lm.costs import lm_cost
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.score import evaluating
from codecbook.lm.token_lm import TokenLM
from codecbook.measure.statistics import Interval, mean_interval, ratio_interval
from codecbook.tokens.layout import Layout
from codecbook.tokens.tokens import checked_codes

COMPRESSORS = ("zstd -19", "xz -9e")
FLOAT_CODERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[Any, Any], bytes]]] = {
    "upstream (acv 2)": (cdf_upstream, encode_upstream),
    "acv 4, qstep 1/128": (GRID_DIALECTS["qstep128"].cdf, encode_grid),
    "acv 4, qstep 1/64": (GRID_DIALECTS["qstep64"].cdf, encode_grid),
}
"""By name, what makes a CDF of float logits ``[T, V, K]``, and what encodes with it."""


def leading(clips: Corpus, num_rows: int | None = None, num_codebooks: int | None = None) -> Corpus:
    """Return the beginnings of clips of a codec's tokens, or their leading codebooks, as a corpus in memory."""
    layout = layout_of(clips)
    tokens = {name: layout.to_tokens(clips.clip(i)[:num_rows]) for i, name in enumerate(clips.clips)}
    return Corpus.from_tokens(tokens, layout.order, num_codebooks)


def layout_of(clips: Corpus) -> Layout:
    """Return how a corpus orders a codec's tokens, or raise UnsupportedInput for a corpus of text."""
    if clips.layout is None:
        raise UnsupportedInput("A corpus of text has no codebooks; give one of a codec's tokens.")
    return clips.layout


def float_logits(model: TokenLM, codes: np.ndarray, chunk_frames: int = 64) -> np.ndarray:
    """Return the float logits ``[T, V, K]``, in nats, of a clip ``[T, K]``, each frame given all frames before.

    The model is evaluated without dropout, and reads so many frames at a time.

    Raises:
        UnsupportedInput: Another number of codebooks, or a clip longer than the model reads.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(codes, model.codebook_sizes, "The clip")
    inputs = torch.from_numpy(np.array(codes)).to(model.device)[None]
    parts = []
    with evaluating(model):
        before, state = model.begin()
        for chunk in inputs.split(chunk_frames, dim=1):
            after, state = model.read(chunk, state)
            hidden = torch.cat((before, after[:, :-1]), dim=1)
            parts.append(model.heads(hidden, chunk)[0].transpose(1, 2).cpu().numpy())
            before = after[:, -1:]
    return np.ascontiguousarray(np.concatenate(parts))


def exact_coder_cost(model: ExactLM, clips: Corpus) -> tuple[TokenCost, TokenCost]:
    """Charge clips by the exact coder, each clip as one segment: by its bytes, and by the intervals it codes with."""
    segments = encode_many(model, [clips.clip(i) for i in range(len(clips))])
    written = _cost("exact", [8.0 * len(segment.payload) for segment in segments], clips)
    return written, _cost("exact", [segment.ideal_bits for segment in segments], clips)


def coder_costs(
    model: TokenLM, exact: ExactLM, clips: Corpus, corpus: Corpus
) -> tuple[dict[str, TokenCost], dict[str, TokenCost]]:
    """Charge the same clips by every coder, each clip on its own and as one segment.

    `exact` is the float model in integers. Logits of all frames are in memory, 4 V K bytes a frame. Compressors get the
    clips as one stream that begins with `corpus`, the tokens that the model was trained on.

    Returns:
        By name, in the order raw, compressors, float coders, exact, and the float
        model's own information: what clips cost by the bytes that are written (raw codes and the float model: by
        their information). And the same of language model coders by the intervals that they code with, without
        their own rounding and ends.

    Raises:
        UnsupportedInput: Models of other codebooks, or nothing to charge.
    """
    written, intervals = {"raw": uniform(clips)}, {}
    for name in COMPRESSORS:
        written[name] = cost_after(corpus, clips, name)
    logits = [float_logits(model, clips.clip(i)) for i in range(len(clips))]
    for name, (make_cdf, encode) in FLOAT_CODERS.items():
        stream_bits, interval_bits = [], []
        for i, of_clip in enumerate(logits):
            symbols, cdf = clips.clip(i).T, make_cdf(of_clip)
            stream_bits.append(8.0 * len(encode(symbols, cdf)))
            interval_bits.append(ideal_bits(*coded_intervals(symbols, cdf), TOTAL))
        written[name], intervals[name] = _cost(name, stream_bits, clips), _cost(name, interval_bits, clips)
    written["exact"], intervals["exact"] = exact_coder_cost(exact, clips)
    written["float model, ideal"] = lm_cost("float model, ideal", model, clips)
    return written, intervals


def _cost(name: str, clip_bits: list[float], clips: Corpus) -> TokenCost:
    return TokenCost(name, np.array(clip_bits)[:, None], clips.clip_rows * len(clips.codebook_sizes))


def cost_table(costs: Mapping[str, TokenCost], raw_bits_per_token: float) -> pd.DataFrame:
    """Return one row per model, in the order given, for what held-out tokens cost under each.

    Columns ``model``, ``bits_per_token``, ``bits_per_token_low``, ``bits_per_token_high`` (missing where a cost is of
    all clips in one stream), ``of_raw_percent`` (of what the tokens cost without any model).
    """
    table = pd.DataFrame(
        {"model": name, **ratio_interval(cost.clip_bits.sum(axis=1), cost.clip_tokens).columns("bits_per_token")}
        for name, cost in costs.items()
    )
    return table.assign(of_raw_percent=100 * table["bits_per_token"] / raw_bits_per_token)


def codebook_table(costs: Mapping[str, TokenCost]) -> pd.DataFrame:
    """Return one row per model and codebook, with intervals over clips.

    Columns ``model``, ``codebook``, ``bits_per_token``, ``bits_per_token_low``, ``bits_per_token_high``.
    """
    rows = []
    for name, cost in costs.items():
        columns = cost.clip_bits.shape[1]
        for k in range(columns):
            interval = ratio_interval(cost.clip_bits[:, k], cost.clip_tokens / columns)
            rows.append({"model": name, "codebook": k, **interval.columns("bits_per_token")})
    return pd.DataFrame(rows)


def over_ideal(costs: Mapping[str, TokenCost], ideal: TokenCost) -> dict[str, Interval]:
    """Return by name what each costs more than a model's own information, in percent, over the same clips."""
    information = ideal.clip_bits.sum(axis=1)
    return {
        name: ratio_interval(100 * (cost.clip_bits.sum(axis=1) - information), information)
        for name, cost in costs.items()
    }


def against_modelless(costs: Mapping[str, TokenCost]) -> tuple[Interval, str, float]:
    """Return the exact coder's bits per token, and the best of raw codes and compressors: its name and its bits.

    Of `coder_costs`; the interval is over clips, which compressors have as one stream.
    """
    best = min(("raw", *COMPRESSORS), key=lambda name: costs[name].bits_per_token)
    exact = costs["exact"]
    return ratio_interval(exact.clip_bits.sum(axis=1), exact.clip_tokens), best, costs[best].bits_per_token


def saving(better: TokenCost, worse: TokenCost, codebooks: slice = slice(None)) -> Interval:
    """Return how many bits per token one model saves over another, clip by clip, in all codebooks or in some.

    Raises:
        UnsupportedInput: Costs of different clips.
    """
    if not np.array_equal(better.clip_tokens, worse.clip_tokens):
        raise UnsupportedInput(f"{better.name!r} and {worse.name!r} charge other clips; compare the same.")
    saved, spent = (cost.clip_bits[:, codebooks] for cost in (better, worse))
    share = saved.shape[1] / better.clip_bits.shape[1]
    return ratio_interval(spent.sum(axis=1) - saved.sum(axis=1), share * better.clip_tokens)


def first_saves(cost: TokenCost) -> Interval:
    """Return how many bits per token the first codebook costs less than the others do on average, clip by clip."""
    columns = cost.clip_bits.shape[1]
    return ratio_interval(cost.clip_bits[:, 1:].mean(axis=1) - cost.clip_bits[:, 0], cost.clip_tokens / columns)


def past_saves(bits: np.ndarray) -> tuple[Interval, Interval]:
    """Return what the past saves, and how much more of it the nearest half of the window saves than the other half.

    Both are of bits per token by clip and number of known frames, float ``[clips, T]``, ``T >= 4``, as
    `codecbook.lm.costs.bits_by_position` returns them: frames without a past, around ``T / 2`` and in the last quarter.
    """
    T = bits.shape[1]
    alone, half, whole = bits[:, 0], bits[:, 3 * T // 8 : 5 * T // 8].mean(axis=1), bits[:, 3 * T // 4 :].mean(axis=1)
    return mean_interval(alone - whole), mean_interval((alone - half) - (half - whole))
