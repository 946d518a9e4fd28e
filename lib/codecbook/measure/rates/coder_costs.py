"""What the same tokens cost under several models and coders: the formats of EnCodec, this project's, and compressors.

Bits per token are bits of all clips over tokens of all clips: what storing them all would take. Clips differ in length
and are resampled whole, so an interval is that of a ratio of sums, not of a mean of ratios.

The float coders (upstream's, and both dialects of ``acv=4``) get the logits of one and the same float model, evaluated
over known frames at once; what they put out has the right size, but a decoder, which steps, would not read it
everywhere. The exact coder gets that model in integers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from codecbook.coding.arithmetic import GridEncoder, UpstreamEncoder
from codecbook.coding.cdf import coded_intervals, ideal_bits
from codecbook.coding.counts import GRID_DIALECTS, TOTAL, cdf_upstream
from codecbook.coding.exact.segments import encode_frames
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.compressors import compressor_costs
from codecbook.lm.baselines.ngrams import TokenCost, uniform
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact import ExactLM
from codecbook.lm.score import evaluating, token_bits
from codecbook.lm.token_lm import TokenLM
from codecbook.measure.statistics import Interval, ratio_interval
from codecbook.tokens.checks import checked_codes
from codecbook.tokens.layout import Layout

_CHUNK_FRAMES = 64

FLOAT_CODERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], type[UpstreamEncoder] | type[GridEncoder]]]
FLOAT_CODERS = {
    "upstream (acv 2)": (cdf_upstream, UpstreamEncoder),
    "acv 4, qstep 1/128": (GRID_DIALECTS["qstep128"].cdf, GridEncoder),
    "acv 4, qstep 1/64": (GRID_DIALECTS["qstep64"].cdf, GridEncoder),
}
"""By name, what makes a CDF of float logits ``[T, V, K]``, and the encoder that takes it."""


@dataclass(frozen=True, eq=False)
class CoderCost:
    """What clips cost under one coder, each clip as one segment.

    Attributes:
        name: Of the coder.
        written: By the bytes that it writes; for raw codes and the float model itself, their information.
        intervals: By the intervals that it codes with, without its own rounding and ends; None where there are none.
    """

    name: str
    written: TokenCost
    intervals: TokenCost | None = None


def leading_rows(clips: Corpus, names: Sequence[str], max_rows: int) -> Corpus:
    """Return the beginnings of some clips of a codec's tokens, so many rows of each at most, as a corpus in memory.

    Raises:
        UnsupportedInput: A corpus of text, or a clip that is not there.
    """
    chosen, layout = clips.subset(names), layout_of(clips)
    tokens = {name: layout.to_tokens(chosen.clip(i)[:max_rows]) for i, name in enumerate(chosen.clips)}
    return Corpus.from_tokens(tokens, layout.order)


def leading_codebooks(clips: Corpus, num_codebooks: int) -> Corpus:
    """Return clips with their leading codebooks alone, as a corpus in memory.

    Raises:
        UnsupportedInput: A corpus of text, or fewer codebooks.
    """
    layout = layout_of(clips)
    tokens = {name: layout.to_tokens(clips.clip(i)) for i, name in enumerate(clips.clips)}
    return Corpus.from_tokens(tokens, layout.order, num_codebooks)


def layout_of(clips: Corpus) -> Layout:
    """Return how a corpus orders a codec's tokens, or raise UnsupportedInput for a corpus of text."""
    if clips.layout is None:
        raise UnsupportedInput("A corpus of text has no codebooks; give one of a codec's tokens.")
    return clips.layout


def logit_chunks(
    model: TokenLM, codes: np.ndarray, chunk_frames: int = _CHUNK_FRAMES
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first frame of a chunk, and its float logits ``[T', V, K]`` in nats, given all frames before.

    Args:
        model: The model; evaluated without dropout.
        codes: Integers ``[T, K]``.
        chunk_frames: Frames at a time.

    Raises:
        UnsupportedInput: Another number of codebooks, or a clip longer than the model reads.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(codes, model.codebook_sizes, "The clip")
    inputs = torch.from_numpy(np.array(codes)).to(model.device)[None]
    with evaluating(model):
        before, state = model.begin()
        for start in range(0, len(codes), chunk_frames):
            chunk = inputs[:, start : start + chunk_frames]
            after, state = model.read(chunk, state)
            hidden = torch.cat((before, after[:, :-1]), dim=1)
            logits = model.heads(hidden, chunk)[0].transpose(1, 2)
            before = after[:, -1:]
            yield start, np.ascontiguousarray(logits.cpu().numpy())


def _float_coder_cost(name: str, logits: Mapping[int, Sequence[np.ndarray]], clips: Corpus) -> CoderCost:
    """Charge clips by one of `FLOAT_CODERS`, from the chunks of logits of each."""
    make_cdf, encoder_type = FLOAT_CODERS[name]
    written, intervals = np.zeros((len(clips), 1)), np.zeros((len(clips), 1))
    for i in range(len(clips)):
        codes, encoder, start = clips.clip(i), encoder_type(), 0
        for part in logits[i]:
            symbols = codes[start : start + len(part)].T
            cdf = make_cdf(part)
            encoder.push_frames(symbols, cdf)
            intervals[i] += ideal_bits(*coded_intervals(symbols, cdf), TOTAL)
            start += len(part)
        written[i] = 8 * len(encoder.finish())
    tokens = _tokens(clips)
    return CoderCost(name, TokenCost(name, written, tokens), TokenCost(name, intervals, tokens))


def exact_coder_cost(model: ExactLM, clips: Corpus, name: str = "exact") -> CoderCost:
    """Charge clips by the exact coder, each clip as one segment.

    Raises:
        UnsupportedInput: Another number of codebooks than the model's.
    """
    segments = [encode_frames(model, clips.clip(i)) for i in range(len(clips))]
    tokens = _tokens(clips)
    written = np.array([[8.0 * len(segment.payload)] for segment in segments])
    intervals = np.array([[segment.ideal_bits] for segment in segments])
    return CoderCost(name, TokenCost(name, written, tokens), TokenCost(name, intervals, tokens))


def coder_costs(
    model: TokenLM, exact: ExactLM, clips: Corpus, compressors: Sequence[str] = ("zstd -19", "xz -9e")
) -> dict[str, CoderCost]:
    """Charge the same clips by every coder, each clip on its own.

    Args:
        model: Float model.
        exact: The same model in integers.
        clips: Held-out clips; logits of all their frames are in memory, 4 V K bytes a frame.
        compressors: Of `codecbook.lm.baselines.compressors.COMPRESSORS`, each with the best of its layouts.

    Returns:
        By name, in the order raw, compressors, float coders, exact, and the float model's own information.

    Raises:
        UnsupportedInput: Models of other codebooks, or nothing to charge.
    """
    costs = {"raw": CoderCost("raw", uniform(clips))}
    for name in compressors:
        costs[name] = CoderCost(name, compressor_costs(clips, name, per_clip=True)[0])
    logits = {
        i: [part for _, part in logit_chunks(model, clips.clip(i))] if clips.clip_rows[i] else []
        for i in range(len(clips))
    }
    for name in FLOAT_CODERS:
        costs[name] = _float_coder_cost(name, logits, clips)
    costs["exact"] = exact_coder_cost(exact, clips)
    costs["float model, ideal"] = CoderCost("float model, ideal", model_information(model, clips))
    return costs


def model_information(model: TokenLM, clips: Corpus) -> TokenCost:
    """Return the information of clips under a float model: what no coder that uses it can undercut."""
    bits = [[token_bits(model, clips.clip(i)).sum()] for i in range(len(clips))]
    return TokenCost("float model, ideal", np.array(bits), _tokens(clips))


def _tokens(clips: Corpus) -> np.ndarray:
    return clips.clip_rows * len(clips.codebook_sizes)


def cost_table(
    costs: Iterable[TokenCost] | Mapping[str, TokenCost], raw_bits_per_token: float, seed: int = 0
) -> pd.DataFrame:
    """Return one row per model, in the order given.

    Args:
        costs: What held-out tokens cost under each model; by name, or with their own names.
        raw_bits_per_token: What they cost without any model, for the column of percents.
        seed: Of the resampling.

    Returns:
        Columns ``model``, ``bits_per_token``, ``bits_per_token_low``, ``bits_per_token_high`` (missing where a cost
        is of all clips in one stream), ``of_raw_percent``.
    """
    named = costs.items() if isinstance(costs, Mapping) else ((cost.name, cost) for cost in costs)
    table = pd.DataFrame(
        {"model": name} | _ends(cost.clip_bits.sum(axis=1), cost.clip_tokens, seed) for name, cost in named
    )
    return table.assign(of_raw_percent=100 * table["bits_per_token"] / raw_bits_per_token)


def codebook_table(costs: Mapping[str, TokenCost], seed: int = 0) -> pd.DataFrame:
    """Return one row per model and codebook, with intervals over clips.

    Args:
        costs: By name; each with bits by codebook.
        seed: Of the resampling.

    Returns:
        Columns ``model``, ``codebook``, ``bits_per_token``, ``bits_per_token_low``, ``bits_per_token_high``.
    """
    return pd.DataFrame(
        {"model": name, "codebook": k} | _ends(cost.clip_bits[:, k], cost.clip_tokens / cost.clip_bits.shape[1], seed)
        for name, cost in costs.items()
        for k in range(cost.clip_bits.shape[1])
    )


def _ends(clip_bits: np.ndarray, clip_tokens: np.ndarray, seed: int) -> dict[str, float]:
    interval = ratio_interval(clip_bits, clip_tokens, seed=seed)
    return {
        "bits_per_token": interval.mean, "bits_per_token_low": interval.low, "bits_per_token_high": interval.high
    }  # fmt: skip


def saving(better: TokenCost, worse: TokenCost, seed: int = 0) -> Interval:
    """Return how many bits per token one model saves over another, clip by clip.

    Raises:
        UnsupportedInput: Costs of different clips.
    """
    if not np.array_equal(better.clip_tokens, worse.clip_tokens):
        raise UnsupportedInput(
            f"{better.name!r} charges {len(better.clip_tokens)} clips and {worse.name!r} {len(worse.clip_tokens)}, or "
            "of other lengths; compare costs of the same clips."
        )
    difference = worse.clip_bits.sum(axis=1) - better.clip_bits.sum(axis=1)
    return ratio_interval(difference, better.clip_tokens, seed=seed)
