"""`Corpus`: token files as rows for a language model, split by clip or speaker.

    corpus = Corpus.from_files("tokens", order="parallel")
    train, held_out = corpus.split(held_out_every=10)
    windows = Windows(train, context_frames=300, stride_frames=150)
    for chunk in np.array_split(windows.shuffled(seed=0), len(windows) // 8):
        batch = windows.batch(chunk)  # [B, T, K]

A *row* is what the model sees at one step: a frame of K codes, or a single one in flat orders
(`codecbook.tokens.layout`); ``context_frames`` and ``stride_frames`` count rows. Opening files reads and checks them
once and lays the rows of all clips end to end in a temporary file, which is memory-mapped: a corpus may be larger than
memory, but not than the folder for temporary files (the environment variable ``TMPDIR`` names another).
"""

import itertools
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.data.sources import BARK_FINE, NpzLayout, check_same_codec, find_files, read_clips
from codecbook.recordings import content_identity, held_out
from codecbook.tokens import Tokens
from codecbook.tokens.layout import Layout
from codecbook.tokens.text import TextTokens

__all__ = ["BARK_FINE", "Corpus", "NpzLayout"]


class _Clip(NamedTuple):
    name: str
    start: int  # first row in the memory map
    num_rows: int
    duration_s: float


class Corpus:
    """Clips of tokens of one codec in one order; parts of a corpus share one memory map.

    Attributes:
        clips: Names, in the order of the files.
        clip_rows: int64 ``[clips]``, rows of each clip.
        clip_durations_s: float64 ``[clips]``.
        codebook_sizes: ``V`` of each column of the rows; one for flat orders and text.
        layout: How codes become rows and rows become `Tokens`; None for text.
    """

    def __init__(
        self,
        mapped: np.ndarray,
        members: Sequence[_Clip],
        codebook_sizes: Sequence[int],
        layout: Layout | None,
        identities: dict[str, str],
    ) -> None:
        self._mapped, self._members, self._identities = mapped, members, identities
        self.clips: tuple[str, ...] = tuple(clip.name for clip in members)
        self.clip_rows = np.array([clip.num_rows for clip in members], dtype=np.int64)
        self.clip_durations_s = np.array([clip.duration_s for clip in members], dtype=np.float64)
        self.codebook_sizes: tuple[int, ...] = tuple(codebook_sizes)
        self.layout = layout
        self._ends = np.cumsum(self.clip_rows)

    @classmethod
    def from_files(
        cls,
        paths: str | Path | Iterable[str | Path],
        order: str = "parallel",
        num_codebooks: int | None = None,
        npz: NpzLayout | None = None,
    ) -> "Corpus":
        """Open NPQ, Parquet and NPZ files.

        Clips are named by their path without suffix, relative to the files' common folder; in Parquet they have names.

        Args:
            paths: Files, or folders that are searched to the bottom; files are taken in sorted order of a folder.
            order: One of `codecbook.tokens.layout.ORDERS`.
            num_codebooks: Only this many codebooks of each clip, from the first; None takes all.
            npz: What the NPZ files hold, such as `BARK_FINE`.

        Raises:
            UnsupportedInput: No files, another suffix, NPZ without `npz`, two clips of one name, clips of several
                codecs, or an order that does not fit them.
            CorruptInput: A damaged file.
        """
        files = find_files([paths] if isinstance(paths, str | Path) else paths)
        return cls._of_tokens(read_clips(files, npz), order, num_codebooks)

    @classmethod
    def from_tokens(
        cls, tokens: Mapping[str, Tokens], order: str = "parallel", num_codebooks: int | None = None
    ) -> "Corpus":
        """Take tokens in memory, by clip name; arguments as in `from_files`.

        Raises:
            UnsupportedInput: No clips, clips of several codecs, or an order that does not fit them.
        """
        return cls._of_tokens(tokens.items(), order, num_codebooks)

    @classmethod
    def from_text(cls, texts: Mapping[str, TextTokens]) -> "Corpus":
        """Take tokens of text, by clip name, as rows of one column.

        Raises:
            UnsupportedInput: No clips, or clips of several vocabularies.
        """
        sizes = {text.vocabulary_size for text in texts.values()}
        if len(sizes) != 1:
            raise UnsupportedInput(
                f"Texts of {len(texts)} clips have the vocabulary sizes {sorted(sizes)}; give clips of one tokenizer."
            )
        rows = ((name, text.ids[:, None], text.duration_s) for name, text in texts.items())
        return cls._of_rows(rows, tuple(sizes), None)

    @classmethod
    def _of_tokens(cls, clips: Iterable[tuple[str, Tokens]], order: str, num_codebooks: int | None) -> "Corpus":
        clips = iter(clips)
        first = next(clips, None)
        if first is None:
            raise UnsupportedInput("A corpus needs at least one clip; received none.")
        cut = first[1] if num_codebooks is None else first[1].leading(num_codebooks)
        layout = Layout(order, replace(cut.format, source_bitrate_kbps=None))

        def rows() -> Iterable[tuple[str, np.ndarray, float]]:
            for name, tokens in itertools.chain([first], clips):
                cut = tokens if num_codebooks is None else tokens.leading(num_codebooks)
                check_same_codec(first[0], layout.format, name, cut)
                yield name, layout.to_rows(cut), tokens.duration_s

        return cls._of_rows(rows(), layout.codebook_sizes, layout)

    @classmethod
    def _of_rows(
        cls, clips: Iterable[tuple[str, np.ndarray, float]], codebook_sizes: Sequence[int], layout: Layout | None
    ) -> "Corpus":
        dtype = np.dtype(np.uint16 if max(codebook_sizes) <= 1 << 16 else np.int64)
        members: dict[str, _Clip] = {}
        end = 0
        with tempfile.TemporaryFile() as file:
            for name, rows, duration_s in clips:
                if name in members:
                    raise UnsupportedInput(f"Two clips are named {name!r}; give each a name of its own.")
                members[name] = _Clip(name, end, len(rows), duration_s)
                end += len(rows)
                file.write(rows.astype(dtype).tobytes())
            file.flush()
            shape = end, len(codebook_sizes)
            # an empty file cannot be mapped
            mapped = np.memmap(file, dtype, "r", shape=shape) if end else np.zeros(shape, dtype)
        return cls(np.asarray(mapped), tuple(members.values()), codebook_sizes, layout, {})

    @property
    def frame_rate_hz(self) -> float:
        """Rows per second: the codec's, or for text, which has no rate of its own, the measured mean."""
        return self.tokens_per_s if self.layout is None else self.layout.frame_rate_hz

    @property
    def num_rows(self) -> int:
        """Rows of all clips."""
        return int(self.clip_rows.sum())

    @property
    def num_tokens(self) -> int:
        """Tokens of all clips: rows times columns."""
        return self.num_rows * len(self.codebook_sizes)

    @property
    def duration_s(self) -> float:
        """Duration of all clips in seconds: of the audio where its length is known, else of the codes."""
        return float(self.clip_durations_s.sum())

    @property
    def tokens_per_s(self) -> float:
        """Measured tokens per second of all clips; NaN without any."""
        return self.num_tokens / self.duration_s if self.duration_s else float("nan")

    @property
    def identities(self) -> tuple[str, ...]:
        """What tells each clip from others, whatever its name, the order and the number of codebooks.

        The SHA-256 of its first codebook, hex.
        """
        for index, name in enumerate(self.clips):
            if name not in self._identities:
                rows = self.clip(index)
                codes = rows[:, 0] if self.layout is None else self.layout.to_tokens(rows).codes[0]
                self._identities[name] = content_identity(codes)
        return tuple(self._identities[name] for name in self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        return (
            f"Corpus({len(self)} clips, {self.num_tokens} tokens, {self.duration_s:.1f} s, codebook_sizes="
            f"{self.codebook_sizes}, {self.frame_rate_hz:g} rows/s)"
        )

    def clip(self, index: int) -> np.ndarray:
        """Return all rows of a clip as int64 ``[T, K]``."""
        clip = self._members[index]
        return self._mapped[clip.start : clip.start + clip.num_rows].astype(np.int64)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start <= t < stop`` of all clips laid end to end, as int64 ``[stop - start, K]``.

        Raises:
            UnsupportedInput: Not ``0 <= start <= stop <= num_rows``.
        """
        if not 0 <= start <= stop <= self.num_rows:
            raise UnsupportedInput(f"Rows {start} to {stop} were asked for; choose within 0 to {self.num_rows}.")
        parts = [self._mapped[:0]]
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            clip = self._members[index]
            end = min(stop, int(self._ends[index]))
            # of a clip's rows, the first is here in this corpus, and there in the map
            shift = clip.start - (int(self._ends[index]) - clip.num_rows)
            parts.append(self._mapped[start + shift : end + shift])
            start, index = end, index + 1
        return np.concatenate(parts).astype(np.int64)

    def split(self, held_out_every: int = 10, by: str | Callable[[str], str] = "clip") -> tuple["Corpus", "Corpus"]:
        """Return (train, held out): one label in this many is held out, by `codecbook.recordings.held_out`.

        Clips of one label stay together, and stay where they are when others are added or removed. Windows of one
        clip never fall on both sides: what a model memorises of a clip would then count as skill.

        Args:
            held_out_every: 10 holds out a tenth of the labels on average, and at least one.
            by: ``"clip"`` (the label is the clip's identity), a function of the clip's name, or a regular expression
                that is searched in it, whose first group (or else whole match) is the label, such as a speaker.

        Raises:
            UnsupportedInput: `held_out_every` below 2, a single label, so that one side would be empty, or a name
                in which the expression is not found.
        """
        if held_out_every < 2:
            raise UnsupportedInput(f"held_out_every={held_out_every} leaves nothing to train on; choose 2 or more.")
        labels = self.identities if by == "clip" else [_label(name, by) for name in self.clips]
        distinct = set(labels)
        if len(distinct) < 2:
            what = "distinct content(s)" if by == "clip" else f"label(s) ({', '.join(distinct)})"
            raise UnsupportedInput(
                f"The {len(self)} clips have {len(distinct)} {what}, so one side of the split would be empty; add "
                "clips, or split by something that differs."
            )
        apart = held_out(distinct, 1 / held_out_every)
        is_held_out = np.array([label in apart for label in labels])
        return self._part(~is_held_out), self._part(is_held_out)

    def subset(self, names: Iterable[str]) -> "Corpus":
        """Return some of the clips, in the order of this corpus.

        Raises:
            UnsupportedInput: A name that is not here, or none at all.
        """
        wanted = set(names)
        unknown = sorted(wanted - set(self.clips))
        if unknown or not wanted:
            raise UnsupportedInput(
                f"Clips {unknown[:5]} are not in this corpus; choose from .clips." if unknown else "No clip was named."
            )
        return self._part(np.array([name in wanted for name in self.clips]))

    def _part(self, chosen: np.ndarray) -> "Corpus":
        members = tuple(itertools.compress(self._members, chosen))
        return Corpus(self._mapped, members, self.codebook_sizes, self.layout, self._identities)


def _label(name: str, by: str | Callable[[str], str]) -> str:
    if callable(by):
        return by(name)
    try:
        match = re.search(by, name)
    except re.error as error:
        raise UnsupportedInput(f"by={by!r} is no regular expression ({error}); correct it.") from error
    if match is None:
        raise UnsupportedInput(
            f"by={by!r} is not found in the clip name {name!r}; give an expression that every name matches, or a "
            "function."
        )
    return match.group(1) if match.re.groups else match.group()
