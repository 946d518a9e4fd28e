"""`Stream`: one way of writing speech as tokens, whatever it is of: text, or a codec's codes in some order.

Streams differ in how many tokens a second they have, of how many kinds, in how many levels;
`codecbook.measure.rates.study` trains a model of equal size on each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from codecbook import audio
from codecbook.audio import convert
from codecbook.codecs.base import Codec
from codecbook.errors import MissingWeights, require_one_of
from codecbook.lm.data.corpus import Corpus
from codecbook.recordings import find_recordings
from codecbook.tokens import Tokens
from codecbook.tokens.text import TextBpe, TextTokens

TEXT_ORDER = "text"
_IN_TURN = {"flat": "parallel", "orpheus": "grouped"}  # a code a row, and the layout that has its frames as rows
CODE_ORDERS = ("parallel", "grouped", "bytes", *_IN_TURN)


@dataclass(frozen=True, eq=False)
class Stream:
    """Tokens of many clips as one model reads them.

    In the orders ``"flat"`` and ``"orpheus"`` codes of a frame come one after the other, and their levels are known by
    their places.
    """

    name: str  # registry name of the codec, or of the text's vocabulary
    order: str  # one of `CODE_ORDERS`, or "text"
    columns: Corpus  # a frame a row
    places: tuple[int, ...]  # level of each column
    level_sizes: tuple[int, ...]  # V of each level: codebooks, coarsest first; bytes of a code; one level of text
    weights: str  # which weights made the tokens; for text, where the vocabulary is from

    @cached_property
    def corpus(self) -> Corpus:
        """The same tokens as the model reads them."""
        return self.columns.in_turn() if self.order in _IN_TURN else self.columns

    @property
    def label(self) -> str:
        """Name and order, for readers."""
        return self.name.replace("_", ", ") if self.order == TEXT_ORDER else f"{self.name}, {self.order}"

    @property
    def key(self) -> str:
        """Name and order, for keys of results."""
        return self.name if self.order == TEXT_ORDER else f"{self.name}_{self.order}"

    @property
    def raw_bits_per_token(self) -> float:
        """What a token takes without any model: ``log2 V`` of its level, mean over the places of a frame."""
        return float(np.mean(np.log2(np.array(self.level_sizes)[list(self.places)])))

    @property
    def architecture(self) -> str:
        """The model for it."""
        return "tiny_gpt" if len(self.corpus.codebook_sizes) == 1 else "rvq_transformer"

    @property
    def nominal_tokens_per_s(self) -> float | None:
        """Tokens per second by the codec's frame rates; None for text, which has none."""
        if self.columns.layout is None:
            return None
        return self.columns.layout.frame_rate_hz * len(self.places)


def code_stream(name: str, tokens: Mapping[str, Tokens], order: str, num_codebooks: int | None = None) -> Stream:
    """Make a stream of a codec's tokens by clip name, in one of `CODE_ORDERS`.

    Of the codebooks the leading `num_codebooks` are kept, where there are more; None keeps all.

    Raises:
        UnsupportedInput: An order that is unknown or does not fit the tokens.
    """
    require_one_of("order", order, CODE_ORDERS)
    if num_codebooks is not None:
        tokens = {clip: each.leading(min(num_codebooks, each.num_codebooks)) for clip, each in tokens.items()}
    first = next(iter(tokens.values()))
    columns = Corpus.from_tokens(tokens, _IN_TURN.get(order, order))
    count = len(columns.codebook_sizes)
    if order == "bytes":
        places, sizes = tuple(range(count)), columns.codebook_sizes
    else:
        assert columns.layout is not None
        places, sizes = columns.layout.levels, first.codebook_sizes
    return Stream(name, order, columns, places, sizes, first.weights)


def text_stream(name: str, bpe: TextBpe, texts: Mapping[str, str], durations_s: Mapping[str, float]) -> Stream:
    """Make a stream of what is said, by clip name, in a vocabulary that is fitted to no clip that is held out.

    No token marks the end of a text, as codec streams have none either.
    """
    rows = {clip: TextTokens(bpe.encode(text), bpe.vocabulary_size, durations_s[clip]) for clip, text in texts.items()}
    return Stream(name, TEXT_ORDER, Corpus.from_text(rows), (0,), (bpe.vocabulary_size,), bpe.name)


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
            f"{len(absent)} of {len(clips)} recordings, such as {absent[0]}, are not below {folder}; give their folder."
        )
    kbps = next((b for b in sorted(codec.bandwidths_kbps) if codec.num_codebooks_at(b) >= 8), None)
    tokens = {}
    for clip in clips:
        recording = audio.load(paths[PurePosixPath(clip).name])
        tokens[clip] = codec.encode(convert(recording, codec.sample_rate_hz, codec.channels), kbps)
    return tokens
