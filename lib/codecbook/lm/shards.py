"""Where rows of tokens come from: NPQ, Parquet and NPZ files, or arrays; indexed first, read on demand.

A shard is what is read in one piece: an NPQ or NPZ file, a row group of a Parquet file, or arrays in memory.
`RowStore` keeps the rows that were read last, up to a limit in bytes.
"""

import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codecbook.codecs.token_files import read_companion
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.layout import Layout, without_codes
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.npq import inspect_npq, open_npq
from codecbook.tokens.parquet import iterate_row_groups, read_row_group


@dataclass(frozen=True)
class NpzLayout:
    """How codes stand in NPZ files, which say nothing about themselves.

    Attributes:
        key: Name of the array, integers ``[K, T]`` or ``[T]``.
        codebook_size: ``V`` of all codebooks.
        frame_rate_hz: Frames per second.
        codec: Registry name of the codec, so that sampled tokens can be decoded; empty where unknown.
    """

    key: str
    codebook_size: int  # codes
    frame_rate_hz: float  # Hz
    codec: str = ""


BARK_FINE = NpzLayout("fine_prompt", 1024, 75.0, "encodec_24khz")
"""EnCodec tokens in the speaker prompts of Bark, uint16 ``[8, T]``."""


@dataclass(frozen=True)
class ClipEntry:
    """What the index knows of a clip before any of its codes are read.

    Attributes:
        name: Name of the clip.
        num_frames: Frames of the first codebook (rows, where a shard is made of rows).
        duration_s: Duration in seconds.
    """

    name: str
    num_frames: int  # frames
    duration_s: float  # s


class Shard(ABC):
    """Clips that are read in one piece.

    Attributes:
        clips: Their index entries, in order.
    """

    clips: tuple[ClipEntry, ...]

    @abstractmethod
    def load(self, layout: Layout | None) -> list[np.ndarray]:
        """Return the rows of each clip, integers ``[T, K]``."""

    def load_part(self, layout: Layout, start: int, stop: int) -> np.ndarray | None:
        """Return rows ``start`` to ``stop`` of the only clip without reading the rest; None where all must be read."""
        return None


class RowsShard(Shard):
    """One clip in memory."""

    def __init__(self, name: str, rows: np.ndarray, duration_s: float) -> None:
        self.clips = (ClipEntry(name, len(rows), duration_s),)
        self._rows = rows

    def load(self, layout: Layout | None) -> list[np.ndarray]:
        """Return the rows that were given."""
        return [self._rows]


class TokensShard(Shard):
    """One clip's `Tokens` in memory."""

    def __init__(self, name: str, tokens: Tokens) -> None:
        self.clips = (_entry(name, tokens),)
        self._tokens = tokens

    def load(self, layout: Layout | None) -> list[np.ndarray]:
        """Return the rows of the tokens."""
        return [_rows(layout, self._tokens)]


class NpqShard(Shard):
    """One NPQ file; its companion, where there is one, says which codec made it.

    Attributes:
        template: Tokens without codes.
    """

    def __init__(self, name: str, path: Path) -> None:
        header = inspect_npq(path)
        companion = read_companion(path)
        about = companion.tokens if companion else {}
        self._path = path
        self.clips = (ClipEntry(name, header.num_frames, header.duration_s),)
        self.template = tokens_from_frames(
            np.zeros((0, header.num_codebooks), dtype=np.int64),
            header.codebook_sizes,
            header.frame_rate_hz,
            codec=about.get("codec", ""),
            weights=about.get("weights", ""),
            sample_rate_hz=about.get("sample_rate_hz", 0),
            channels=about.get("channels", header.channels),
            bandwidth_kbps=about.get("bandwidth_kbps"),
            mid_codebooks=header.mid_codebooks,
        )

    def load(self, layout: Layout | None) -> list[np.ndarray]:
        """Return the rows of the whole file."""
        return [self._read(layout, 0, self.clips[0].num_frames)]

    def load_part(self, layout: Layout, start: int, stop: int) -> np.ndarray:
        """Return some rows, seeking to the frames that hold them."""
        per_frame = layout.rows_per_frame
        first_frame = start // per_frame
        rows = self._read(layout, first_frame, -(-stop // per_frame))
        return rows[start - first_frame * per_frame : stop - first_frame * per_frame]

    def _read(self, layout: Layout | None, start: int, stop: int) -> np.ndarray:
        with open_npq(self._path) as reader:
            if reader.header.num_frames != self.clips[0].num_frames:
                raise _changed(self._path)
            frames = reader.read_frames(start, stop)
        sizes = self.template.codebook_sizes
        return _rows(layout, tokens_from_frames(frames, sizes, self.template.frame_rates_hz[0]))


class NpzShard(Shard):
    """One NPZ file of Bark's kind; compressed, so it is read whole, for the index too.

    Attributes:
        template: Tokens without codes.
    """

    def __init__(self, name: str, path: Path, layout: NpzLayout | None) -> None:
        if layout is None:
            raise UnsupportedInput(
                f"{path} is NPZ, which does not say what it holds; pass npz=NpzLayout(key, codebook_size, "
                "frame_rate_hz), or npz=BARK_FINE for Bark's prompts."
            )
        self._path, self._layout = path, layout
        tokens = self._read()
        self.clips = (_entry(name, tokens),)
        self.template = without_codes(tokens)

    def load(self, layout: Layout | None) -> list[np.ndarray]:
        """Return the rows of the file."""
        tokens = self._read()
        if len(tokens.codes[0]) != self.clips[0].num_frames:
            raise _changed(self._path)
        return [_rows(layout, tokens)]

    def _read(self) -> Tokens:
        about = self._layout
        try:
            # opened here, as numpy leaves the file open where it is no zip archive
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                if about.key not in archive.files:
                    raise UnsupportedInput(
                        f"{self._path} has the arrays {', '.join(archive.files)} and no {about.key!r}; name one "
                        "of them in NpzLayout."
                    )
                codes = archive[about.key]
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, AttributeError) as error:
            raise CorruptInput(
                f"{self._path} could not be read as NPZ ({error}); copy or make it again."
            ) from error
        except UnsupportedInput:
            raise
        except ValueError as error:  # numpy's word for a bad header, and for pickled objects
            raise CorruptInput(f"{self._path} holds no plain arrays ({error}); make it again.") from error
        try:
            frames = np.atleast_2d(codes).T
            return tokens_from_frames(frames, about.codebook_size, about.frame_rate_hz, codec=about.codec)
        except (CorruptInput, UnsupportedInput) as error:
            raise type(error)(f"{self._path}, array {about.key!r}: {error}") from None


class ParquetShard(Shard):
    """One row group of a Parquet file of tokens."""

    def __init__(self, path: Path, index: int, tokens: dict[str, Tokens]) -> None:
        self._path, self._index = path, index
        self.clips = tuple(_entry(name, clip) for name, clip in tokens.items())

    def load(self, layout: Layout | None) -> list[np.ndarray]:
        """Return the rows of all clips of the row group."""
        clips = read_row_group(self._path, self._index)
        if tuple(_entry(name, clip) for name, clip in clips.items()) != self.clips:
            raise _changed(self._path)
        return [_rows(layout, clip) for clip in clips.values()]


def parquet_shards(path: Path, check: Callable[[str, Tokens], None]) -> Iterator[ParquetShard]:
    """Index a Parquet file, which is read once for it: lengths are not stored apart from codes.

    Args:
        path: The file.
        check: Called with the name of each clip and its tokens without codes; raises for what does not belong.
    """
    for index, clips in enumerate(iterate_row_groups(path)):
        for name, tokens in clips.items():
            check(name, without_codes(tokens))
        yield ParquetShard(path, index, clips)


class RowStore:
    """Rows of any clip, read when they are asked for; those of the last shards stay, up to `cache_bytes`.

    Safe to use from several threads; a copy for another process (pickle) begins with nothing kept.

    Args:
        shards: What to read from.
        layout: How codes become rows; None where the shards give rows.
        codebook_sizes: Of the rows' columns.
        cache_bytes: Limit on what is kept. The shard in use is kept even where it is larger alone, unless a part
            of it can be read (NPQ).
    """

    def __init__(
        self, shards: Sequence[Shard], layout: Layout | None, codebook_sizes: Sequence[int], cache_bytes: int
    ) -> None:
        self.shards = tuple(shards)
        self.layout = layout
        self.cache_bytes = cache_bytes
        self._dtype = np.dtype(np.uint16 if max(codebook_sizes) <= 1 << 16 else np.int64)
        self._row_bytes = len(codebook_sizes) * self._dtype.itemsize
        self._kept: OrderedDict[int, list[np.ndarray]] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def num_rows(self, clip: ClipEntry) -> int:
        """Return how many rows a clip has."""
        return clip.num_frames * (self.layout.rows_per_frame if self.layout else 1)

    def shard_bytes(self, shard: int) -> int:
        """Return what keeping a shard takes."""
        return self._row_bytes * sum(self.num_rows(clip) for clip in self.shards[shard].clips)

    def read(self, shard: int, position: int, start: int, stop: int) -> np.ndarray:
        """Return rows ``start`` to ``stop`` of a shard's clip as int64 ``[stop - start, K]``.

        Raises:
            CorruptInput: The file is damaged or was altered since it was indexed.
        """
        # a large file would push everything else out for the sake of one window
        if self.layout is not None and self.shard_bytes(shard) > self.cache_bytes // 16:
            part = self.shards[shard].load_part(self.layout, start, stop)
            if part is not None:
                return part
        return self._shard_rows(shard)[position][start:stop].astype(np.int64)

    def _shard_rows(self, shard: int) -> list[np.ndarray]:
        with self._lock:
            if shard in self._kept:
                self._kept.move_to_end(shard)
                return self._kept[shard]
            # room first, so that the limit holds while the new rows arrive
            while self._kept and self._kept_bytes + self.shard_bytes(shard) > self.cache_bytes:
                dropped, _ = self._kept.popitem(last=False)
                self._kept_bytes -= self.shard_bytes(dropped)
            rows = [clip.astype(self._dtype) for clip in self.shards[shard].load(self.layout)]
            self._kept[shard] = rows
            self._kept_bytes += self.shard_bytes(shard)
            return rows

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_lock"]
        return {**state, "_kept": OrderedDict(), "_kept_bytes": 0}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _rows(layout: Layout | None, tokens: Tokens) -> np.ndarray:
    assert layout is not None
    return layout.to_rows(tokens.leading(layout.template.num_codebooks))


def _entry(name: str, tokens: Tokens) -> ClipEntry:
    return ClipEntry(name, len(tokens.codes[0]), tokens.duration_s)


def _changed(path: Path) -> CorruptInput:
    return CorruptInput(f"{path} was altered since it was indexed; open the corpus again.")
