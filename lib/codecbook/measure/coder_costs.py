"""What the same tokens cost under several coders: the formats of EnCodec, this project's, and compressors.

The float coders (upstream's, and both dialects of ``acv=4``) get the logits of one and the same float model, evaluated
over known frames at once; what they put out has the right size, but a decoder, which steps, would not read it
everywhere. The exact coder gets that model in integers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from codecbook.coding.arithmetic import GridEncoder, UpstreamEncoder
from codecbook.coding.cdf import coded_intervals, ideal_bits
from codecbook.coding.counts import GRID_DIALECTS, TOTAL, cdf_upstream
from codecbook.coding.exact_segments import encode_frames
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines import TokenCost, uniform
from codecbook.lm.batches import checked_codes
from codecbook.lm.compressors import compressor_costs
from codecbook.lm.data import Corpus
from codecbook.lm.exact import ExactLM
from codecbook.lm.score import evaluating, token_bits
from codecbook.lm.token_lm import TokenLM

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
    """Return the beginnings of some clips as a corpus in memory.

    Args:
        clips: A corpus of a codec's tokens.
        names: Which clips.
        max_rows: Rows of each at most.

    Raises:
        UnsupportedInput: A corpus of text, or a clip that is not there.
    """
    chosen = clips.subset(names)
    if chosen.layout is None:
        raise UnsupportedInput("A corpus of text has no codebooks; give one of a codec's tokens.")
    tokens = {name: chosen.layout.to_tokens(chosen.clip(i)[:max_rows]) for i, name in enumerate(chosen.clips)}
    return Corpus.from_tokens(tokens, chosen.layout.order)


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


def float_coder_cost(name: str, logits: Mapping[int, Sequence[np.ndarray]], clips: Corpus) -> CoderCost:
    """Charge clips by one of `FLOAT_CODERS`.

    Args:
        name: Which.
        logits: By clip, what `logit_chunks` yields, in order.
        clips: What is charged.

    Raises:
        UnsupportedInput: An unknown coder, or logits that do not belong to the clips.
        CorruptInput: Logits that are not finite.
    """
    if name not in FLOAT_CODERS:
        raise UnsupportedInput(f"There is no coder {name!r}; choose one of {', '.join(FLOAT_CODERS)}.")
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
        compressors: Of `codecbook.lm.compressors.COMPRESSORS`, each with the best of its layouts.

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
        costs[name] = float_coder_cost(name, logits, clips)
    costs["exact"] = exact_coder_cost(exact, clips)
    costs["float model, ideal"] = CoderCost("float model, ideal", model_information(model, clips))
    return costs


def model_information(model: TokenLM, clips: Corpus) -> TokenCost:
    """Return the information of clips under a float model: what no coder that uses it can undercut."""
    bits = [[token_bits(model, clips.clip(i)).sum()] for i in range(len(clips))]
    return TokenCost("float model, ideal", np.array(bits), _tokens(clips))


def _tokens(clips: Corpus) -> np.ndarray:
    return clips.clip_rows * len(clips.codebook_sizes)
