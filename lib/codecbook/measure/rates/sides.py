"""Clips with their tokens, and the sides that they are on: to train on, to choose weights on, to measure on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from codecbook.codecs.corpus.index import ClipRow, TokenIndex
from codecbook.codecs.registry import load_codec
from codecbook.errors import CodecbookError, MissingWeights, UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.measure.rates.streams import Stream, code_stream, encode_recordings, text_stream
from codecbook.measure.rates.study import ClipParts
from codecbook.tokens import Tokens
from codecbook.tokens.layout import natural_order
from codecbook.tokens.parquet import iterate_tokens
from codecbook.tokens.text import load_gpt2_bpe, train_bpe
from codecbook.tokens.transcripts import find_transcripts

_BY_INDEX = "held out as the index says"


@dataclass(frozen=True, eq=False)
class Sides:
    """Tokens of one codec, in its natural order: what is learned from, what weights are chosen on, what they cost."""

    train: Corpus
    validation: Corpus
    test: Corpus
    known_voice: Corpus | None = None  # further held-out clips, of a voice that is trained on too
    note: str = _BY_INDEX  # how they were made, in words


@dataclass(frozen=True, eq=False)
class Material:
    """Clips, which of them are for what, and where their tokens come from."""

    rows: Mapping[str, ClipRow]  # what is known of each clip, by name
    parts: ClipParts
    texts: Mapping[str, str] = field(default_factory=dict)  # what is said in each; empty where not known of all
    voices: ClipParts | None = None  # further clips, of speakers of whom none is on two sides
    index: TokenIndex | None = None  # of the folder with their tokens; None where `tokens` holds them
    tokens: Mapping[str, Mapping[str, Tokens]] = field(default_factory=dict)  # by codec, the same clips of each
    skipped: tuple[tuple[str, str], ...] = ()  # what could not be used, and why
    note: str = _BY_INDEX  # how the sides were made, in words

    @property
    def codecs(self) -> tuple[str, ...]:
        """Codecs whose tokens are at hand."""
        return tuple(self.tokens if self.index is None else self.index.corpora)

    def with_texts(self, folder: str | Path) -> "Material":
        """Return the same with what is said (`codecbook.tokens.transcripts.find_transcripts`) where all of it is known.

        Texts of a folder that holds other things too are a convenience: one that cannot be read is no error.
        """
        try:
            known = find_transcripts(folder, self.parts.all)
        except CodecbookError:
            return self
        return replace(self, texts=known) if set(known) == set(self.parts.all) else self

    def sides(self, codec: str) -> Sides:
        """Return the clips of a codec by what they are for."""
        tokens = self.tokens[codec]
        whole = Corpus.from_tokens(tokens, natural_order(next(iter(tokens.values()))))
        return Sides(*map(whole.subset, (self.parts.train, self.parts.validation, self.parts.test)), note=self.note)

    def unnamed(self, specifications: Iterable[str]) -> list[str]:
        """Return ``codec:order``, in its natural order, of each codec of which `specifications` name no stream."""
        named = {part.partition(":")[0] for part in specifications}
        unnamed = {codec: next(iter(clips.values())) for codec, clips in self.tokens.items() if codec not in named}
        return [f"{codec}:{natural_order(first)}" for codec, first in unnamed.items()]

    def text(self, vocabulary: str, size: int, gpt2_dir: str | Path | None = None) -> Stream:
        """Make a stream of what is said, in a ``"trained"`` vocabulary of a size, or in ``"gpt2"``'s from its folder.

        The vocabulary is trained on the training clips alone. Raises MissingWeights without the text of every clip, or
        without that folder.
        """
        if not self.texts:
            raise MissingWeights("Not every clip has a transcript beside it; write what is said to NAME.txt.")
        if vocabulary != "trained" and gpt2_dir is None:
            raise MissingWeights("GPT-2's vocabulary is not here; give its folder as gpt2_dir, or set CODECBOOK_EXTRA.")
        bpe = (
            train_bpe([self.texts[clip] for clip in self.parts.train], size)
            if vocabulary == "trained"
            else load_gpt2_bpe(str(gpt2_dir))
        )
        spoken = {clip: self.texts[clip] for clip in self.parts.all}
        durations_s = {clip: self.rows[clip].duration_s for clip in spoken}
        return text_stream(f"text_{vocabulary}", bpe, spoken, durations_s)

    def stream(
        self,
        codec: str,
        order: str,
        clips: Iterable[str],
        num_codebooks: int | None = None,
        recordings_dir: str | Path | None = None,
    ) -> Stream:
        """Make a stream of clips (`code_stream`).

        Where the folder of corpora holds no tokens of the codec, they are made of the clips' recordings below
        `recordings_dir`, by pretrained weights.

        Raises:
            MissingWeights: There are no tokens of this codec, and no recordings or no pretrained weights to make them.
            UnsupportedInput: A clip that the tokens lack, or as `code_stream`.
        """
        wanted = list(dict.fromkeys(clips))
        if codec in self.tokens:
            tokens = self.tokens[codec]
        elif self.index is None:
            raise MissingWeights(f"There are no tokens of {codec}, of {', '.join(self.tokens)} alone; leave it out.")
        elif codec in self.index.corpora:
            tokens = dict(iterate_tokens(self.index.path(codec)))
            absent = sorted(set(wanted) - tokens.keys())
            if absent:
                raise UnsupportedInput(f"{len(absent)} clips, as {absent[0]}, have no tokens of {codec}; choose other.")
        elif recordings_dir is None:
            raise MissingWeights(
                f"{self.index.folder.name} holds no tokens of {codec}; give recordings_dir, or set CODECBOOK_EXTRA."
            )
        else:
            tokens = encode_recordings(load_codec(codec, "pretrained"), wanted, recordings_dir)
        return code_stream(codec, {clip: tokens[clip] for clip in wanted}, order, num_codebooks)
