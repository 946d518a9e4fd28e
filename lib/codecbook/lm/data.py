"""`Corpus`: token files as rows for a language model, split by clip or speaker, read by window.

    corpus = Corpus.from_files("tokens", order="parallel")
    train, held_out = corpus.split(held_out_every=10)
    windows = train.windows(context_frames=300, stride_frames=150)
    for chunk in np.array_split(windows.shuffled(seed=0), len(windows) // 8):
        batch = windows.batch(chunk)  # [B, T, K]

Opening a corpus makes an index (clips and their lengths); codes are read when a window wants them, so a corpus may
be larger than memory. A *row* is what the model sees at one step: a frame of K codes, or a single one in flat orders
(`codecbook.lm.layout`); ``context_frames`` and ``stride_frames`` count rows.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.layout import Layout
from codecbook.lm.shards import (
    BARK_FINE,
    NpqShard,
    NpzLayout,
    NpzShard,
    RowsShard,
    RowStore,
    Shard,
    TokensShard,
    parquet_shards,
)
from codecbook.lm.sources import SameCodec, clip_names, find_files, label_of
from codecbook.lm.windows import Windows
from codecbook.tokens import Tokens
from codecbook.tokens.text import TextTokens

__all__ = ["BARK_FINE", "Corpus", "NpzLayout", "Windows"]

CACHE_BYTES = 256 << 20
"""Default limit on rows kept in memory."""


class Corpus:
    """Clips of tokens of one codec in one order; parts of a corpus share what is kept of their files.

    Attributes:
        clips: Names, in the order of the files.
        clip_rows: int64 ``[clips]``, rows of each clip.
        clip_durations_s: float64 ``[clips]``.
        codebook_sizes: ``V`` of each column of the rows; one for flat orders and text.
        frame_rate_hz: Rows per second: the codec's, or for text, which has no rate of its own, the measured mean.
        layout: How codes become rows and rows become `Tokens`; None for text.
    """

    def __init__(
        self, store: RowStore, codebook_sizes: Sequence[int], frame_rate_hz: float, members: np.ndarray
    ) -> None:
        self._store = store
        self._members = members  # [clips, 2]: shard, and position in it
        entries = [store.shards[shard].clips[position] for shard, position in members.tolist()]
        self.clips: tuple[str, ...] = tuple(entry.name for entry in entries)
        self.clip_rows = np.array([store.num_rows(entry) for entry in entries], dtype=np.int64)
        self.clip_durations_s = np.array([entry.duration_s for entry in entries], dtype=np.float64)
        self.codebook_sizes: tuple[int, ...] = tuple(codebook_sizes)
        self.frame_rate_hz = frame_rate_hz
        self.layout: Layout | None = store.layout
        self._ends = np.cumsum(self.clip_rows)

    @classmethod
    def from_files(
        cls,
        paths: str | Path | Iterable[str | Path],
        order: str = "parallel",
        num_codebooks: int | None = None,
        npz: NpzLayout | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> "Corpus":
        """Index NPQ, Parquet and NPZ files.

        NPQ: only headers are read, and codes are checked when they are. Parquet and NPZ: all is read once, and
        checked, but not kept. Clips are named by their path without suffix, relative to the files' common folder;
        in Parquet they have names.

        Args:
            paths: Files, or folders that are searched to the bottom; files are taken in sorted order of a folder.
            order: One of `codecbook.lm.layout.ORDERS`.
            num_codebooks: Only the first so many codebooks of each clip; None takes all.
            npz: What the NPZ files hold, such as `BARK_FINE`.
            cache_bytes: Limit on rows kept in memory, beside what is being read: a Parquet row group (some 20 MB
                while it is decoded) or an NPZ file; of a large NPQ file only the frames of the window.

        Raises:
            UnsupportedInput: No files, another suffix, NPZ without `npz`, two clips of one name, clips of several
                codecs, or an order that does not fit them.
            CorruptInput: A damaged file.
        """
        files = find_files([paths] if isinstance(paths, str | Path) else paths)
        names = clip_names(files)
        check = SameCodec(num_codebooks)
        shards: list[Shard] = []
        for name, path in zip(names, files, strict=True):
            if path.suffix == ".parquet":
                shards += parquet_shards(path, check)
                continue
            shard = NpqShard(name, path) if path.suffix == ".npq" else NpzShard(name, path, npz)
            check(name, shard.template)
            shards.append(shard)
        return cls._of_tokens(shards, order, check, cache_bytes)

    @classmethod
    def from_tokens(
        cls,
        tokens: Mapping[str, Tokens],
        order: str = "parallel",
        num_codebooks: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> "Corpus":
        """Take tokens in memory, by clip name; arguments as in `from_files`.

        Raises:
            UnsupportedInput: No clips, clips of several codecs, or an order that does not fit them.
        """
        check = SameCodec(num_codebooks)
        for name, clip in tokens.items():
            check(name, clip)
        shards = [TokensShard(name, clip) for name, clip in tokens.items()]
        return cls._of_tokens(shards, order, check, cache_bytes)

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
        shards = [RowsShard(name, text.ids[:, None], text.duration_s) for name, text in texts.items()]
        num_tokens = sum(len(text.ids) for text in texts.values())
        rate_hz = num_tokens / sum(text.duration_s for text in texts.values())
        return cls._of_shards(shards, None, tuple(sizes), rate_hz, CACHE_BYTES)

    @classmethod
    def _of_tokens(cls, shards: Sequence[Shard], order: str, check: SameCodec, cache_bytes: int) -> "Corpus":
        if check.template is None:
            raise UnsupportedInput("A corpus needs at least one clip; received none.")
        layout = Layout(order, check.template)
        return cls._of_shards(shards, layout, layout.codebook_sizes, layout.frame_rate_hz, cache_bytes)

    @classmethod
    def _of_shards(
        cls,
        shards: Sequence[Shard],
        layout: Layout | None,
        codebook_sizes: Sequence[int],
        frame_rate_hz: float,
        cache_bytes: int,
    ) -> "Corpus":
        store = RowStore(shards, layout, codebook_sizes, cache_bytes)
        members = [(i, position) for i, shard in enumerate(shards) for position in range(len(shard.clips))]
        corpus = cls(store, codebook_sizes, frame_rate_hz, np.array(members, dtype=np.int64).reshape(-1, 2))
        names = sorted(corpus.clips)
        for first, second in itertools.pairwise(names):
            if first == second:
                raise UnsupportedInput(f"Two clips are named {first!r}; give each a name of its own.")
        return corpus

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

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        return (
            f"Corpus({len(self)} clips, {self.num_tokens} tokens, {self.duration_s:.1f} s, codebook_sizes="
            f"{self.codebook_sizes}, {self.frame_rate_hz:g} rows/s)"
        )

    def clip(self, index: int) -> np.ndarray:
        """Return all rows of a clip as int64 ``[T, K]``.

        Raises:
            CorruptInput: The file is damaged or was altered since it was indexed.
            UnsupportedInput: No such clip.
        """
        if not 0 <= index < len(self):
            raise UnsupportedInput(f"Clip {index} was asked for; choose 0 to {len(self) - 1}.")
        shard, position = self._members[index].tolist()
        return self._store.read(shard, position, 0, int(self.clip_rows[index]))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start <= t < stop`` of all clips laid end to end, as int64 ``[stop - start, K]``.

        Raises:
            UnsupportedInput: Not ``0 <= start <= stop <= num_rows``.
            CorruptInput: A file is damaged or was altered since it was indexed.
        """
        if not 0 <= start <= stop <= self.num_rows:
            raise UnsupportedInput(
                f"Rows {start} to {stop} were asked for; choose within 0 to {self.num_rows}."
            )
        parts = []
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            clip_end = int(self._ends[index])
            clip_start = clip_end - int(self.clip_rows[index])
            end = min(stop, clip_end)
            shard, position = self._members[index].tolist()
            parts.append(self._store.read(shard, position, start - clip_start, end - clip_start))
            start, index = end, index + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.codebook_sizes)), dtype=np.int64)

    def split(
        self, held_out_every: int = 10, by: str | Callable[[str], str] = "clip"
    ) -> tuple["Corpus", "Corpus"]:
        """Return (train, held out): every so-many-th label in sorted order, from the first on, is held out.

        Clips of one label stay together. Windows of one clip never fall on both sides: what a model learns by heart
        of a clip would then count as skill.

        Args:
            held_out_every: 10 holds out labels 0, 10, 20, ...
            by: ``"clip"`` (each clip is its own label), a function of the clip's name, or a regular expression that
                is searched in it, whose first group (or else whole match) is the label, such as a speaker.

        Raises:
            UnsupportedInput: `held_out_every` below 2, a single label, so that one side would be empty, or a name
                in which the expression is not found.
        """
        if held_out_every < 2:
            raise UnsupportedInput(
                f"held_out_every={held_out_every} leaves nothing to train on; choose 2 or more."
            )
        labels = [label_of(name, by) for name in self.clips]
        distinct = sorted(set(labels))
        if len(distinct) < 2:
            raise UnsupportedInput(
                f"The {len(self)} clips have {len(distinct)} label(s) ({', '.join(distinct)}), so one side of the "
                "split would be empty; add clips, or split by something that differs."
            )
        held_out = set(distinct[::held_out_every])
        is_held_out = np.array([label in held_out for label in labels])
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
                f"Clips {unknown[:5]} are not in this corpus; choose from .clips."
                if unknown
                else "No clip was named."
            )
        return self._part(np.array([name in wanted for name in self.clips]))

    def windows(self, context_frames: int, stride_frames: int | None = None, packed: bool = False) -> Windows:
        """Return sliding windows; see `codecbook.lm.windows.Windows`.

        Args:
            context_frames: Rows of a window, ``T``.
            stride_frames: Rows from one window's start to the next; None is `context_frames`, so that every row is
                in one window.
            packed: Lay all clips end to end and cut windows across their seams, as is usual for text, whose clips
                are short and end in a token of their own. False: a window belongs to one clip.

        Raises:
            UnsupportedInput: Lengths out of range, or a corpus shorter than the context.
        """
        return Windows(
            self, context_frames, context_frames if stride_frames is None else stride_frames, packed
        )

    def pools(self) -> np.ndarray:
        """Return int64 ``[clips, 2]``: the shard of each clip, and the bytes it takes to keep that shard.

        For `Windows.shuffled`, which draws windows so that shards are not read again and again.
        """
        sizes = np.array([self._store.shard_bytes(i) for i in range(len(self._store.shards))], dtype=np.int64)
        return np.stack([self._members[:, 0], sizes[self._members[:, 0]]], axis=1)

    @property
    def cache_bytes(self) -> int:
        """Limit on rows kept in memory."""
        return self._store.cache_bytes

    def _part(self, chosen: np.ndarray) -> "Corpus":
        part = Corpus(self._store, self.codebook_sizes, self.frame_rate_hz, self._members[chosen])
        if self.layout is None and part.duration_s:
            part.frame_rate_hz = part.num_rows / part.duration_s
        return part
