"""Token files as clips: find the files, name their clips, read them, and see that all are of one codec."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.tokens import TokenFormat, Tokens, tokens_from_frames
from codecbook.tokens.parquet import iterate_tokens
from codecbook.tokens.token_files import read_token_file

SUFFIXES = (".npq", ".parquet", ".npz")


@dataclass(frozen=True)
class NpzLayout:
    """How codes stand in NPZ files, which say nothing about themselves."""

    key: str  # name of the array, integers [K, T] or [T]
    codebook_size: int  # V of all codebooks
    frame_rate_hz: float
    codec: str = ""  # registry name, so that sampled tokens can be decoded; empty where unknown


BARK_FINE = NpzLayout("fine_prompt", 1024, 75.0, "encodec_24khz")
"""EnCodec tokens in the speaker prompts of Bark, uint16 ``[8, T]``."""


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return files as they are given, and of a folder all token files below it, sorted.

    Raises:
        MissingInput: A path that does not exist.
        UnsupportedInput: Another suffix, or no token files at all.
    """
    files: list[Path] = []
    searched = [Path(path) for path in paths]
    for path in searched:
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        elif not path.exists():
            raise MissingInput(f"There is no token file or folder at {path}; check the path.")
        elif path.suffix not in SUFFIXES:
            raise UnsupportedInput(f"{path.name} is no token file; its name must end in {', '.join(SUFFIXES)}.")
        else:
            files.append(path)
    if not files:
        raise UnsupportedInput(
            f"No token files ({', '.join(SUFFIXES)}) were found in {', '.join(map(str, searched)) or 'no paths'}; "
            "check the paths."
        )
    return files


def clip_names(files: Sequence[Path]) -> list[str]:
    """Return each file's path without suffix, relative to the folder that all have in common."""
    common = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return [file.absolute().relative_to(common).with_suffix("").as_posix() for file in files]


def read_clips(files: Sequence[Path], npz: NpzLayout | None) -> Iterator[tuple[str, Tokens]]:
    """Yield name and tokens of each clip, with one file, or row group of a Parquet file, in memory at a time.

    Args:
        files: NPQ (with its companion, where there is one), Parquet or NPZ.
        npz: What the NPZ files hold.

    Raises:
        CorruptInput: A damaged file.
        UnsupportedInput: NPZ without `npz`, or with another array or frame rate than it says.
    """
    for name, path in zip(clip_names(files), files, strict=True):
        if path.suffix == ".parquet":
            yield from iterate_tokens(path)
        else:
            yield name, read_token_file(path) if path.suffix == ".npq" else _read_npz(path, npz)


def _read_npz(path: Path, layout: NpzLayout | None) -> Tokens:
    if layout is None:
        raise UnsupportedInput(
            f"{path} is NPZ, which does not say what it holds; pass npz=NpzLayout(key, codebook_size, "
            "frame_rate_hz), or npz=BARK_FINE for Bark's prompts."
        )
    try:
        # opened here, as numpy leaves the file open where it is no zip archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            codes = archive[layout.key] if layout.key in names else None
    # ValueError: a bad header, or pickled objects; TypeError: a single array, which cannot be closed
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise CorruptInput(
            f"{path} could not be read as NPZ of plain arrays ({error}); copy or make it again."
        ) from error
    if codes is None:
        raise UnsupportedInput(
            f"{path} has the arrays {', '.join(names)} and no {layout.key!r}; name one of them in NpzLayout."
        )
    try:
        frames = np.atleast_2d(codes).T
        return tokens_from_frames(frames, layout.codebook_size, layout.frame_rate_hz, codec=layout.codec)
    except (CorruptInput, UnsupportedInput) as error:
        raise type(error)(f"{path}, array {layout.key!r}: {error}") from None


def check_same_codec(first_name: str, first: TokenFormat, name: str, tokens: Tokens) -> None:
    """Raise UnsupportedInput where two clips are of different codecs, weights (both known), codebooks or rates."""
    rates_hz = tokens.frame_rates_hz
    if len(rates_hz) == first.num_codebooks and np.allclose(rates_hz, first.frame_rates_hz, rtol=1e-6, atol=0):
        rates_hz = first.frame_rates_hz  # NPQ keeps rates as float32
    differing = [
        f"{what} {ours!r} and {theirs!r}"
        for what, ours, theirs in (
            ("codebooks", first.num_codebooks, tokens.num_codebooks),
            ("codebook sizes", first.codebook_sizes, tokens.codebook_sizes),
            ("frame rates", first.frame_rates_hz, rates_hz),
            ("codec", first.codec, tokens.codec),
            ("weights", first.weights, tokens.weights),
            ("SHA-256 of the weights", first.weights_sha256, tokens.weights_sha256),
        )
        if ours and theirs and ours != theirs  # what is unknown is empty
    ]
    if differing:
        raise UnsupportedInput(
            f"Clips {first_name!r} and {name!r} differ: {'; '.join(differing)}. A corpus holds tokens of one "
            "codec; open them apart, or cut both with num_codebooks where only the number differs."
        )
