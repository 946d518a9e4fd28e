"""Training data: folders of recordings, held in memory as float16, cut into random crops.

Which files are held out is a rule on sorted names, so that anybody can tell from a file list what a model has
not heard: every N-th file of each folder, and whatever matches a pattern.
"""

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.audio import AUDIO_SUFFIXES, convert, load
from codecbook.errors import UnsupportedInput

_MAX_SILENT_CROPS = 1000


@dataclass(frozen=True)
class Folder:
    """A folder of recordings, searched recursively, and its share of the crops (relative to the others')."""

    path: Path
    share: float = 1.0


def parse_folder(text: str) -> Folder:
    """Read ``PATH`` or ``PATH=SHARE``.

    Raises:
        UnsupportedInput: No path, or a share that is no positive number.
    """
    path, _, share = text.rpartition("=") if "=" in text else (text, "", "1")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not path:
        raise UnsupportedInput(f"--data {text!r} names no folder; write PATH=SHARE, e.g. speech=0.7.")
    if not 0 < value < math.inf:
        raise UnsupportedInput(
            f"--data {text!r}: the share after '=' must be a positive number, e.g. speech=0.7."
        )
    return Folder(Path(path), value)


def check_apart(folders: list[Folder]) -> None:
    """Refuse folders of which one lies in another: a file held out through one would be trained on through the other.

    Raises:
        UnsupportedInput: Two of them share files.
    """
    paths = [folder.path.resolve() for folder in folders]
    for index, path in enumerate(paths):
        for other in paths[:index]:
            if path.is_relative_to(other) or other.is_relative_to(path):
                raise UnsupportedInput(
                    f"--data names {other} and {path}, which share files; name folders that lie apart, each with its "
                    "share."
                )


def split_files(
    folder: Folder, hold_out_every: int, hold_out: tuple[str, ...]
) -> tuple[list[Path], list[Path]]:
    """Return (files to train on, files held out), both sorted by path.

    Args:
        folder: Where to look.
        hold_out_every: Hold out the N-th, 2N-th ... file in the order of paths; 0 holds out none by position.
        hold_out: Shell patterns of file names to hold out.

    Raises:
        UnsupportedInput: There is no folder, or nothing to train on in it.
    """
    files = sorted(path for path in folder.path.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    held = [
        path
        for position, path in enumerate(files, start=1)
        if (hold_out_every and position % hold_out_every == 0)
        or any(fnmatch.fnmatch(path.name, pattern) for pattern in hold_out)
    ]
    kept = [path for path in files if path not in set(held)]
    if not kept:
        raise UnsupportedInput(
            f"{folder.path} holds no audio to train on ({len(files)} files found, {len(held)} held out); name a "
            f"folder with {', '.join(AUDIO_SUFFIXES)} files."
        )
    return kept, held


def load_recordings(files: list[Path], sample_rate_hz: int, channels: int) -> list[np.ndarray]:
    """Load and resample recordings to float16 ``[C, S]``, half the memory of float32 at -66 dB of noise or less."""
    return [
        convert(load(path, mono=channels == 1), sample_rate_hz, channels).samples.astype(np.float16)
        for path in files
    ]


class Crops:
    """Random crops from recordings, reproducible and resumable through `state` and `restore`.

    A folder is drawn by its share, a recording in it by its duration, a position uniformly. The gain is drawn
    so that the crop's level is spread evenly over `level_db`; nearly silent crops are drawn again.
    """

    def __init__(
        self,
        groups: list[list[np.ndarray]],
        shares: list[float],
        seed: int,
        level_db: tuple[float, float] = (-32.0, -14.0),
    ) -> None:
        self._groups = groups
        self._shares = np.asarray(shares) / np.sum(shares)
        self._durations = [np.cumsum([r.shape[1] for r in group], dtype=np.float64) for group in groups]
        self._level_db = level_db
        self._random = np.random.default_rng(seed)

    @property
    def state(self) -> Mapping[str, Any]:
        """The generator's state, to be handed to `restore`."""
        return self._random.bit_generator.state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._random.bit_generator.state = state

    def _crop(self, num_samples: int) -> np.ndarray:
        group = int(self._random.choice(len(self._groups), p=self._shares))
        ends = self._durations[group]
        recording = self._groups[group][
            int(np.searchsorted(ends, self._random.random() * ends[-1], side="right"))
        ]
        spare = recording.shape[1] - num_samples
        start = int(self._random.integers(0, spare + 1)) if spare > 0 else 0
        crop = recording[:, start : start + num_samples].astype(np.float32)
        return np.pad(crop, ((0, 0), (0, num_samples - crop.shape[1])))

    def batch(self, batch_size: int, num_samples: int) -> np.ndarray:
        """Return float32 ``[B, C, S]``; recordings shorter than S are followed by silence.

        Raises:
            UnsupportedInput: A thousand crops in a row are nearly silent (below -60 dB of full scale).
        """
        crops, silent = [], 0
        while len(crops) < batch_size:
            crop = self._crop(num_samples)
            level = float(np.sqrt(np.mean(np.square(crop))))
            gain = 10.0 ** (self._random.uniform(*self._level_db) / 20.0) / max(level, 1e-9)
            if level < 1e-3:
                silent += 1
                if silent == _MAX_SILENT_CROPS:
                    raise UnsupportedInput(
                        f"{silent} crops in a row were below -60 dB of full scale; the recordings are silent, or far "
                        "too quiet: choose others, or amplify them."
                    )
                continue
            silent = 0
            # a gain that clips would teach the decoder to clip
            crops.append(crop * min(gain, 0.99 / float(np.abs(crop).max())))
        return np.stack(crops)
