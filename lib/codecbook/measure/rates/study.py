"""The bits-per-second study: the same speech, one small model of equal size on each stream of tokens.

    parts = split_clips(rows)
    for stream in streams:
        learned = learn(stream, parts, StudyRecipe(), folder / stream.key)
        print(stream.label, rate_of(learned, texts)["bits_per_s"])

Every model sees the same number of tokens, which is the same training work in trunks of equal shape (a row of several
columns counts as several tokens), unless `StudyRecipe.max_passes` over its clips come first: more of them only memorise
the few tokens of a short text. The weights that are scored are chosen on validation clips, so that the
scored clips decide nothing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.codecs.corpus.index import ClipRow
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.ngrams import count_model
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM, num_trunk_parameters
from codecbook.lm.training.options import Evaluation, TrainOptions
from codecbook.lm.training.train import train
from codecbook.measure.rates.streams import Stream
from codecbook.recordings import held_out
from codecbook.training.schedule import Budget

_MAX_CONTEXT_WASTE = 1.25
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class StudyRecipe:
    """How every stream's model is made. Only table sizes differ between streams.

    The learning rate warms up over 5 % of the steps, stays, and falls by a half cosine over the last 40 %. Clips that
    are longer than the context are read in pieces, each from its own beginning. A row of K columns counts as K tokens
    of the context, so that the same codes in a row and one by one are seen over the same time.
    """

    dim: int = 128  # width of the trunk; feed-forward layers have four times that
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    context_tokens: int = 256  # at most
    train_tokens: int = 60_000  # that training sees, repetitions counted
    max_passes: int = 12  # over the training clips
    tokens_per_step: int = 256  # at most; short corpora take less, for 20 steps a pass
    learning_rate: float = 3e-3  # peak
    evaluations: int = 6  # looks at the validation clips
    validation_tokens: int = 4000  # of those clips that are looked at, about
    seed: int = 0  # of parameters, dropout and order

    def arguments(self, architecture: str, context_rows: int) -> dict[str, Any]:
        """Return the model's arguments, for `codecbook.lm.models.build_lm`, without its codebooks."""
        trunk = {
            "dim": self.dim, "layers": self.layers, "heads": self.heads, "hidden": 4 * self.dim,
            "dropout": self.dropout,
        }  # fmt: skip
        if architecture == "tiny_gpt":
            return {**trunk, "context": context_rows}
        return {**trunk, "window_frames": context_rows, "head_dim": self.dim, "head_hidden": 2 * self.dim}


@dataclass(frozen=True)
class ClipParts:
    """Names of clips on the three sides of a study; no clip, and no one of several speakers, is on two of them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """All names."""
        return self.train + self.validation + self.test


def split_clips(rows: Iterable[ClipRow]) -> ClipParts:
    """Test on the clips that are held out, validate on some of the others, train on the rest.

    A clip's label is its speaker, where there are several; a clip of the only speaker is a label of its own. One label
    in ten is validated on, on average, and at least one (`codecbook.recordings.held_out`).

    Raises:
        UnsupportedInput: A side would be empty, or one of several speakers is on both sides of the given split.
    """
    rows = sorted(rows, key=lambda row: row.clip)
    speakers = {row.speaker for row in rows}
    labels = {row.clip: row.speaker if len(speakers) > 1 and row.speaker else row.clip for row in rows}
    test = [row.clip for row in rows if row.split == "held_out"]
    others = [row.clip for row in rows if row.split != "held_out"]
    shared = sorted({labels[clip] for clip in test} & {labels[clip] for clip in others})
    if shared:
        raise UnsupportedInput(
            f"Speakers {shared[:3]} are among the clips that are held out and among the others; split by speaker."
        )
    validated = held_out({labels[clip] for clip in others}, _VALIDATION_SHARE)
    parts = ClipParts(
        tuple(clip for clip in others if labels[clip] not in validated),
        tuple(clip for clip in others if labels[clip] in validated),
        tuple(test),
    )
    if not (parts.train and parts.validation and parts.test):
        raise UnsupportedInput(
            f"{len(parts.train)}, {len(parts.validation)} and {len(parts.test)} clips to train, validate and test on; "
            "none may be 0: give more clips, with some held out."
        )
    return parts


@dataclass(frozen=True, eq=False)
class Learned:
    """What one model made of one stream, with the weights that were chosen."""

    stream: Stream
    clips: tuple[str, ...]  # names of the test clips, in order
    level_bits: np.ndarray  # float64 [clips, levels], bits of each test clip by level
    level_tokens: np.ndarray  # int64 [clips, levels]
    durations_s: np.ndarray  # float64 [clips]
    unigram_bits_per_token: float  # by each level's (or column's) own code frequencies in the training clips
    # by the frequencies of the stream's tokens, whatever their place: what a model of it has to beat
    stream_unigram_bits_per_token: float
    bigram_bits_per_token: float  # the better of the code before and the level above, with back-off
    trunk_parameters: int  # N
    tokens_seen: int  # in training, repetitions counted
    passes: float  # over the training clips
    evaluations: tuple[Evaluation, ...]  # on validation clips, in order
    distinct_share: float  # of the codes, those that occur in the training clips, mean over columns

    @property
    def bits_per_token(self) -> float:
        """Bits of all test clips over their tokens."""
        return float(self.level_bits.sum() / self.level_tokens.sum())

    @property
    def level_bits_per_s(self) -> np.ndarray:
        """Bits per second by level, float64 ``[levels]``; their sum is that of the stream."""
        return self.level_bits.sum(axis=0) / self.durations_s.sum()


def learn(
    stream: Stream,
    parts: ClipParts,
    recipe: StudyRecipe,
    folder: str | Path,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Learned:
    """Train a model on a stream, which has all clips of `parts`, and score the test clips with it.

    The folder is for checkpoints, of this stream alone; `say` takes lines of progress.

    Raises:
        UnsupportedInput: A clip that the stream does not have, or settings that cannot be.
        CodecbookError: Training diverged for good.
    """
    training, validation, test = map(stream.corpus.subset, (parts.train, parts.validation, parts.test))
    longest = max(1, recipe.context_tokens // len(training.codebook_sizes))
    context = context_rows(training.clip_rows, min(longest, validation.num_rows))
    batch_size, steps = batches(training, context, recipe)
    options = TrainOptions(
        budget=Budget(steps=steps), context_frames=context, stride_frames=context, batch_size=batch_size,
        learning_rate=recipe.learning_rate, warmup=0.05, decay=0.4, ema_decay=0.99, seed=recipe.seed,
        evaluations=recipe.evaluations, report_every_s=1e9, checkpoint_every_s=1e9,
    )  # fmt: skip
    report = train(
        training, leading_clips(validation, recipe.validation_tokens), folder, stream.architecture,
        recipe.arguments(stream.architecture, context), options, device, say=say,
    )  # fmt: skip
    level_bits, level_tokens = score_levels(stream, report.model, test)
    columns = stream.columns.subset(parts.train), stream.columns.subset(parts.test)
    counted = {kind: count_model(*columns, kind=kind).bits_per_token for kind in ("unigram", "bigram", "in_frame")}
    return Learned(
        stream=stream,
        clips=test.clips,
        level_bits=level_bits,
        level_tokens=level_tokens,
        durations_s=test.clip_durations_s,
        unigram_bits_per_token=counted["unigram"],
        stream_unigram_bits_per_token=count_model(training, test, "unigram").bits_per_token,
        bigram_bits_per_token=min(counted["bigram"], counted["in_frame"]),
        trunk_parameters=num_trunk_parameters(report.model),
        tokens_seen=report.evaluations[-1].tokens_seen,
        passes=report.evaluations[-1].tokens_seen / training.num_tokens,
        evaluations=report.evaluations,
        distinct_share=distinct_share(columns[0]),
    )


def context_rows(clip_rows: np.ndarray, longest: int) -> int:
    """Return how many rows a window shall have, given those of the clips, int64 ``[clips]``; at most `longest`.

    Clips that are shorter than a window are filled up, and filling costs as much as tokens. The context is the largest
    at which windows have at most a quarter more rows than the clips.
    """
    longest = min(longest, int(clip_rows.max()))
    for context in range(longest, 0, -1):
        windows = np.ceil(clip_rows / context).sum()
        if windows * context <= _MAX_CONTEXT_WASTE * clip_rows.sum():
            return context
    return 1


def batches(corpus: Corpus, context: int, recipe: StudyRecipe) -> tuple[int, int]:
    """Return windows per step, and steps, that come to the recipe's tokens or passes, whichever are fewer."""
    windows = len(Windows(corpus, context))
    tokens_per_window = corpus.num_tokens / windows
    per_step = min(recipe.tokens_per_step, corpus.num_tokens / 20)
    batch_size = max(1, round(per_step / tokens_per_window))
    tokens = min(recipe.train_tokens, recipe.max_passes * corpus.num_tokens)
    return batch_size, max(recipe.evaluations, math.ceil(tokens / (batch_size * tokens_per_window)))


def leading_clips(corpus: Corpus, num_tokens: int) -> Corpus:
    """Return the first clips that come to this many tokens together, at least one, or all."""
    before = np.cumsum(corpus.clip_rows) - corpus.clip_rows
    count = int(np.count_nonzero(before * len(corpus.codebook_sizes) < num_tokens))
    return corpus.subset(corpus.clips[: max(1, count)])


def score_levels(stream: Stream, model: TokenLM, test: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Return bits, float64 ``[clips, levels]``, and tokens, int64 of the same shape, of each test clip."""
    bits = np.zeros((len(test), len(stream.level_sizes)))
    tokens = np.zeros(bits.shape, dtype=np.int64)
    for clip in range(len(test)):
        rows = test.clip(clip)
        levels = stream.levels(rows).ravel()
        costs = token_bits(model, rows).ravel()
        bits[clip] = np.bincount(levels, costs, minlength=bits.shape[1])
        tokens[clip] = np.bincount(levels, minlength=bits.shape[1])
    return bits, tokens


def distinct_share(corpus: Corpus) -> float:
    """Return the share of the codes of each column that occur, mean over columns."""
    rows = corpus.rows()
    shares = [len(np.unique(rows[:, k])) / size for k, size in enumerate(corpus.codebook_sizes)]
    return float(np.mean(shares))
