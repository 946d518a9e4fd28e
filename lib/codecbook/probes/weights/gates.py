"""What compressed weights change: tokens, sound, predictions; each against the model as it was."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.lm.score import evaluating
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import NATS_TO_BITS, cross_entropy_nats
from codecbook.measure.coder_speed import torch_threads
from codecbook.measure.quality import evaluate
from codecbook.measure.statistics import Interval, mean_interval, ratio_interval
from codecbook.tokens import Tokens

WINDOW = 225  # decisions in a row, as the published gate counts them
MEASURES = ("si_sdr_db", "log_mel_distance_db", "stoi")


def token_match(reference: Sequence[Tokens], found: Sequence[Tokens], num_codebooks: int | None = None) -> Interval:
    """Return the share of tokens that are the same in the leading codebooks, or all, with an interval over clips."""
    same, total = [], []
    for one, other in zip(reference, found, strict=True):
        pairs = list(zip(one.codes[:num_codebooks], other.codes[:num_codebooks], strict=True))
        same.append(sum(int((a == b).sum()) for a, b in pairs))
        total.append(sum(len(a) for a, _ in pairs))
    return ratio_interval(np.array(same), np.array(total))


def changed_tokens(reference: Sequence[Tokens], found: Sequence[Tokens]) -> tuple[int, int]:
    """Return how many tokens of all codebooks differ, and of how many."""
    pairs = [
        pair for one, other in zip(reference, found, strict=True) for pair in zip(one.codes, other.codes, strict=True)
    ]
    return sum(int((a != b).sum()) for a, b in pairs), sum(len(a) for a, _ in pairs)


def quality(codec: Codec, clips: Sequence[Clip], tokens: Sequence[Tokens]) -> pd.DataFrame:
    """Return `MEASURES` of what a codec decodes the tokens to, whoever made them, against the clips, a row a clip."""
    rows = []
    for clip, coded in zip(clips, tokens, strict=True):
        decoded = codec.decode(replace(coded, weights_sha256=codec.weights.sha256))
        length = min(clip.samples.shape[1], decoded.samples.shape[1])
        one, other = (Clip(c.samples[:, :length], clip.sample_rate_hz) for c in (clip, decoded))
        rows.append(evaluate(one, other, MEASURES)[0])
    return pd.DataFrame(rows, columns=list(MEASURES))


def quality_change(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Interval]:
    """Return the mean change of each measure over clips."""
    return {measure: mean_interval((after[measure] - before[measure]).to_numpy()) for measure in before.columns}


@dataclass(frozen=True)
class Predictions:
    """What a language model says of clips, teacher-forced."""

    bits: np.ndarray  # float64 [clips], of all tokens
    tokens: np.ndarray  # int64 [clips]
    likeliest: list[np.ndarray]  # int64 [T * K] of each clip

    def change_percent(self, compressed: "Predictions") -> Interval:
        """Return by how many percent more bits a compressed model takes."""
        return ratio_interval(100 * (compressed.bits - self.bits), self.bits)

    def match(self, compressed: "Predictions") -> Interval:
        """Return the share of decisions that stay the same."""
        same = [int((a == b).sum()) for a, b in zip(self.likeliest, compressed.likeliest, strict=True)]
        return ratio_interval(np.array(same), self.tokens)

    def whole_windows(self, compressed: "Predictions") -> tuple[int, int]:
        """Return how many of all windows of `WINDOW` decisions in a row stay the same whole, and how many there are."""
        whole = total = 0
        for a, b in zip(self.likeliest, compressed.likeliest, strict=True):
            changes = np.concatenate([[0], np.cumsum(a != b)])
            inside = changes[WINDOW:] - changes[:-WINDOW]
            whole, total = whole + int((inside == 0).sum()), total + len(inside)
        return whole, total


def predictions(model: TokenLM, clips: Sequence[np.ndarray]) -> Predictions:
    """Read clips of codes ``[T, K]``, each from its start."""
    bits, likeliest = [], []
    for codes in clips:
        frames = torch.from_numpy(np.array(codes, dtype=np.int64))[None]
        with evaluating(model):
            logits = model(frames)
        bits.append(float(cross_entropy_nats(logits, frames)[1].double().sum()) * NATS_TO_BITS)
        likeliest.append(logits[0].argmax(-1).numpy().ravel())
    return Predictions(np.array(bits), np.array([len(x) for x in likeliest]), likeliest)


def validity(clip: Clip, tokens: Tokens) -> dict[str, Any]:
    """Return whether sound and tokens are alive at all: the fields of the published second gate."""
    samples = clip.samples.mean(axis=0)
    tenths = np.array_split(samples, 10)
    crossings = int((np.diff(np.signbit(samples)) != 0).sum())
    return {
        "distinct_tokens": len(np.unique(np.concatenate(tokens.codes))),
        "rms": float(np.sqrt(np.mean(samples**2))),
        "peak": float(np.abs(samples).max()),
        "zero_crossings_per_s": crossings * clip.sample_rate_hz / len(samples),
        "rms_by_tenth": [float(np.sqrt(np.mean(tenth**2))) for tenth in tenths],
    }


def noise_floor(codec: Codec, clips: Sequence[Clip], reference: Sequence[Tokens]) -> pd.DataFrame:
    """Return how many tokens change where the weights do not: other threads, pieces and kernels, a row each."""
    threads = torch.get_num_threads()
    found = {"pieces of 1 s": [codec.encode(clip, chunk_s=1.0) for clip in clips]}
    for count in (1, 2):
        with torch_threads(count):
            found[f"{count} thread(s)"] = [codec.encode(clip) for clip in clips]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's of Intel GPUs, at any change of these flags
        with torch.backends.mkldnn.flags(enabled=False):
            found["without oneDNN"] = [codec.encode(clip) for clip in clips]
    rows = [(name, *changed_tokens(reference, tokens)) for name, tokens in found.items()]
    return pd.DataFrame(rows, columns=["setting", "changed", "tokens"]).assign(against=f"{threads} thread(s)")
