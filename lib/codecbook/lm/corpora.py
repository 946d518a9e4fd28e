"""Bundled corpora of tokens: open one by its codec, split the way it was meant.

A clip is on the side of the split that its codec was trained on, or on the other::

tokens = bundled_tokens("encodec_24khz")
report = train(tokens.train, tokens.held_out, "run")
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codecbook.codecs.corpus_index import ClipRow, CorpusEntry, read_index
from codecbook.errors import UnsupportedInput
from codecbook.lm.data import Corpus
from codecbook.lm.layout import Layout, natural_order
from codecbook.tokens.parquet import iterate_tokens

__all__ = ["BundledTokens", "bundled_tokens", "natural_order"]


@dataclass(frozen=True)
class BundledTokens:
    """A codec's tokens on both sides of the split.

    Attributes:
        train: Clips to train on.
        held_out: Clips that neither the language model nor the codec was trained on.
        entry: What the index says of them.
        clips: What it says of each clip, in the order of `train` and then `held_out`.
    """

    train: Corpus
    held_out: Corpus
    entry: CorpusEntry
    clips: tuple[ClipRow, ...]

    @property
    def layout(self) -> Layout:
        """How rows become tokens."""
        assert self.train.layout is not None
        return self.train.layout


def bundled_tokens(
    codec: str,
    order: str | None = None,
    num_codebooks: int | None = None,
    folder: str | Path | None = None,
    keep: Callable[[ClipRow], bool] = lambda row: True,
) -> BundledTokens:
    """Open the tokens of a codec.

    Args:
        codec: Registry name of the codec.
        order: One of `codecbook.lm.layout.ORDERS`; None takes the `natural_order` of its codebooks.
        num_codebooks: Only the first so many codebooks; None takes all.
        folder: Folder of corpora; None takes ``data/tokens``.
        keep: Says of each clip whether it is wanted, such as ``lambda row: row.domain == "speech"``.

    Raises:
        MissingWeights: There are no tokens of this codec.
        CorruptInput: A file is damaged, or not the one that the index describes.
        UnsupportedInput: An order that does not fit, or no clips on one side.
    """
    index = read_index(folder)
    path = index.path(codec)
    if order is None:
        order = natural_order(next(iterate_tokens(path))[1])
    corpus = Corpus.from_files(path, order, num_codebooks)
    sides = {
        split: [name for name in corpus.clips if index.clips[name].split == split and keep(index.clips[name])]
        for split in ("train", "held_out")
    }
    empty = [split for split, names in sides.items() if not names]
    if empty:
        raise UnsupportedInput(f"No clips of {path} are in {empty[0]!r}; keep more of them.")
    rows = tuple(index.clips[name] for names in sides.values() for name in names)
    return BundledTokens(
        corpus.subset(sides["train"]), corpus.subset(sides["held_out"]), index.entry(codec), rows
    )
