"""Token files as clips: find the files, name their clips, read them, and see that all are of one codec."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.tokens import TokenFormat, Tokens, tokens_from_frames
from codecbook.tokens.parquet import iterate_tokens
from codecbook.tokens.token_files import read_token_file
from codecbook.tokens.tokens import same_digest

SUFFIXES = (".npq", ".parquet", ".npz")
_BARK_KEY = "fine_prompt"  # in speaker prompts of Bark: EnCodec tokens, uint16 [8, T]
# what numpy raises; ValueError: a bad header, or pickled objects; TypeError: a single array, which cannot be closed
_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, AttributeError, TypeError, ValueError)


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
            f"No token files ({', '.join(SUFFIXES)}) in {', '.join(map(str, searched)) or 'no paths'}; check the paths."
        )
    return files


def clip_names(files: Sequence[Path]) -> list[str]:
    """Return each file's path without suffix, relative to the folder that all have in common."""
    common = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return [file.absolute().relative_to(common).with_suffix("").as_posix() for file in files]


def read_clips(files: Sequence[Path], bark: bool) -> Iterator[tuple[str, Tokens]]:
    """Yield name and tokens of each clip, with one file, or row group of a Parquet file, in memory at a time.

    With `bark`, NPZ files, which say nothing about themselves, are Bark's speaker prompts. NPZ that is not known to be
    Bark's, or has other arrays, raises UnsupportedInput.
    """
    for name, path in zip(clip_names(files), files, strict=True):
        if path.suffix == ".parquet":
            yield from iterate_tokens(path)
        elif path.suffix == ".npq":
            yield name, read_token_file(path)
        elif bark:
            yield name, _read_bark(path)
        else:
            raise UnsupportedInput(f"{path} is NPZ, which does not say of what; pass bark=True where Bark made it.")


def _read_bark(path: Path) -> Tokens:
    try:
        # opened here, as numpy leaves the file open where it is no zip archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            codes = archive[_BARK_KEY] if _BARK_KEY in names else None
    except _UNREADABLE as error:
        raise CorruptInput(f"{path} is no NPZ of plain arrays ({error}); copy or make it again.") from error
    if codes is None:
        raise UnsupportedInput(f"{path} has the arrays {', '.join(names)}, no {_BARK_KEY!r}; it is no prompt of Bark.")
    try:
        return tokens_from_frames(np.atleast_2d(codes).T, 1024, 75.0, codec="encodec_24khz")
    except (CorruptInput, UnsupportedInput) as error:
        raise type(error)(f"{path}, array {_BARK_KEY!r}: {error}") from None


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
        )
        if ours and theirs and ours != theirs  # what is unknown is empty
    ]
    if not same_digest(first.weights_sha256, tokens.weights_sha256):
        differing.append(f"SHA-256 of the weights {first.weights_sha256!r} and {tokens.weights_sha256!r}")
    if differing:
        raise UnsupportedInput(
            f"Clips {first_name!r} and {name!r} differ: {'; '.join(differing)}; open them apart, or set num_codebooks."
        )
