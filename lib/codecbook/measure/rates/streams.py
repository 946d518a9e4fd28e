"""`Stream`: one way of writing speech as tokens, whatever it is of: text, or a codec's codes in some order.

Streams differ in how many tokens a second they have, of how many kinds, in how many levels;
`codecbook.measure.rates.study` trains a model of equal size on each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from codecbook import audio
from codecbook.audio import convert
from codecbook.codecs.base import Codec
from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.recordings import find_recordings
from codecbook.tokens import Tokens
from codecbook.tokens.text import TextBpe, TextTokens

TEXT_ORDER = "text"
# orders that mix levels in one column, and the order that gives each level or place a column of its own
_BY_COLUMN = {"flat": "parallel", "orpheus": "grouped"}
CODE_ORDERS = ("parallel", "bytes", *_BY_COLUMN)


@dataclass(frozen=True, eq=False)
class Stream:
    """Tokens of many clips as one model reads them."""

    name: str  # registry name of the codec, or of the text's vocabulary
    order: str  # one of `CODE_ORDERS`, or "text"
    corpus: Corpus
    columns: Corpus  # the same tokens, each level (or place in SNAC's tree) in a column of its own, for counting
    level_sizes: tuple[int, ...]  # V of each level: codebooks, coarsest first; bytes of a code; one level of text
    weights: str  # which weights made the tokens; for text, where the vocabulary is from

    @property
    def label(self) -> str:
        """Name and order, for readers."""
        return self.name.replace("_", ", ") if self.order == TEXT_ORDER else f"{self.name}, {self.order}"

    @property
    def key(self) -> str:
        """Name and order, for keys of results."""
        return self.name if self.order == TEXT_ORDER else f"{self.name}_{self.order}"

    @property
    def vocabulary_size(self) -> int:
        """Values that one token can have: for levels in one column, of all levels together."""
        return self.corpus.codebook_sizes[0]

    @property
    def architecture(self) -> str:
        """The model for it."""
        return "tiny_gpt" if len(self.corpus.codebook_sizes) == 1 else "rvq_transformer"

    @property
    def nominal_tokens_per_s(self) -> float | None:
        """Tokens per second by the codec's frame rates; None for text, which has none."""
        if self.corpus.layout is None:
            return None
        return self.corpus.layout.frame_rate_hz * len(self.corpus.codebook_sizes)

    def levels(self, rows: np.ndarray) -> np.ndarray:
        """Return the level of each token, int64 ``[T, K]``, for rows int64 ``[T, K]`` of `corpus`."""
        if self.order in _BY_COLUMN:
            # each level's codes were moved up by the sizes of those before it
            return np.searchsorted(np.cumsum(self.level_sizes), rows, side="right")
        return np.broadcast_to(np.arange(rows.shape[1]), rows.shape)


def code_stream(name: str, tokens: Mapping[str, Tokens], order: str, num_codebooks: int | None = None) -> Stream:
    """Make a stream of a codec's tokens by clip name, in one of `CODE_ORDERS`.

    Of the codebooks the leading `num_codebooks` are kept, where there are more; None keeps all.

    Raises:
        UnsupportedInput: An order that is unknown or does not fit the tokens.
    """
    if order not in CODE_ORDERS:
        raise UnsupportedInput(f"order={order!r} is unknown here; choose one of {', '.join(CODE_ORDERS)}.")
    if num_codebooks is not None:
        tokens = {clip: each.leading(min(num_codebooks, each.num_codebooks)) for clip, each in tokens.items()}
    first = next(iter(tokens.values()))
    corpus = Corpus.from_tokens(tokens, order)
    columns = Corpus.from_tokens(tokens, _BY_COLUMN[order]) if order in _BY_COLUMN else corpus
    sizes = corpus.codebook_sizes if order == "bytes" else first.codebook_sizes
    return Stream(name, order, corpus, columns, sizes, first.weights)


def text_stream(name: str, bpe: TextBpe, texts: Mapping[str, str], durations_s: Mapping[str, float]) -> Stream:
    """Make a stream of what is said, by clip name, in a vocabulary that is fitted to no clip that is held out.

    No token marks the end of a text, as codec streams have none either.
    """
    rows = {clip: TextTokens(bpe.encode(text), bpe.vocabulary_size, durations_s[clip]) for clip, text in texts.items()}
    corpus = Corpus.from_text(rows)
    return Stream(name, TEXT_ORDER, corpus, corpus, (bpe.vocabulary_size,), bpe.name)


def encode_recordings(codec: Codec, clips: Iterable[str], folder: str | Path) -> dict[str, Tokens]:
    """Encode the recordings of clips, found by the last part of their names below a folder.

    The bandwidth is the codec's lowest that has eight codebooks; a codec with fewer gives all.

    Raises:
        MissingWeights: A recording is not there.
        CorruptInput: A recording cannot be read.
    """
    paths = {PurePosixPath(entry.name).name: entry.path for entry in find_recordings([str(folder)])}
    clips = list(clips)
    absent = [clip for clip in clips if PurePosixPath(clip).name not in paths]
    if absent:
        raise MissingWeights(
            f"{len(absent)} of {len(clips)} recordings, such as {absent[0]}, are not below {folder}, so {codec.name} "
            "cannot encode them; give the folder that the tokens were made from."
        )
    kbps = next((b for b in sorted(codec.bandwidths_kbps) if codec.num_codebooks_at(b) >= 8), None)
    tokens = {}
    for clip in clips:
        recording = audio.load(paths[PurePosixPath(clip).name])
        tokens[clip] = codec.encode(convert(recording, codec.sample_rate_hz, codec.channels), kbps)
    return tokens
