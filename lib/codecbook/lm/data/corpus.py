"""`Corpus`: token files as rows for a language model, split by clip or speaker.

    train, held_out = Corpus.from_files("tokens", order="parallel").split(held_out_every=10)
    rows = train.clip(0)  # [T, K]

A *row* is what the model sees at one step: a frame of K codes, or a single one in flat orders
(`codecbook.tokens.layout`). Opening files reads and checks them once and lays the rows of all clips end to end in a
temporary file, which is memory-mapped: a corpus may be larger than memory, but not than the folder for temporary files
(the environment variable ``TMPDIR`` names another).

For a corpus of many hours, `Corpus.pack` keeps this once for all in a folder, which `Corpus.from_files` opens at once:
``rows.bin``, the rows of all clips as little-endian numbers; ``clips.parquet``, with name, rows, duration and identity;
``packed.json``, which says of which codec, in which order, and is written last.
"""

import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import new_file, read_json, write_file
from codecbook.lm.data.sources import check_same_codec, find_files, read_clips
from codecbook.recordings import content_identity, held_out
from codecbook.tokens import TokenFormat, Tokens
from codecbook.tokens.layout import Layout
from codecbook.tokens.text import TextTokens

PACKED_NAME = "packed.json"
_ROWS_NAME, _CLIPS_NAME = "rows.bin", "clips.parquet"


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Clips of tokens of one codec in one order; parts of a corpus share one memory map."""

    clips: tuple[str, ...]  # names, in the order of the files
    clip_rows: np.ndarray  # int64 [clips]
    clip_durations_s: np.ndarray  # float64 [clips]
    codebook_sizes: tuple[int, ...]  # V of each column of the rows; one for flat orders and text
    layout: Layout | None  # how codes become rows and rows become `Tokens`; None for text
    _mapped: np.ndarray
    _starts: np.ndarray  # first row of each clip in the map
    _identities: np.ndarray | None = None  # see `identities`; None where they have not been packed

    @classmethod
    def from_files(
        cls,
        paths: str | Path | Iterable[str | Path],
        order: str = "parallel",
        num_codebooks: int | None = None,
        bark: bool = False,
    ) -> "Corpus":
        """Open NPQ, Parquet and NPZ files, folders that are searched to the bottom, sorted, or one folder of `pack`.

        Clips are named by their path without suffix, relative to the files' common folder; in Parquet they have names.
        The order is one of `codecbook.tokens.layout.ORDERS`; `num_codebooks` takes so many of each clip, from the
        first; with `bark`, NPZ files are speaker prompts of Bark.

        Raises:
            UnsupportedInput: No files, another suffix, NPZ without `bark`, two clips of one name, clips of several
                codecs, or an order that does not fit them.
            CorruptInput: A damaged file.
        """
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        if len(paths) == 1 and (Path(paths[0]) / PACKED_NAME).is_file():
            return cls._packed(Path(paths[0]), order, num_codebooks)
        files = find_files(paths)
        return cls._of_tokens(read_clips(files, bark), order, num_codebooks)

    @classmethod
    def from_tokens(
        cls, tokens: Mapping[str, Tokens], order: str = "parallel", num_codebooks: int | None = None
    ) -> "Corpus":
        """Take tokens in memory, by clip name; arguments and errors as for `from_files`."""
        return cls._of_tokens(tokens.items(), order, num_codebooks)

    @classmethod
    def from_text(cls, texts: Mapping[str, TextTokens]) -> "Corpus":
        """Take tokens of text, all of one vocabulary, by clip name, as rows of one column."""
        sizes = {text.vocabulary_size for text in texts.values()}
        if len(sizes) != 1:
            raise UnsupportedInput(f"Texts have the vocabulary sizes {sorted(sizes)}; give clips of one tokenizer.")
        rows = ((name, text.ids[:, None], text.duration_s) for name, text in texts.items())
        return cls._of_rows(rows, tuple(sizes), None)

    @classmethod
    def _of_tokens(cls, clips: Iterable[tuple[str, Tokens]], order: str, num_codebooks: int | None) -> "Corpus":
        if num_codebooks is not None:
            clips = ((name, tokens.leading(num_codebooks)) for name, tokens in clips)
        clips = iter(clips)
        first = next(clips, None)
        if first is None:
            raise UnsupportedInput("A corpus needs at least one clip; received none.")
        layout = Layout(order, replace(first[1].format, source_bitrate_kbps=None))

        def rows() -> Iterable[tuple[str, np.ndarray, float]]:
            for name, tokens in itertools.chain([first], clips):
                check_same_codec(first[0], layout.format, name, tokens)
                yield name, layout.to_rows(tokens), tokens.duration_s

        return cls._of_rows(rows(), layout.codebook_sizes, layout)

    @classmethod
    def _of_rows(
        cls, clips: Iterable[tuple[str, np.ndarray, float]], codebook_sizes: Sequence[int], layout: Layout | None
    ) -> "Corpus":
        dtype = np.dtype(np.uint16 if max(codebook_sizes) <= 1 << 16 else np.int64)
        members: dict[str, tuple[int, float]] = {}  # rows and duration by name
        with tempfile.TemporaryFile() as file:
            for name, rows, duration_s in clips:
                if name in members:
                    raise UnsupportedInput(f"Two clips are named {name!r}; give each a name of its own.")
                members[name] = len(rows), duration_s
                file.write(rows.astype(dtype).tobytes())
            file.flush()
            clip_rows = np.array([rows for rows, _ in members.values()], dtype=np.int64)
            clip_durations_s = np.array([duration_s for _, duration_s in members.values()], dtype=np.float64)
            shape = int(clip_rows.sum()), len(codebook_sizes)
            # an empty file cannot be mapped
            mapped = np.memmap(file, dtype, "r", shape=shape) if shape[0] else np.zeros(shape, dtype)
        return cls(
            tuple(members), clip_rows, clip_durations_s, tuple(codebook_sizes), layout,
            np.asarray(mapped), np.cumsum(clip_rows) - clip_rows,
        )  # fmt: skip

    def pack(self, folder: str | Path) -> None:
        """Write a whole corpus of tokens to a folder, from which `from_files` maps it as it lies there."""
        assert self.layout is not None, "of tokens, not of text"
        assert len(self._mapped) == self.num_rows, "all of a corpus"
        folder = Path(folder)
        (folder / PACKED_NAME).unlink(missing_ok=True)
        with new_file(folder / _ROWS_NAME, overwrite=True) as path:
            self._mapped.astype(self._mapped.dtype.newbyteorder("<"), copy=False).tofile(path)
        columns = {
            "clip": self.clips, "rows": self.clip_rows, "duration_s": self.clip_durations_s,
            "identity": self.identities,
        }  # fmt: skip
        with new_file(folder / _CLIPS_NAME, overwrite=True) as path:
            pd.DataFrame(columns).to_parquet(path)
        about = {"order": self.layout.order, "dtype": self._mapped.dtype.name, "format": asdict(self.layout.format)}
        write_file(folder / PACKED_NAME, json.dumps(about, indent=2) + "\n", overwrite=True)

    @classmethod
    def _packed(cls, folder: Path, order: str, num_codebooks: int | None) -> "Corpus":
        about = read_json(folder / PACKED_NAME, dict, "pack the corpus again")
        try:
            layout, dtype = Layout(about["order"], TokenFormat(**about["format"])), np.dtype(about["dtype"])
            table = pd.read_parquet(folder / _CLIPS_NAME)
            clip_rows, K = table["rows"].to_numpy(), len(layout.codebook_sizes)
            rows = np.memmap(folder / _ROWS_NAME, dtype.newbyteorder("<"), "r", shape=(int(clip_rows.sum()), K))
            if rows.nbytes != (folder / _ROWS_NAME).stat().st_size:
                raise ValueError(f"{_ROWS_NAME} has more bytes than its clips")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise CorruptInput(f"{folder} is no packed corpus, or damaged ({error}); pack it again.") from error
        if order != layout.order or num_codebooks not in (None, layout.format.num_codebooks):
            raise UnsupportedInput(
                f"order={order!r} with num_codebooks={num_codebooks} is not how {folder} was packed: "
                f"{layout.order!r}, {layout.format.num_codebooks} codebooks; pack the tokens again."
            )
        return cls(
            tuple(table["clip"]), clip_rows, table["duration_s"].to_numpy(), layout.codebook_sizes, layout,
            np.asarray(rows), np.cumsum(clip_rows) - clip_rows, table["identity"].to_numpy(),
        )  # fmt: skip

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

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """SHA-256, hex, of each clip's first codebook, which tells clips apart in whatever order and by any name."""
        if self._identities is not None:
            return tuple(self._identities)
        clips = (self.clip(index) for index in range(len(self)))
        return tuple(
            content_identity(rows[:, 0] if self.layout is None else self.layout.to_tokens(rows).codes[0])
            for rows in clips
        )

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        return (
            f"Corpus({len(self)} clips, {self.num_tokens} tokens, {self.duration_s:.1f} s, codebook_sizes="
            f"{self.codebook_sizes}, {self.frame_rate_hz:g} rows/s)"
        )

    def clip(self, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the rows of a clip, or some of them, as int64 ``[T, K]``."""
        first = self._starts[index]
        return self._mapped[first : first + self.clip_rows[index]][start:stop].astype(np.int64)

    def rows(self, count: int | None = None) -> np.ndarray:
        """Return the first `count` rows, or all, of the clips laid end to end, as int64 ``[rows, K]``."""
        clips = [self._mapped[first : first + rows] for first, rows in zip(self._starts, self.clip_rows, strict=True)]
        return np.concatenate(clips)[:count].astype(np.int64)

    def split(self, held_out_every: int = 10, by: str = "clip") -> tuple["Corpus", "Corpus"]:
        """Return (train, held out): one label in this many is held out, by `codecbook.recordings.held_out`.

        Clips of one label stay together, and stay where they are when others are added or removed. Windows of one clip
        never fall on both sides: what a model memorises of a clip would then count as skill. `held_out_every` 10 holds
        out a tenth of the labels on average, and at least one. With `by` ``"clip"`` the label is the clip's identity,
        else the first group (or whole match) of a regular expression searched in its name, such as a speaker. Raises
        UnsupportedInput: `held_out_every` below 2, a single label, so that one side would be empty, or a name in which
        the expression is not found.
        """
        if held_out_every < 2:
            raise UnsupportedInput(f"held_out_every={held_out_every} leaves nothing to train on; choose 2 or more.")
        labels = self.identities if by == "clip" else [_label(name, by) for name in self.clips]
        distinct = set(labels)
        if len(distinct) < 2:
            what = "distinct content(s)" if by == "clip" else f"label(s) ({', '.join(distinct)})"
            raise UnsupportedInput(f"{len(self)} clips have {len(distinct)} {what}, too few for two sides; add clips.")
        apart = held_out(distinct, 1 / held_out_every)
        is_held_out = np.array([label in apart for label in labels])
        return self._part(~is_held_out), self._part(is_held_out)

    def subset(self, names: Iterable[str]) -> "Corpus":
        """Return some of the clips, in the order of this corpus; raise UnsupportedInput for none, or unknown names."""
        wanted = set(names)
        unknown = sorted(wanted - set(self.clips))
        if unknown or not wanted:
            raise UnsupportedInput(
                f"Clips {unknown[:5]} are not in this corpus; choose from .clips." if unknown else "No clip was named."
            )
        return self._part(np.array([name in wanted for name in self.clips]))

    def in_turn(self) -> "Corpus":
        """Return the same codes one a row, column after column; rows no longer become `Tokens`."""
        K = len(self.codebook_sizes)
        return replace(
            self, clip_rows=self.clip_rows * K, codebook_sizes=(max(self.codebook_sizes),), layout=None,
            _mapped=self._mapped.reshape(-1, 1), _starts=self._starts * K,
        )  # fmt: skip

    def _part(self, chosen: np.ndarray) -> "Corpus":
        names = tuple(itertools.compress(self.clips, chosen))
        columns = {name: getattr(self, name)[chosen] for name in ("clip_rows", "clip_durations_s", "_starts")}
        identities = None if self._identities is None else self._identities[chosen]
        return replace(self, clips=names, _identities=identities, **columns)


def _label(name: str, by: str) -> str:
    try:
        match = re.search(by, name)
    except re.error as error:
        raise UnsupportedInput(f"by={by!r} is no regular expression ({error}); correct it.") from error
    if match is None:
        raise UnsupportedInput(f"by={by!r} is not found in the clip name {name!r}; give one that fits every name.")
    return match.group(1) if match.re.groups else match.group()
