"""The bits-per-second study: the same speech, one small model of equal trunk on each stream of tokens.

    parts = split_clips(rows)
    for stream in streams:
        learned = learn(stream, parts, StudyRecipe(), folder / stream.key)
        print(stream.label, rate_of(learned, texts)["bits_per_s"])

Every stream is of the same clips, so the streams differ in tokens and in work as they fall out. `StudyRecipe` is one
pass over them, as the published study has it; `CONVERGED` goes on until the validation clips cost no less.

What is charged is a code: beside the model there are counts, a mixture of both, context mixing, and the raw codes, and
the shortest is the bound to go by. The weights, the kind of counts and the mixture are chosen on validation clips, so
that the scored clips decide nothing but which code is named shortest.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from codecbook.codecs.corpus.index import ClipRow
from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.mixing import mixing_bits
from codecbook.lm.baselines.ngrams import count_bits
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.models import RVQTransformer
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM, num_trunk_parameters
from codecbook.lm.training.options import Evaluation, TrainOptions
from codecbook.lm.training.train import train
from codecbook.measure.rates.streams import Stream
from codecbook.models.store import tensors_sha256
from codecbook.models.weights import num_parameters
from codecbook.recordings import held_out
from codecbook.training.schedule import Budget

MODEL, COUNTS, MIXTURE, MIXING, RAW = "model", "Kneser-Ney pairs", "model and counts", "context mixing", "raw codes"
CODES = (MODEL, COUNTS, MIXTURE, MIXING, RAW)
"""What streams are charged by."""

_MAX_CONTEXT_WASTE = 1.25
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class StudyRecipe:
    """How every stream's model is made. Only tables differ between streams.

    The learning rate warms up over 5 % of the steps, stays, and falls by a half cosine over the last of them (`decay`).
    Clips that are longer than the context are read in pieces, each from its own beginning. A row of K columns counts as
    K tokens of the context, so that the same codes in a row and one by one are seen over the same time.
    """

    dim: int = 128  # width of the trunk; feed-forward layers have four times that
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    context_tokens: int = 384  # at most
    passes: float = 1.0  # over the training clips
    tokens_per_step: int = 4096  # at most; short corpora take less, for 100 steps a pass
    overlap: int = 1  # windows that every token is in, over several passes
    learning_rate: float = 3e-3  # peak
    decay: float = 0.1  # share of the steps
    average: float = 0.99  # of the averaged weights, per step
    evaluations: int = 4  # looks at the validation clips
    validation_tokens: int = 6000  # of those clips that are looked at, about
    precision: str = "float32"
    seed: int = 0  # of parameters, dropout and order

    def arguments(self, stream: Stream, context_rows: int) -> dict[str, Any]:
        """Return the model's arguments, for `codecbook.lm.models.build_lm`, without its codebooks."""
        trunk = {
            "dim": self.dim, "layers": self.layers, "heads": self.heads, "hidden": 4 * self.dim,
            "dropout": self.dropout,
        }  # fmt: skip
        if stream.architecture == "tiny_gpt":
            return {**trunk, "context": context_rows, "places": list(stream.places)}
        return {**trunk, "window_frames": context_rows, "head_dim": self.dim, "head_hidden": 2 * self.dim}


CONVERGED = StudyRecipe(
    dropout=0.1, passes=12, overlap=3, decay=0.4, average=0.998, evaluations=12, validation_tokens=40_000,
    precision="bfloat16",
)  # fmt: skip


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
        raise UnsupportedInput(f"Speakers {shared[:3]} are on both sides of the split; split by speaker.")
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
    """What one model made of one stream, with the weights that were chosen, and what other codes made of it."""

    stream: Stream
    clips: tuple[str, ...]  # names of the test clips, in order
    level_bits: Mapping[str, np.ndarray]  # by code (`CODES`), float64 [clips, levels]: bits of each test clip by level
    level_tokens: np.ndarray  # int64 [clips, levels]
    durations_s: np.ndarray  # float64 [clips]
    trunk_parameters: int  # N
    row_parameters: int  # N and those of networks between the trunk and the tables, as often as a row runs them
    tokens_seen: int  # in training, repetitions counted
    passes: float  # over the training clips
    evaluations: tuple[Evaluation, ...]  # on validation clips, in order
    distinct_share: float  # of the codes, those that occur in the training clips, mean over columns
    weights_sha256: str  # of the model's tensors, hex

    @property
    def num_levels(self) -> int:
        """Levels of the stream."""
        return self.level_tokens.shape[1]

    @property
    def raw_level_bits(self) -> np.ndarray:
        """What the codes take without any model, ``log2 V`` of their level each, float64 ``[clips, levels]``."""
        return self.level_tokens * np.log2(np.array(self.stream.level_sizes, dtype=np.float64))

    @property
    def shortest(self) -> tuple[str, ...]:
        """The code that takes the fewest bits in all test clips, by level; one of them stores codes raw."""
        return tuple(
            min(self.level_bits, key=lambda code: self.level_bits[code][:, level].sum())
            for level in range(self.num_levels)
        )

    @property
    def shortest_bits(self) -> np.ndarray:
        """What the shortest code of each level takes, float64 ``[clips, levels]``."""
        return np.stack([self.level_bits[code][:, level] for level, code in enumerate(self.shortest)], axis=1)

    def bits_per_token(self, code: str) -> float:
        """Return bits of all test clips over their tokens, by one code."""
        return float(self.level_bits[code].sum() / self.level_tokens.sum())


def learn(
    stream: Stream,
    parts: ClipParts,
    recipe: StudyRecipe,
    folder: str | Path,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Learned:
    """Train a model on a stream, which has all clips of `parts`, and charge the test clips by it and by `CODES`.

    The folder is for checkpoints, of this stream alone; `say` takes lines of progress.

    Raises:
        UnsupportedInput: A clip that the stream does not have, or settings that cannot be.
        CodecbookError: Training diverged for good.
    """
    training, validation = stream.corpus.subset(parts.train), stream.corpus.subset(parts.validation)
    turns = len(stream.places) // len(training.codebook_sizes)  # rows of a frame
    longest = max(turns, recipe.context_tokens // len(training.codebook_sizes))
    context = context_rows(training.clip_rows, min(longest, validation.num_rows), turns)
    batch_size, steps = batches(training, context, recipe)
    stride = max(1, context // recipe.overlap // turns) * turns
    options = TrainOptions(
        budget=Budget(steps=steps), context_frames=context, stride_frames=stride,
        batch_size=batch_size, learning_rate=recipe.learning_rate, warmup=0.05, decay=recipe.decay,
        ema_decay=recipe.average, seed=recipe.seed, evaluations=recipe.evaluations, precision=recipe.precision,
        report_every_s=60, checkpoint_every_s=120,
    )  # fmt: skip
    report = train(
        training, leading_clips(validation, recipe.validation_tokens), folder, stream.architecture,
        recipe.arguments(stream, context), options, device, say=say,
    )  # fmt: skip
    test = stream.columns.subset(parts.test)
    bits = charged(stream, report.model, parts)
    return Learned(
        stream=stream, clips=test.clips,
        level_bits={code: by_level(stream, test, each) for code, each in bits.items()},
        level_tokens=by_level(stream, test, np.ones((test.num_rows, len(stream.places)))).astype(np.int64),
        durations_s=test.clip_durations_s, trunk_parameters=num_trunk_parameters(report.model),
        row_parameters=row_parameters(report.model), tokens_seen=report.evaluations[-1].tokens_seen,
        passes=report.evaluations[-1].tokens_seen / training.num_tokens, evaluations=report.evaluations,
        distinct_share=distinct_share(stream.columns.subset(parts.train)),
        weights_sha256=tensors_sha256(report.model.state_dict()),
    )  # fmt: skip


def context_rows(clip_rows: np.ndarray, longest: int, multiple: int = 1) -> int:
    """Return how many rows a window shall have, given those of the clips, int64 ``[clips]``; at most `longest`.

    It is a multiple of a number, and at least that.

    Clips that are shorter than a window are filled up, and filling costs as much as tokens. The context is the largest
    at which windows have at most a quarter more rows than the clips.
    """
    longest = min(longest, int(clip_rows.max()))
    for context in range(longest // multiple * multiple, multiple, -multiple):
        windows = np.ceil(clip_rows / context).sum()
        if windows * context <= _MAX_CONTEXT_WASTE * clip_rows.sum():
            return context
    return multiple


def batches(corpus: Corpus, context: int, recipe: StudyRecipe) -> tuple[int, int]:
    """Return windows per step, and steps, that come to the recipe's passes."""
    tokens_per_window = corpus.num_tokens / len(Windows(corpus, context))
    per_step = min(recipe.tokens_per_step, corpus.num_tokens / 100)
    batch_size = max(1, round(per_step / tokens_per_window))
    return batch_size, math.ceil(recipe.passes * corpus.num_tokens / (batch_size * tokens_per_window))


def leading_clips(corpus: Corpus, num_tokens: int) -> Corpus:
    """Return the first clips that come to this many tokens together, at least one, or all."""
    before = np.cumsum(corpus.clip_rows) - corpus.clip_rows
    count = int(np.count_nonzero(before * len(corpus.codebook_sizes) < num_tokens))
    return corpus.subset(corpus.clips[: max(1, count)])


def charged(stream: Stream, model: TokenLM, parts: ClipParts) -> dict[str, np.ndarray]:
    """Return what every token of the test clips takes by each of `CODES`, bits, float64 ``[rows, columns]``."""
    train, validation, test = map(stream.columns.subset, (parts.train, parts.validation, parts.test))
    known, wanted = ({MODEL: model_bits(stream, model, of.clips)} for of in (validation, test))
    for of, bits in ((validation, known), (test, wanted)):
        kinds = {kind: count_bits(train, of, kind) for kind in ("unigram", "bigram", "in_frame")}
        if of is validation:  # the kind that does best in each column
            best = {k: min(kinds, key=lambda kind: kinds[kind][:, k].sum()) for k in range(len(stream.places))}
        bits[COUNTS] = np.stack([kinds[kind][:, k] for k, kind in best.items()], axis=1)
    wanted[MIXTURE] = np.stack(
        [
            mixed(wanted[MODEL][:, k], wanted[COUNTS][:, k], mixture_share(known[MODEL][:, k], known[COUNTS][:, k]))
            for k in range(len(stream.places))
        ],
        axis=1,
    )
    wanted[MIXING] = mixing_bits(test, train)
    sizes = np.array(stream.level_sizes)[list(stream.places)]
    wanted[RAW] = np.broadcast_to(np.log2(sizes.astype(np.float64)), (test.num_rows, len(sizes)))
    return wanted


def model_bits(stream: Stream, model: TokenLM, clips: Iterable[str]) -> np.ndarray:
    """Return the bits of every token of clips under a model, float64 ``[rows, columns]``, in the columns' order."""
    corpus = stream.corpus.subset(clips)
    bits = [token_bits(model, corpus.clip(i)).reshape(-1, len(stream.places)) for i in range(len(corpus))]
    return np.concatenate(bits)


def mixed(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Return the bits of tokens under ``share p + (1 - share) q``, of their bits under p and q."""
    return -np.log2(share * np.exp2(-first) + (1.0 - share) * np.exp2(-second))


def mixture_share(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share at which tokens take the fewest bits under a mixture (`mixed`)."""
    found: Any = scipy.optimize.minimize_scalar(
        lambda share: mixed(first, second, share).sum(), bounds=(1e-3, 1 - 1e-3), method="bounded"
    )
    return float(found.x)


def by_level(stream: Stream, clips: Corpus, values: np.ndarray) -> np.ndarray:
    """Sum values of tokens, float ``[rows, columns]``, up by clip and level, float64 ``[clips, levels]``."""
    owners = np.repeat(np.arange(len(clips)), clips.clip_rows)
    sums = np.zeros((len(clips), len(stream.level_sizes)))
    for column, level in zip(values.T, stream.places, strict=True):
        sums[:, level] += np.bincount(owners, column, minlength=len(clips))
    return sums


def row_parameters(model: TokenLM) -> int:
    """Return ``N`` and the parameters between trunk and tables, those of a network once a code times the codes."""
    total = num_trunk_parameters(model)
    if isinstance(model, RVQTransformer) and model.conditioned:
        network = (model.head_norm, model.head_feed_forward, model.logits_norm)
        total += num_parameters(model.project) + model.num_codebooks * sum(map(num_parameters, network))
    return total


def fewer(parts: ClipParts, share: float, durations_s: Mapping[str, float]) -> ClipParts:
    """Return the same sides with a share of the training time, nested: a smaller share is part of a larger one."""
    order = sorted(parts.train, key=lambda clip: hashlib.sha256(clip.encode()).digest())
    before_s = np.cumsum([0.0, *(durations_s[clip] for clip in order)])
    count = int(np.count_nonzero(before_s[:-1] < share * before_s[-1]))
    kept = set(order[: max(1, count)])
    return replace(parts, train=tuple(clip for clip in parts.train if clip in kept))


def distinct_share(corpus: Corpus) -> float:
    """Return the share of the codes of each column that occur, mean over columns."""
    rows = corpus.rows()
    shares = [len(np.unique(rows[:, k])) / size for k, size in enumerate(corpus.codebook_sizes)]
    return float(np.mean(shares))
