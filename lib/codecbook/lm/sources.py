"""Find token files, name their clips, and hold them against each other: one corpus is of one codec."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.layout import without_codes
from codecbook.tokens import Tokens

SUFFIXES = (".npq", ".parquet", ".npz")


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return files as they are given, and of a folder all token files below it, sorted.

    Raises:
        CorruptInput: A path that does not exist.
        UnsupportedInput: Another suffix, or no token files at all.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        elif not path.exists():
            raise CorruptInput(f"There is no token file or folder at {path}; check the path.")
        elif path.suffix not in SUFFIXES:
            raise UnsupportedInput(
                f"{path.name} is no token file; its name must end in {', '.join(SUFFIXES)}."
            )
        else:
            files.append(path)
    if not files:
        raise UnsupportedInput(f"No token files ({', '.join(SUFFIXES)}) were found; check the paths.")
    return files


def clip_names(files: list[Path]) -> list[str]:
    """Return each file's path without suffix, relative to the folder that all have in common."""
    common = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return [file.absolute().relative_to(common).with_suffix("").as_posix() for file in files]


def label_of(name: str, by: str | Callable[[str], str]) -> str:
    """Return the label of a clip by which a corpus is split; see `codecbook.lm.data.Corpus.split`.

    Raises:
        UnsupportedInput: The expression is none, or is not found in the name.
    """
    if callable(by):
        return by(name)
    if by == "clip":
        return name
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


class SameCodec:
    """Called with each clip in turn, raises for one that does not belong to the first.

    Attributes:
        template: What is known of the codec, from the first clip, cut to `num_codebooks`; None before any.
    """

    def __init__(self, num_codebooks: int | None) -> None:
        self.template: Tokens | None = None
        self._num_codebooks = num_codebooks
        self._first = ""

    def __call__(self, name: str, tokens: Tokens) -> None:
        """Compare a clip with the first.

        Raises:
            UnsupportedInput: Another codec or weights (where both are known), codebooks or rates; or fewer than
                `num_codebooks`.
        """
        cut = without_codes(tokens)
        if self._num_codebooks is not None:
            cut = cut.leading(self._num_codebooks)
        if self.template is None:
            self.template, self._first = cut, name
            return
        first = self.template
        differing = [
            f"{what} {ours!r} and {theirs!r}"
            for what, ours, theirs in (
                ("codebooks", first.num_codebooks, cut.num_codebooks),
                ("codebook sizes", first.codebook_sizes, cut.codebook_sizes),
                ("frame rates", first.frame_rates_hz, cut.frame_rates_hz),
                ("codec", first.codec, cut.codec),
                ("weights", first.weights, cut.weights),
            )
            if ours != theirs and not _agree(ours, theirs)
        ]
        if differing:
            raise UnsupportedInput(
                f"Clips {self._first!r} and {name!r} differ: {'; '.join(differing)}. A corpus holds tokens of one "
                "codec; open them apart, or cut both with num_codebooks where only the number differs."
            )


def _agree(ours: object, theirs: object) -> bool:
    """Say whether two values can mean the same: one is unknown, or rates differ by float32 rounding alone."""
    if isinstance(ours, str):
        return not ours or not theirs
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        return bool(np.allclose(ours, theirs, rtol=1e-6, atol=0)) and all(isinstance(v, float) for v in ours)
    return False
