"""Training data: folders of recordings, held in memory as float16, cut into random crops.

Which recordings are held out is decided by what they hold (`codecbook.recordings`), so that a folder can grow, and
files can be renamed, without one that was trained on becoming one that was not heard; and by patterns of names.
"""

import fnmatch
import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from codecbook.audio import convert, load
from codecbook.errors import UnsupportedInput
from codecbook.files import sha256_of
from codecbook.recordings import each_usable, held_out, is_held_out, log_left_out, search

_MAX_SILENT_CROPS = 1000
_LEVEL_DB = (-32.0, -14.0)  # of crops, full scale = 0
_BLOCK_SAMPLES = 1 << 18


def parse_folder(text: str) -> tuple[Path, float]:
    """Read ``PATH`` or ``PATH=SHARE``: a folder, and its part of the crops relative to the others'."""
    path, _, share = text.rpartition("=") if "=" in text else (text, "", "1")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not path:
        raise UnsupportedInput(f"--data {text!r} names no folder; write PATH=SHARE, e.g. speech=0.7.")
    if not 0 < value < math.inf:
        raise UnsupportedInput(f"--data {text!r}: the share after '=' must be a positive number, e.g. speech=0.7.")
    return Path(path), value


def check_apart(folders: Iterable[Path]) -> None:
    """Refuse folders of which one lies in another, through which a file that is held out could be trained on."""
    for other, path in itertools.combinations([folder.resolve() for folder in folders], 2):
        if path.is_relative_to(other) or other.is_relative_to(path):
            raise UnsupportedInput(f"--data names {other} and {path}, which share files; name folders that lie apart.")


def recording_identity(path: Path) -> str:
    """Return what tells a recording from others, whatever its name: a SHA-256, hex.

    Of PCM, as WAV and FLAC hold it, the samples count. Of anything else the file does: decoders of lossy formats
    differ in the last bits, and the same recording must be known on every machine.
    """
    try:
        # bytes: names need not be UTF-8
        with soundfile.SoundFile(os.fsencode(path)) as file:  # pyright: ignore[reportArgumentType]
            if file.subtype.startswith("PCM_") and file.frames:  # 0 frames: written to a pipe, or none
                digest = hashlib.sha256(f"{file.samplerate} Hz, {file.channels} channels".encode())
                for block in file.blocks(_BLOCK_SAMPLES, dtype="int32"):
                    digest.update(np.ascontiguousarray(block, dtype="<i4").data)
                return digest.hexdigest()
    except soundfile.SoundFileError:
        pass  # what is wrong with the file is said when it is loaded
    return sha256_of(path)


def speaker_of(path: Path, pattern: str) -> str:
    """Return the first group (or else the match) of a regular expression in a file's name without suffix, or ""."""
    match = re.search(pattern, path.stem) if pattern else None
    return match.group(1 if match.re.groups else 0) if match else ""


def split_files(
    folder: Path,
    hold_out_every: int,
    hold_out: tuple[str, ...] = (),
    speaker: str = "",
    known: Mapping[Path, bool] | None = None,
) -> tuple[dict[Path, str], dict[Path, str]]:
    """Return (files to train on, files held out), sorted by path and with their `recording_identity`, of a folder.

    Recordings with one content, or one speaker, are on one side. Files that come or go move no other.

    Args:
        folder: Searched as by `codecbook.recordings.search`.
        hold_out_every: Hold out one in this many, see `codecbook.recordings.held_out`; 0 holds out by patterns only.
        hold_out: Shell patterns of file names to hold out.
        speaker: As the pattern of `speaker_of`; a file in whose name it is not found stands for itself.
        known: Files on which it was decided before, and whether they are held out.

    Raises MissingInput, UnsupportedInput: no folder; nothing left to train on, or `speaker` is no regular expression.
    """
    if hold_out_every == 1 or hold_out_every < 0:
        raise UnsupportedInput(f"One in {hold_out_every} held out leaves none to train on; choose 2 or more, or 0.")
    try:
        re.compile(speaker)
    except re.error as error:
        raise UnsupportedInput(f"speaker={speaker!r} is no regular expression ({error}); correct it.") from error
    files, left_out = search(folder)
    log_left_out(left_out)
    identities = {path: recording_identity(path) for path in files}
    labels = {path: speaker_of(path, speaker) or identities[path] for path in files}
    sides: dict[str, bool] = {}
    for path, is_held in (known or {}).items():
        if path in labels:  # what was trained on once is not unheard by its copy
            sides[labels[path]] = is_held and sides.get(labels[path], True)
    apart = {labels[p] for p in files if any(fnmatch.fnmatch(p.name, pattern) for pattern in hold_out)}
    rest = set(labels.values()) - sides.keys() - apart
    apart |= {label for label, is_held in sides.items() if is_held}
    if hold_out_every:
        share = 1 / hold_out_every
        apart |= {label for label in rest if is_held_out(label, share)} if sides else held_out(rest, share)
    held = {path: identities[path] for path in files if labels[path] in apart}
    kept = {path: identities[path] for path in files if labels[path] not in apart}
    if not kept:
        raise UnsupportedInput(
            f"{folder} holds no audio to train on, {len(files)} files found and {len(held)} held out; name another."
        )
    return kept, held


def load_recordings(
    files: Iterable[Path], sample_rate_hz: int, channels: int, needs_one: bool = True
) -> Iterator[tuple[Path, np.ndarray]]:
    """Load and resample what can be used (`codecbook.recordings.each_usable`), as float16 ``[C, S]``.

    That is half the memory of float32 at -66 dB of noise or less.
    """

    def read(path: Path) -> np.ndarray:
        clip = load(path, mono=channels == 1)
        return convert(clip, sample_rate_hz, channels).samples.astype(np.float16)

    return each_usable(files, read, needs_one)


class Crops:
    """Random crops from groups of recordings ``[C, S]``, reproducible, and resumable by the state of `random`.

    A group is drawn by its share, a recording in it by its duration, a position uniformly. The gain is drawn so that
    the crop's level is spread evenly over 18 dB; nearly silent crops are drawn again.
    """

    def __init__(self, groups: list[list[np.ndarray]], shares: Sequence[float], seed: int) -> None:
        self._groups = groups
        self._shares = np.asarray(shares) / np.sum(shares)
        self._durations = [np.cumsum([r.shape[1] for r in group], dtype=np.float64) for group in groups]
        self.random = np.random.default_rng(seed)

    def _crop(self, num_samples: int) -> np.ndarray:
        group = int(self.random.choice(len(self._groups), p=self._shares))
        ends = self._durations[group]
        recording = self._groups[group][int(np.searchsorted(ends, self.random.random() * ends[-1], side="right"))]
        spare = recording.shape[1] - num_samples
        start = int(self.random.integers(0, spare + 1)) if spare > 0 else 0
        crop = recording[:, start : start + num_samples].astype(np.float32)
        return np.pad(crop, ((0, 0), (0, num_samples - crop.shape[1])))

    def batch(self, batch_size: int, num_samples: int) -> np.ndarray:
        """Return float32 ``[B, C, S]``; recordings shorter than S are followed by silence."""
        crops, silent = [], 0
        while len(crops) < batch_size:
            crop = self._crop(num_samples)
            level = float(np.sqrt(np.mean(np.square(crop))))
            gain = 10.0 ** (self.random.uniform(*_LEVEL_DB) / 20.0) / max(level, 1e-9)
            if level >= 1e-3:
                # a gain that clips would teach the decoder to clip
                crops.append(crop * min(gain, 0.99 / float(np.abs(crop).max())))
                silent = 0
                continue
            silent += 1
            if silent == _MAX_SILENT_CROPS:
                raise UnsupportedInput(f"{silent} crops in a row are below -60 dB of full scale; amplify them.")
        return np.stack(crops)
