"""Bundled corpora of tokens, on both sides of the split: what their codec was trained on, and what not."""

import functools
from dataclasses import dataclass
from pathlib import Path

from codecbook.codecs.corpus.index import SPLITS, ClipRow, CorpusEntry, read_index
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens.layout import Layout, natural_order
from codecbook.tokens.parquet import iterate_tokens


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

    def by_novelty(self) -> tuple[Corpus | None, Corpus | None]:
        """Return the held-out clips of speakers and pieces that no training clip has, and the others; None for none.

        They are not to be averaged: of 76 clips in ``data/tokens``, 40 are of the one voice that was trained on too.
        """
        heard = {row.speaker for row in self.clips if row.split == "train" and row.speaker}
        known = {row.clip for row in self.clips if row.speaker in heard}
        new, old = ([clip for clip in self.held_out.clips if (clip in known) is side] for side in (False, True))
        return (self.held_out.subset(new) if new else None), (self.held_out.subset(old) if old else None)


def bundled_tokens(codec: str, num_codebooks: int | None = None, folder: str | Path | None = None) -> BundledTokens:
    """Open the tokens of a codec, by its registry name, in the `natural_order` of its codebooks.

    `num_codebooks` None takes all, else so many from the first. The folder of corpora is by default ``data/tokens``.
    No clips on one side raise UnsupportedInput; else errors are those of
    `codecbook.codecs.corpus.index.TokenIndex.path`.
    """
    index = read_index(folder)
    path = index.path(codec)
    state = path.stat()
    corpus = _opened(path, num_codebooks, state.st_mtime_ns, state.st_size)
    rows = [index.clips[name] for name in corpus.clips]
    sides = [[row for row in rows if row.split == split] for split in SPLITS]
    for split, side in zip(SPLITS, sides, strict=True):
        if not side:
            raise UnsupportedInput(f"No clips of {path} are in {split!r}; the index must have some on both sides.")
    train, held_out = (corpus.subset(row.clip for row in side) for side in sides)
    return BundledTokens(train, held_out, index.entry(codec), tuple(sides[0] + sides[1]))


@functools.lru_cache(maxsize=4)
def _opened(path: Path, num_codebooks: int | None, *_state: int) -> Corpus:
    """Open a file, once as long as it stays as it is: notebooks ask for the same tokens several times."""
    return Corpus.from_files(path, natural_order(next(iterate_tokens(path))[1]), num_codebooks)
