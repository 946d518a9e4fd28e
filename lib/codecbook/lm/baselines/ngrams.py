"""Bits per token of simple models: what a language model must beat to have learned more than counts.

    train, held_out = corpus.split()
    for cost in (uniform(held_out), *(count_model(train, held_out, kind) for kind in CONTEXTS)):
        print(cost.name, cost.bits_per_token, cost.bits_per_token_of_clips)

All of them are proper codes: each token's probability depends on what a decoder has seen before it. Clips are told
apart, so that intervals can be made over clips.
"""

from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus

CONTEXTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "unigram": ((),),
    "bigram": ((), ("previous",)),
    "in_frame": ((), ("above",)),
    "trigram": ((), ("previous",), ("previous", "above")),
}
"""What each model conditions on, from its last resort to its first choice: ``previous`` is the same codebook's code
one frame before, ``above`` the code of the codebook above in the same frame. The first codebook has nothing above it;
there ``in_frame`` takes ``previous`` instead, as a model that goes through a frame code by code could."""

SMOOTHINGS = ("kneser_ney", "witten_bell")


@dataclass(frozen=True, eq=False)
class TokenCost:
    """What held-out tokens cost under one model.

    Attributes:
        name: Of the model.
        clip_bits: float64 ``[clips, columns]``, bits of each clip, by codebook where the model tells them apart
            (one column otherwise).
        clip_tokens: int64 ``[clips]``.
    """

    name: str
    clip_bits: np.ndarray  # bit
    clip_tokens: np.ndarray  # tokens

    @property
    def bits_per_token(self) -> float:
        """Bits of all clips over tokens of all clips."""
        return float(self.clip_bits.sum() / self.clip_tokens.sum())

    @property
    def bits_per_token_of_clips(self) -> np.ndarray:
        """Bits per token of each clip, float64 ``[clips]``, for a bootstrap; NaN for a clip without tokens."""
        tokens = np.where(self.clip_tokens > 0, self.clip_tokens, np.nan)
        return self.clip_bits.sum(axis=1) / tokens

    @property
    def bits_per_token_of_codebooks(self) -> np.ndarray:
        """Bits per token of each codebook, float64 ``[columns]``."""
        return self.clip_bits.sum(axis=0) * self.clip_bits.shape[1] / self.clip_tokens.sum()


def check_corpora(train: Corpus | None, held_out: Corpus) -> None:
    """Refuse corpora that cannot be learned from and charged together.

    Raises:
        UnsupportedInput: Corpora of different codebooks, or no tokens to charge.
    """
    if train is not None and train.codebook_sizes != held_out.codebook_sizes:
        raise UnsupportedInput(
            f"Training tokens have codebooks {train.codebook_sizes}, held-out ones {held_out.codebook_sizes}; split "
            "one corpus into both."
        )
    if held_out.num_tokens == 0:
        raise UnsupportedInput("The held-out corpus has no tokens; hold out clips that have some.")


def uniform(held_out: Corpus) -> TokenCost:
    """Charge ``log2 V`` for every token: the raw rate.

    Raises:
        UnsupportedInput: `held_out` has no tokens.
    """
    check_corpora(held_out, held_out)
    bits = held_out.clip_rows[:, None] * np.log2(np.array(held_out.codebook_sizes, dtype=np.float64))
    return TokenCost("uniform", bits, held_out.clip_rows * len(held_out.codebook_sizes))


def count_model(
    train: Corpus | None,
    held_out: Corpus,
    kind: str = "bigram",
    smoothing: str = "kneser_ney",
    adaptive: bool = False,
    lag_rows: int = 1,
) -> TokenCost:
    """Predict each token by how often it followed its context, backing off to shorter contexts.

    Every codebook has counts of its own. With n(c) the count of code c after the context, N their sum, U the number of
    different codes among them, and P' the probability by the next shorter context (uniform after the last):

    - ``kneser_ney``: ``P = (max(n(c) - D, 0) + D U P') / N``, with ``D = (n1 + 1) / (n1 + 2 n2 + 2)`` from the
      numbers of (context, code) pairs seen once and twice. Contexts short of the longest count each different longer
      context once, not each occurrence: a code that is frequent after one context only is then not expected after
      others. (Kneser and Ney 1995; interpolated as in Chen and Goodman 1999, section 4.1.6.) On codec tokens this is
      worth 0.4 bits over the next.
    - ``witten_bell``: ``P = (n(c) + U P') / (N + U)`` (Witten and Bell 1991, method C; Bell, Cleary and Witten 1990).

    The first frame of a clip has a context of its own.

    Args:
        train: What is counted; None only where `adaptive`.
        held_out: What is scored.
        kind: One of `CONTEXTS`.
        smoothing: One of `SMOOTHINGS`.
        adaptive: Count scored tokens as well, clip after clip, each after it was scored: what a file's own beginning
            says of its end, which is all that a compressor without a trained model has.
        lag_rows: How many rows back ``previous`` lies; in flat orders a frame has several rows.

    Returns:
        Bits by clip and codebook.

    Raises:
        UnsupportedInput: An unknown `kind` or `smoothing`, nothing to count, no tokens to score, or corpora of
            different codebooks.
    """
    _check_choice("kind", kind, tuple(CONTEXTS))
    _check_choice("smoothing", smoothing, SMOOTHINGS)
    if lag_rows < 1:
        raise UnsupportedInput(f"lag_rows={lag_rows}; give 1 or more.")
    if not adaptive and (train is None or train.num_tokens == 0):
        raise UnsupportedInput("There are no training tokens to count; give some, or pass adaptive=True.")
    check_corpora(train, held_out)
    clips = [corpus.clip(i) for corpus in (train, held_out) if corpus for i in range(len(corpus))]
    num_trained = sum(len(rows) for rows in clips) - held_out.num_rows
    counted = np.ones(num_trained + held_out.num_rows, dtype=bool)
    counted[num_trained:] = adaptive
    owners = np.repeat(np.arange(len(held_out)), held_out.clip_rows)
    bits = np.empty((len(held_out), len(held_out.codebook_sizes)))
    for k, size in enumerate(held_out.codebook_sizes):
        codes = np.concatenate([rows[:, k] for rows in clips])
        chain = [_context_ids(clips, k, names, lag_rows) for names in CONTEXTS[kind]]
        chain = [ids for i, ids in enumerate(chain) if i == 0 or not np.array_equal(ids, chain[i - 1])]
        costs = -np.log2(_probabilities(codes, chain, size, counted, num_trained, smoothing))
        bits[:, k] = np.bincount(owners, costs, minlength=len(held_out))
    name = f"{'adaptive ' if adaptive else ''}{kind}, {smoothing}"
    return TokenCost(name, bits, held_out.clip_rows * len(held_out.codebook_sizes))


def _context_ids(clips: list[np.ndarray], k: int, names: tuple[str, ...], lag_rows: int) -> np.ndarray:
    """Return int64 ``[rows]``: equal numbers for equal contexts, 0 upwards."""
    ids = np.zeros(sum(len(rows) for rows in clips), dtype=np.int64)
    for name in names:
        if name == "above" and k > 0:
            values = np.concatenate([rows[:, k - 1] for rows in clips])
        elif name == "above" and "previous" in names:
            continue
        else:
            values = np.concatenate([_shifted(rows[:, k], lag_rows) for rows in clips])
        ids = np.unique(ids * (values.max(initial=0) + 2) + values + 1, return_inverse=True)[1]
    return ids


def _shifted(codes: np.ndarray, lag_rows: int) -> np.ndarray:
    """Return the codes `lag_rows` before, -1 where there are none."""
    return np.concatenate([np.full(min(lag_rows, len(codes)), -1), codes[: max(0, len(codes) - lag_rows)]])


def _probabilities(
    codes: np.ndarray,
    chain: list[np.ndarray],
    codebook_size: int,
    counted: np.ndarray,
    num_trained: int,
    smoothing: str,
) -> np.ndarray:
    """Return the probability of each token from `num_trained` on, float64.

    All counts are of what comes before a token and is marked in `counted`, so one computation serves fixed and
    adaptive models: without marks on held-out tokens, "before" is the training set.

    Args:
        codes: int64 ``[N]`` of one codebook, the training set first.
        chain: Context of each token, int64 ``[N]``, from the shortest to the longest.
        codebook_size: ``V``.
        counted: bool ``[N]``, what may be learned from.
        num_trained: Tokens of the training set.
        smoothing: One of `SMOOTHINGS`.
    """
    pairs = [np.unique(ids * codebook_size + codes, return_inverse=True)[1] for ids in chain]
    marks = [counted] * len(chain)
    if smoothing == "kneser_ney":
        for level in range(len(chain) - 2, -1, -1):  # below the longest, each longer pair counts once
            marks[level] = marks[level + 1] & (_before(pairs[level + 1], marks[level + 1]) == 0)
    probability = np.full(len(codes) - num_trained, 1 / codebook_size)
    for ids, pair, mark in zip(chain, pairs, marks, strict=True):
        seen = _before(pair, mark)
        total = _before(ids, mark)[num_trained:]
        distinct = _before(ids, mark & (seen == 0))[num_trained:]
        count = seen[num_trained:]
        if smoothing == "witten_bell":
            weight, kept, norm = distinct, count, total + distinct
        else:
            discount = _discount(seen, mark)[num_trained:]
            weight, kept, norm = discount * distinct, np.maximum(count - discount, 0), total
        mixed = (kept + weight * probability) / np.maximum(norm, 1)
        probability = np.where(total > 0, mixed, probability)
    return probability


def _before(groups: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return int64 ``[N]``: how many marked elements of the same group come before each one."""
    order = np.argsort(groups, kind="stable")
    running = np.cumsum(marks[order]) - marks[order]
    group_starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    lengths = np.diff(group_starts, append=len(groups))
    result = np.empty(len(groups), dtype=np.int64)
    result[order] = running - np.repeat(running[group_starts], lengths)
    return result


def _discount(seen: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return Kneser and Ney's discount before each token, float64 ``[N]``, above 0 and below 1.

    Source: Ney, Essen and Kneser, On structuring probabilistic dependences in stochastic language modelling, 1994,
    with one added to both numbers, which keeps it defined before any pair is seen.
    """
    once = np.where(seen == 0, 1, np.where(seen == 1, -1, 0)) * marks  # what a token does to n1
    twice = np.where(seen == 1, 1, np.where(seen == 2, -1, 0)) * marks
    n1, n2 = np.cumsum(once) - once, np.cumsum(twice) - twice
    return (n1 + 1) / (n1 + 2 * n2 + 2)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnsupportedInput(f"{what}={value!r} is unknown; choose one of {', '.join(choices)}.")
