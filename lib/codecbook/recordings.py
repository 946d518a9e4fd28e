"""Recordings: find audio files by names, folders and patterns, and decide which of them are held out.

A search goes to the bottom and follows links, but takes no file twice. What it leaves out is counted by kind, and
logged: hidden files (among them the ``._song.wav`` of macOS), formats that cannot be read, other files, broken links.

Which clips are held out is a rule on each clip's identity alone, so that adding or removing clips moves no other. The
first 64 bits of the identity's SHA-256, over 2^64, are a clip's place from 0 to 1; below the share it is held out. An
identity is what stays when a file is renamed: the codes or samples themselves (`content_identity`), or the speaker.
"""

# ruff: noqa: PTH111, PTH112, PTH113 (what the system does not tell of is no file and no folder here; Path raises)

import fnmatch
import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from codecbook.audio_files import AUDIO_SUFFIXES
from codecbook.errors import CodecbookError, MissingInput, UnsupportedInput
from codecbook.paths import path_as_text

# what people keep recordings in, and libsndfile does not read
_UNREADABLE_SUFFIXES = (
    ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".ape", ".wv", ".mka", ".webm", ".amr", ".3gp", ".ac3", ".dsf", ".dff",
    ".tta", ".mpc", ".ra",
)  # fmt: skip
# per kind: one, several, and what to do about it
_KINDS = {
    "unreadable": (
        "recording in a format that cannot be read",
        "recordings in formats that cannot be read",
        "; convert to wav or flac: ffmpeg -i IN OUT.flac",
    ),
    "hidden": ("hidden file or folder", "hidden files or folders", ""),
    "other": ("other file", "other files", ""),
    "again": ("link to what is there already", "links to what is there already", ""),
    "broken": ("link that leads nowhere", "links that lead nowhere", "; mend or remove"),
    "closed": ("folder that may not be read", "folders that may not be read", "; change permissions"),
}
_SHOWN_NAMES = 3

_log = logging.getLogger(__name__)
_Left = dict[str, list[Path]]  # what a search leaves out, by kind
_Read = TypeVar("_Read")
_Identity = TypeVar("_Identity", str, bytes)


@dataclass(frozen=True)
class Recording:
    """A file to encode, and what to call what is made of it: without suffix, as `path_as_text`, with folders."""

    path: Path
    name: str


def search(folder: str | Path) -> tuple[list[Path], list[str]]:
    """Return the recordings below a folder, sorted, as paths that begin with its own, and a line on each other kind."""
    if not os.path.isdir(folder):
        raise MissingInput(f"There is no folder {path_as_text(folder)}; name the one that holds the recordings.")
    left: _Left = defaultdict(list)
    return _below(Path(folder), left), _lines(left)


def log_left_out(lines: Iterable[str]) -> None:
    """Say in the log of ``codecbook.recordings`` what a search left out."""
    for line in lines:
        _log.warning("%s", line)


def each_usable(
    paths: Iterable[Path], read: Callable[[Path], _Read], needs_one: bool = True
) -> Iterator[tuple[Path, _Read]]:
    """Yield recordings with what `read` makes of them; what it refuses is said in the log.

    Where `needs_one`, it is an error if all are refused.
    """
    paths, reasons = list(paths), []
    for path in paths:
        try:
            result = read(path)
        except CodecbookError as error:
            reasons.append(str(error))
        except OSError as error:
            reasons.append(f"{path_as_text(path)} could not be read ({error.strerror or error})")
        else:
            yield path, result
            continue
        _log.warning("left out: %s", reasons[-1])
    if reasons and len(reasons) == len(paths) and needs_one:
        raise UnsupportedInput(f"None of {len(paths)} recording(s) can be used; the last: {reasons[-1]}")
    if reasons:
        _log.warning("left out: %d of %d recordings that cannot be used", len(reasons), len(paths))


def find_recordings(inputs: Sequence[str | Path] | str | Path) -> list[Recording]:
    """Find recordings by files, folders (see `search`) and patterns such as ``music/**/*.mp3``.

    A pattern means what a shell makes of it: ``**`` stands for folders to any depth, a folder that it matches is
    searched, and an existing name is taken literally (``Live [2020]``). A file that is named is taken whatever its
    suffix. What is left out of folders and patterns is logged.

    Recordings are named by the path below the folder or the fixed part of the pattern; files named one by one, below
    the folder that they share; all below the folder that the inputs share, where two would have the same name. Where
    two differ by suffix alone (``a.mp3`` and ``a.wav``), it stays in the name. Each file comes once, sorted by name.

    An input that is not there, or a pattern that matches nothing, raises MissingInput; one that is empty, no file or
    folder, or holds nothing that can be read, UnsupportedInput.
    """
    given = [os.fspath(text) for text in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    # no shell writes ~ out in quotes
    texts = [text if os.path.lexists(text) else os.path.expanduser(text) for text in given]
    left: _Left = defaultdict(list)
    roots: dict[Path, Path] = {}  # of each recording: where its name begins
    singles = [_resolved(text) for text in texts if os.path.isfile(text)]
    shared = Path(os.path.commonpath([path.parent for path in singles])) if singles else Path()
    taken: set[str] = set()
    for text in texts:
        root, paths = (shared, [_resolved(text)]) if os.path.isfile(text) else _matching(text, left)
        for path in paths:
            real = os.path.realpath(path)
            if real not in taken:
                taken.add(real)
                roots[path] = root
    log_left_out(_lines(left))
    return _named(roots)


def _lines(left: _Left) -> list[str]:
    """Return a line for each kind of what was left out, with number and names."""
    lines = []
    for kind, (one, several, remedy) in _KINDS.items():
        paths = list(dict.fromkeys(left.get(kind, [])))
        if not paths:
            continue
        by_suffix = kind in ("unreadable", "other")
        names = [(path.suffix.lower() or path.name) if by_suffix else path.name for path in paths]
        names = list(dict.fromkeys(map(path_as_text, names)))
        shown = ", ".join(names[:_SHOWN_NAMES])
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        lines.append(f"left out: {len(paths)} {one if len(paths) == 1 else several} ({shown}{more}){remedy}")
    return lines


def _resolved(text: str) -> Path:
    """Return where a file lies, by its own name even where that is a link."""
    path = Path(text)
    return Path(os.path.realpath(path.parent)) / path.name


def _matching(text: str, left: _Left) -> tuple[Path, list[Path]]:
    """Return the recordings of a folder or a pattern, and the folder below which they are named."""
    if not text.strip():
        raise UnsupportedInput(f"An input is empty ({text!r}); name a file, a folder (. for this one) or a pattern.")
    path = Path(text)
    if os.path.isdir(path):
        root = Path(os.path.realpath(path))
        paths = _below(root, left)
        if not paths:
            raise UnsupportedInput(f"{path_as_text(path)} holds no recording that can be read{_instead(left)}.")
        return root, paths
    if path.exists():
        raise UnsupportedInput(f"{path_as_text(path)} is a device, a pipe or a socket; write the audio to a file.")
    root, pattern = _split_pattern(path)
    if not pattern:
        raise MissingInput(f"Nothing matches '{path_as_text(text)}': there is no such file or folder; check the path.")
    if ".." in pattern:
        raise UnsupportedInput(f"'{path_as_text(text)}' goes up again after a wildcard; name the folder itself.")
    found = list(_expanded(root, pattern))
    paths = []
    for match in found:
        paths += _below(match, left) if os.path.isdir(match) else _usable([match], left)
    if not found:
        hint = "" if "**" not in text or "**" in pattern else "; for folders of any depth write **/*, not **"
        raise MissingInput(f"Nothing matches '{path_as_text(text)}'; check the path, and quote patterns{hint}.")
    if not paths:
        raise UnsupportedInput(f"'{path_as_text(text)}' matches no recording that can be read{_instead(left)}.")
    return root, paths


def _instead(left: _Left) -> str:
    kinds = "; ".join(_lines(left))
    return f" ({kinds})" if kinds else f"; expected names that end in {', '.join(AUDIO_SUFFIXES)}"


def _split_pattern(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Split ``music/**/*.mp3`` into the folder ``music`` and the parts below it, none without wildcards."""
    parts = path.parts
    for index, part in enumerate(parts):
        before = Path(*parts[:index])
        if any(sign in part for sign in "*?[") and not os.path.lexists(before / part):
            return Path(os.path.realpath(before)), parts[index:]
    return path, ()


def _expanded(folder: Path, pattern: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files and folders that match the parts of a pattern, in order."""
    if not pattern:
        yield folder
        return
    part, rest = pattern[0], pattern[1:]
    if part == "**":
        for inner, _ in _folders(folder, defaultdict(list)):
            yield from _expanded(inner, rest)
    elif os.path.lexists(folder / part):
        yield from _expanded(folder / part, rest)
    else:
        for path in _entries(folder, defaultdict(list), hidden=part.startswith(".")):
            if fnmatch.fnmatchcase(path.name, part) and (not rest or os.path.isdir(path)):
                yield from _expanded(path, rest)


def _below(root: Path, left: _Left) -> list[Path]:
    files = [path for _, entries in _folders(root, left) for path in entries if not os.path.isdir(path)]
    # a link after the file that it leads to, which is to keep its name
    return sorted(_usable(sorted(files, key=lambda path: (path.is_symlink(), path)), left))


def _usable(files: Iterable[Path], left: _Left) -> list[Path]:
    taken: dict[str, Path] = {}
    for path in files:
        suffix = path.suffix.lower()
        if not os.path.isfile(path):
            left["broken" if path.is_symlink() else "other"].append(path)
        elif suffix not in AUDIO_SUFFIXES:
            left["unreadable" if suffix in _UNREADABLE_SUFFIXES else "other"].append(path)
        elif taken.setdefault(os.path.realpath(path), path) != path:
            left["again"].append(path)
    return list(taken.values())


def _folders(root: Path, left: _Left) -> Iterator[tuple[Path, list[Path]]]:
    """Yield a folder and all below it with their entries; each once, and none around the root, whatever links say."""
    home = Path(os.path.realpath(root))
    seen: set[Path] = set()
    waiting, links = [root], list[Path]()  # links come last, so that what they lead to has its own name
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = Path(os.path.realpath(folder))
        if real in seen or (folder != root and home.is_relative_to(real)):
            left["again"].append(folder)
            continue
        seen.add(real)
        entries = _entries(folder, left)
        yield folder, entries
        for path in entries:
            if os.path.isdir(path):
                (links if path.is_symlink() else waiting).append(path)


def _entries(folder: Path, left: _Left, hidden: bool = False) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        left["closed"].append(folder)
        return []
    if hidden:
        return paths
    left["hidden"] += [path for path in paths if path.name.startswith(".")]
    return [path for path in paths if not path.name.startswith(".")]


def _named(roots: dict[Path, Path]) -> list[Recording]:
    """Name recordings as shortly as they can be told apart."""
    if not roots:
        return []
    below = {path: path.relative_to(root) for path, root in roots.items()}
    if len(set(below.values())) < len(below):
        shared = os.path.commonpath(list(roots.values()))
        below = {path: path.relative_to(shared) for path in roots}
    names = {path: str(name.with_suffix("")) for path, name in below.items()}
    while True:
        counts = Counter(names.values())
        full = {path: str(name) for path, name in below.items() if counts[names[path]] > 1}
        # a.wav and a.flac keep their suffix, and then a.wav.ogg does
        if names == (names := names | full):
            break
    recordings = [Recording(path, path_as_text(name)) for path, name in names.items()]
    return sorted(recordings, key=lambda recording: recording.name)


def content_identity(array: np.ndarray) -> str:
    """Return the SHA-256 of numbers (codes, samples), hex: of type, shape and values, on any byte order."""
    values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode())
    digest.update(values.data.cast("B") if values.size else b"")
    return digest.hexdigest()


def is_held_out(identity: str | bytes, share: float) -> bool:
    """Say on which side a clip belongs, whatever else there is; text counts as UTF-8.

    Example:
        >>> [is_held_out(name, 0.5) for name in ("anna", "ben", "cleo")]
        [True, True, False]
    """
    _check_share(share)
    return _place(identity) < share


def held_out(identities: Iterable[_Identity], share: float) -> frozenset[_Identity]:
    """Return those that are held out by `is_held_out`; of two or more at least one, and never all (nor one alone).

    Where the rule leaves a side empty, that side gets the identity whose place is nearest to it. That is the one
    clip which others can move: it goes back once one arrives that the rule itself puts there. Repetitions count once.
    """
    _check_share(share)
    ordered = sorted(set(identities), key=lambda identity: (_place(identity), identity))
    count = sum(_place(identity) < share for identity in ordered)
    return frozenset(ordered[: min(max(count, 1), len(ordered) - 1)]) if ordered else frozenset()


def _place(identity: str | bytes) -> float:
    # file names that are no UTF-8 hold surrogates
    data = identity if isinstance(identity, bytes) else identity.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") / 2**64


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise UnsupportedInput(f"share={share} leaves one side empty; choose a number above 0 and below 1.")
