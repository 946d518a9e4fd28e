"""Bundled corpora of tokens: open one by its codec, split the way it was meant.

A clip is on the side of the split that its codec was trained on, or on the other::

tokens = bundled_tokens("encodec_24khz")
report = train(tokens.train, tokens.held_out, "run")
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codecbook.codecs.corpus.index import SPLITS, ClipRow, CorpusEntry, read_index
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens.layout import Layout, natural_order
from codecbook.tokens.parquet import iterate_tokens

__all__ = ["BundledTokens", "bundled_tokens", "natural_order"]


@dataclass(frozen=True)
class BundledTokens:
    """A codec's tokens on both sides of the split."""

    train: Corpus
    held_out: Corpus  # clips that neither the language model nor the codec was trained on
    entry: CorpusEntry  # what the index says of them
    clips: tuple[ClipRow, ...]  # what it says of each clip, in the order of `train` and then `held_out`

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
        order: One of `codecbook.tokens.layout.ORDERS`; None takes the `natural_order` of its codebooks.
        num_codebooks: Only this many codebooks, from the first; None takes all.
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
    kept = [index.clips[name] for name in corpus.clips if keep(index.clips[name])]
    sides = [[row for row in kept if row.split == split] for split in SPLITS]
    for split, rows in zip(SPLITS, sides, strict=True):
        if not rows:
            raise UnsupportedInput(f"No clips of {path} are in {split!r}; keep more of them.")
    train, held_out = (corpus.subset(row.clip for row in rows) for rows in sides)
    return BundledTokens(train, held_out, index.entry(codec), tuple(sides[0] + sides[1]))
