"""Find the recordings that a command line names, and what to call what is made of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codecbook.audio import AUDIO_SUFFIXES
from codecbook.errors import UnsupportedInput

_MAGIC = "*?["


@dataclass(frozen=True)
class Recording:
    """A file to export.

    Attributes:
        path: Where it is.
        name: Under which name, without suffix, its tokens go into the output folder; may contain folders.
    """

    path: Path
    name: str


def find_recordings(inputs: Sequence[str]) -> list[Recording]:
    """Find recordings by files, folders (all audio below them) and patterns such as ``music/**/*.mp3``.

    Tokens are named by the path below the folder or the fixed part of the pattern; files named one by one, below
    the folder that they share. Where two would have one name (``a.mp3`` and ``a.wav``), the suffix stays in it.

    Raises:
        UnsupportedInput: An input that matches nothing, or files of one name from several inputs.
    """
    found: dict[Path, Path] = {}
    singles = [Path(text) for text in inputs if Path(text).is_file()]
    shared = Path(os.path.commonpath([path.parent.resolve() for path in singles])) if singles else Path()
    for text in inputs:
        path = Path(text)
        if path.is_file():
            matches, root = [path], shared
        elif path.is_dir():
            matches, root = [p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES], path.resolve()
        else:
            root, pattern = _split_pattern(text)
            matches = [match for match in root.glob(pattern) if match.is_file()] if pattern else []
        if not matches:
            raise UnsupportedInput(f"Nothing matches {text!r}; check the path, and quote patterns.")
        for match in matches:
            found.setdefault(match.resolve(), match.resolve().relative_to(root))
    return _named(found)


def _split_pattern(text: str) -> tuple[Path, str]:
    """Split ``music/**/*.mp3`` into the folder ``music`` and the pattern below it, empty without wildcards."""
    parts = Path(text).parts
    first = next((i for i, part in enumerate(parts) if any(sign in part for sign in _MAGIC)), len(parts))
    return Path(*parts[:first]).resolve(), "/".join(parts[first:])


def _named(found: dict[Path, Path]) -> list[Recording]:
    stems = [str(name.with_suffix("")) for name in found.values()]
    recordings = [
        Recording(path, str(name) if stems.count(stem) > 1 else stem)
        for (path, name), stem in zip(found.items(), stems, strict=True)
    ]
    names = [recording.name for recording in recordings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnsupportedInput(
            f"Several recordings would be written as {twice[0]!r}; export them to different folders."
        )
    return sorted(recordings, key=lambda recording: recording.name)
