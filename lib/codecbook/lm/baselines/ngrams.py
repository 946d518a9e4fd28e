"""Bits per token of simple models: what a language model must beat to have learned more than counts.

All of them are proper codes: each token's probability depends on what a decoder has seen before it. Clips are told
apart, so that intervals can be made over clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput, require_one_of
from codecbook.lm.data.corpus import Corpus

KINDS = ("unigram", "bigram", "in_frame")
"""What each model conditions on: nothing; the same codebook's code one frame before; the code of the codebook above in
the same frame. The first codebook has nothing above it; there ``in_frame`` takes the code before too."""

SMOOTHINGS = ("kneser_ney", "witten_bell")
_LARGEST_TABLE = 1 << 22  # of numbers; a table is ten times as fast as sorting


@dataclass(frozen=True, eq=False)
class TokenCost:
    """What held-out tokens cost under one model."""

    name: str
    clip_bits: np.ndarray  # float64 [clips, columns], a column per codebook where the model tells them apart
    clip_tokens: np.ndarray  # int64 [clips]

    @property
    def bits_per_token(self) -> float:
        """Bits of all clips over tokens of all clips."""
        return float(self.clip_bits.sum() / self.clip_tokens.sum())


def check_corpora(train: Corpus | None, held_out: Corpus) -> None:
    """Raise UnsupportedInput where corpora have different codebooks, or there are no tokens to charge."""
    if train is not None and train.codebook_sizes != held_out.codebook_sizes:
        raise UnsupportedInput(f"Codebooks {train.codebook_sizes} and {held_out.codebook_sizes} differ; they must not.")
    if held_out.num_tokens == 0:
        raise UnsupportedInput("The held-out corpus has no tokens; hold out clips that have some.")


def uniform(held_out: Corpus) -> TokenCost:
    """Charge ``log2 V`` for every token: the raw rate; raise UnsupportedInput where there are none."""
    check_corpora(None, held_out)
    bits = held_out.clip_rows[:, None] * np.log2(np.array(held_out.codebook_sizes, dtype=np.float64))
    return TokenCost("uniform", bits, held_out.clip_rows * len(held_out.codebook_sizes))


def count_model(train: Corpus, held_out: Corpus, kind: str = "bigram", smoothing: str = "kneser_ney") -> TokenCost:
    """Charge clips as `count_bits` does, which says all else."""
    bits = count_bits(train, held_out, kind, smoothing)
    owners = np.repeat(np.arange(len(held_out)), held_out.clip_rows)
    clip_bits = [np.bincount(owners, column, minlength=len(held_out)) for column in bits.T]
    return TokenCost(f"{kind}, {smoothing}", np.stack(clip_bits, axis=1), held_out.clip_rows * bits.shape[1])


def count_bits(train: Corpus, held_out: Corpus, kind: str = "bigram", smoothing: str = "kneser_ney") -> np.ndarray:
    """Predict each token by how often it followed its context, backing off to its own frequency.

    Every codebook has counts of its own. With n(c) the count of code c after the context, N their sum, U the number of
    different codes among them, and P' the probability without the context (there it is uniform):

    - ``kneser_ney``: ``P = (max(n(c) - D, 0) + D U P') / N``, with ``D = (n1 + 1) / (n1 + 2 n2 + 2)`` from the
      numbers of (context, code) pairs seen once and twice. Without the context, each different context counts once, not
      each occurrence: a code that is frequent after one context only is then not expected after others. (Kneser and Ney
      1995; interpolated as in Chen and Goodman 1999, section 4.1.6; D after Ney, Essen and Kneser 1994, with one added
      to both numbers, so that it is defined where nothing was seen.) On codec tokens this is worth 0.4 bits over the
      next.
    - ``witten_bell``: ``P = (n(c) + U P') / (N + U)`` (Witten and Bell 1991, method C; Bell, Cleary and Witten 1990).

    The first frame of a clip has a context of its own. Returns the bits of every held-out token, float64 ``[rows, K]``,
    clip after clip. Raises UnsupportedInput: an unknown `kind` or `smoothing`, nothing to count, no tokens to score, or
    corpora of different codebooks.
    """
    require_one_of("kind", kind, KINDS)
    require_one_of("smoothing", smoothing, SMOOTHINGS)
    if train.num_tokens == 0:
        raise UnsupportedInput("There are no training tokens to count; give some.")
    check_corpora(train, held_out)
    clips = [corpus.clip(i) for corpus in (train, held_out) for i in range(len(corpus))]
    rows = np.concatenate(clips)
    bits = np.empty((held_out.num_rows, rows.shape[1]))
    for k, size in enumerate(held_out.codebook_sizes):
        contexts = [np.zeros(len(rows), dtype=np.int64)]
        if kind == "in_frame" and k > 0:
            contexts.append(rows[:, k - 1])
        elif kind != "unigram":
            contexts.append(np.concatenate([np.r_[size, clip[:-1, k]][: len(clip)] for clip in clips]))
        bits[:, k] = -np.log2(_probabilities(rows[:, k], contexts, size, train.num_rows, smoothing))
    return bits


def _probabilities(
    codes: np.ndarray, contexts: Sequence[np.ndarray], size: int, num_trained: int, smoothing: str
) -> np.ndarray:
    """Return the probability of each token from `num_trained` on, float64.

    `codes` are int64 ``[N]`` of a codebook of `size` codes, the training set first; `contexts` are the numbers of each
    token's contexts, int64 ``[N]``, the shortest first.
    """

    def count(tokens: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return how many of these tokens are in the group of each token that is scored."""
        return np.bincount(groups[tokens], minlength=groups.max() + 1)[groups[num_trained:]]

    contexts = list(map(_numbered, contexts))
    pairs = [_numbered(context * size + codes) for context in contexts]
    probability = np.full(len(codes) - num_trained, 1 / size)
    for context, pair in zip(contexts, pairs, strict=True):
        counted = np.arange(num_trained)
        if smoothing == "kneser_ney" and pair is not pairs[-1]:
            counted = _one_of_each(pairs[-1][counted])
        times, one_each = np.bincount(pair[counted]), counted[_one_of_each(pair[counted])]
        seen, total, distinct = count(counted, pair), count(counted, context), count(one_each, context)
        if smoothing == "witten_bell":
            weight, kept, norm = distinct, seen, total + distinct
        else:
            once, twice = np.count_nonzero(times == 1), np.count_nonzero(times == 2)
            discount = (once + 1) / (once + 2 * twice + 2)
            weight, kept, norm = discount * distinct, np.maximum(seen - discount, 0), total
        mixed = (kept + weight * probability) / np.maximum(norm, 1)
        probability = np.where(total > 0, mixed, probability)
    return probability


def _numbered(values: np.ndarray) -> np.ndarray:
    """Return the numbers of values, int64 ``[N]`` >= 0, among those that there are: 0, 1, ... without gaps."""
    if values.max() >= _LARGEST_TABLE:
        return np.unique(values, return_inverse=True)[1]
    present = np.zeros(values.max() + 1, dtype=bool)
    present[values] = True
    return (np.cumsum(present) - 1)[values]


def _one_of_each(numbers: np.ndarray) -> np.ndarray:
    """Return at which index each number, int64 >= 0, stands once, in the order of the numbers."""
    index = np.full(numbers.max() + 1, -1)
    index[numbers] = np.arange(len(numbers))
    return index[index >= 0]
