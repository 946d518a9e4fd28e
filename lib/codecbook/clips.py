"""Where a notebook's clips come from: the bundled ones, or a folder of the reader's own.

The bundled clips lie in ``data/clips`` with a catalogue that says of each who speaks or plays what, how it was made and
under which licence; ``data/clips/make_clips.py`` makes them. A folder of one's own needs no catalogue: the names of
sub-folders say what its files are.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from codecbook import audio
from codecbook.audio import Clip
from codecbook.audio_files import AUDIO_SUFFIXES
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import sha256_of
from codecbook.paths import data_dir, path_as_text
from codecbook.recordings import log_left_out, search

_CATALOGUE_NAME = "catalogue.json"
_DOMAINS = ("speech", "music")
_UNKNOWN_DOMAIN = "unknown"
# the spectral measures look through windows of up to 2048 samples, 85 ms at 24 kHz
_MIN_DURATION_S = 0.1
_SHOWN_REASONS = 10


@dataclass(frozen=True)
class ClipEntry:
    """What the catalogue says of a bundled clip."""

    file: str  # name of the file in data/clips
    domain: str  # "speech" or "music"
    duration_s: float  # rounded to 0.1 ms
    sample_rate_hz: int
    channels: int
    licence: str  # of the text or score, and of what spoke or played it
    how_made: str  # the command that made it
    sha256: str  # of the file
    voice: str = ""  # empty for music
    transcript: str = ""  # empty for music
    instruments: tuple[str, ...] = ()  # empty for speech

    @property
    def name(self) -> str:
        """Name of the clip: its file's stem."""
        return Path(self.file).stem


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    domain: str


_Item = TypeVar("_Item", ClipEntry, _File)


def catalogue() -> tuple[ClipEntry, ...]:
    """Return the catalogue of the bundled clips, in its own order: speech, then music."""
    folder = data_dir() / "clips"
    entries = _read_catalogue(folder)
    if not entries:
        raise CorruptInput(f"{folder / _CATALOGUE_NAME} lists no clips; restore the folder from the repository.")
    try:
        return tuple(ClipEntry(**{**entry, "instruments": tuple(entry.get("instruments", ()))}) for entry in entries)
    except TypeError as error:
        known = sorted(field.name for field in dataclasses.fields(ClipEntry))
        raise CorruptInput(
            f"{folder / _CATALOGUE_NAME} has an entry with other fields than {known} ({error}); restore it."
        ) from error


def load_entry(entry: ClipEntry) -> Clip:
    """Load a bundled clip at its own rate and channels, unless it differs from the digest in the catalogue."""
    path = data_dir() / "clips" / entry.file
    if not path.is_file():
        raise MissingInput(f"The bundled clip {path} is missing; restore it from the repository.")
    digest = sha256_of(path)
    if digest != entry.sha256:
        raise CorruptInput(f"The clip {path} has SHA-256 {digest}, the catalogue {entry.sha256}; restore it.")
    return replace(audio.load(path), domain=entry.domain)


def load_clips(clips_dir: str | Path = "", limit: int | None = None) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Load the bundled clips in the catalogue's order, or those of a folder (`load_folder`): what a parameter names.

    The empty string stands for the bundled clips. At most `limit` are loaded, taken from the domains in turn; None
    loads all. Returns the clips at their own rates and channels (`codecbook.audio.convert` brings them to a codec's),
    and of the files that were skipped name and reason; the bundled clips have none.
    """
    if str(clips_dir):
        return load_folder(clips_dir, limit)
    _check_limit(limit)
    entries = catalogue()
    taken = set(islice(_in_turn(entries), limit))
    return [load_entry(entry) for entry in entries if entry in taken], []


def load_folder(clips_dir: str | Path, limit: int | None = None) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Load every usable audio file of a folder and its sub-folders, in the order of their paths; see `load_clips`.

    Files that cannot be used are skipped with a reason, and the others go on: those that are missing though the
    catalogue lists them, unreadable, empty, silent, too short, or with samples that are not finite. Files with more
    than two channels are averaged to mono, which `Clip.note` records. What `codecbook.recordings.search` leaves out,
    such as hidden files, is logged.

    A file's domain is what ``catalogue.json`` in `clips_dir` says (``{"clips": [{"file": path, "domain": domain}]}``),
    else the name of the nearest folder called ``speech`` or ``music``, up to `clips_dir` itself, else ``"unknown"``.
    A clip is named after its file's stem, or after its path in the folder where several files share a stem.

    Raises:
        MissingInput: There is no such folder.
        UnsupportedInput: A limit below 1, or no usable clip (each file's reason is listed).
        CorruptInput: The folder's catalogue is damaged.
    """
    _check_limit(limit)
    folder = Path(clips_dir).expanduser()
    found = _find_files(folder)
    if not found:
        raise UnsupportedInput(f"No audio file is in or below {folder}; expected one of {', '.join(AUDIO_SUFFIXES)}.")
    clips: dict[Path, Clip] = {}
    skipped: dict[Path, str] = {}
    for file in _in_turn(found):
        if len(clips) == limit:
            break
        try:
            clips[file.path] = _load_usable(file)
        except CodecbookError as error:
            skipped[file.path] = str(error)
        except OSError as error:
            reason = f"could not be read ({error.strerror or error}); see to it, or remove it."
            skipped[file.path] = f"{path_as_text(file.path)} {reason}"
    if not clips:
        reasons = [f"- {reason}" for reason in islice(skipped.values(), _SHOWN_REASONS)]
        if len(skipped) > _SHOWN_REASONS:
            reasons.append(f"- and {len(skipped) - _SHOWN_REASONS} more")
        raise UnsupportedInput(f"None of the {len(skipped)} audio files in {folder} is usable:\n" + "\n".join(reasons))
    named = [(path_as_text(path.name), skipped[path]) for path in sorted(skipped)]
    return [clips[path] for path in sorted(clips)], named


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise UnsupportedInput(f"limit must be at least 1, or None for all clips; received {limit}.")


def _in_turn(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield one item of each domain in turn, so that a limit cuts all domains alike."""
    by_domain: dict[str, list[_Item]] = {}
    for item in items:
        by_domain.setdefault(item.domain, []).append(item)
    return (item for item in chain.from_iterable(zip_longest(*by_domain.values())) if item is not None)


def _read_catalogue(folder: Path) -> list[dict]:
    """Return the entries of a folder's catalogue, each with a ``file``; none where the folder has no catalogue."""
    path = folder / _CATALOGUE_NAME
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["clips"]
        problem = next(filter(None, map(_entry_problem, entries)), "")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise CorruptInput(
            f"{path} is no catalogue of clips ({problem}); expected "
            '{"clips": [{"file": "a.wav", "domain": "speech"}, ...]}. Correct it, or remove it to go without.'
        )
    return entries


def _entry_problem(entry: dict) -> str:
    file, domain = entry["file"], entry.get("domain", _UNKNOWN_DOMAIN)
    if not isinstance(file, str) or not isinstance(domain, str):
        return f"file {file!r} and domain {domain!r} should be strings"
    if not file or PurePath(file).is_absolute() or ".." in PurePath(file).parts:
        return f"file {file!r} should be a path inside the folder"
    return ""


def _find_files(folder: Path) -> list[_File]:
    """Return the audio files below a folder, and those that only its catalogue names, sorted by path."""
    listed = {folder / entry["file"]: entry.get("domain") for entry in _read_catalogue(folder)}
    there, left_out = search(folder)
    log_left_out(left_out)
    paths = sorted({*there, *listed})
    stems = Counter(path.stem for path in paths)
    files = []
    for path in paths:
        inside = path.relative_to(folder).parts
        name = path.stem if stems[path.stem] == 1 else "__".join(inside)
        folders = [part.lower() for part in (*reversed(inside[:-1]), folder.resolve().name)]
        nearest = next((part for part in folders if part in _DOMAINS), _UNKNOWN_DOMAIN)
        files.append(_File(path, path_as_text(name), listed.get(path) or nearest))
    return files


def _load_usable(file: _File) -> Clip:
    """Load a file of a folder, or raise why it is of no use."""
    clip = replace(audio.load(file.path), name=file.name, domain=file.domain)
    shown = path_as_text(file.path)
    if clip.duration_s < _MIN_DURATION_S:
        raise UnsupportedInput(f"{shown} lasts {clip.duration_s:.4g} s, less than {_MIN_DURATION_S:g} s; leave it out.")
    if clip.num_channels > 2:
        note = f"{clip.num_channels} channels averaged to mono"
        clip = replace(audio.convert(clip, channels=1), note="; ".join(filter(None, [clip.note, note])))
    if not np.any(clip.samples):
        raise CorruptInput(f"{shown} is silent: all {clip.num_samples} samples are zero; leave it out.")
    return clip
