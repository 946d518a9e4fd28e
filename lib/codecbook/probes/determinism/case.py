"""`Case`: what every cell computes: a language model, its exact twin, tokens, and the baseline's answers to compare.

A case is a folder, described by ``case.json`` with the SHA-256 of every file, so that it can travel to another
machine (`codecbook.probes.determinism.bundle`) and be known there to be the same::

    case.json       format, codec, seed, coders, identities of the models, {file: sha256}
    audio.npy       float32 [N, C, S], where the codec itself is tried too
    codec/          integers of the exact codec, likewise (`codecbook.probes.determinism.codec_steps`)
    lm/  exact/     models as `codecbook.lm` saves them (a case of random weights has neither)
    codes.npy       int64 [N, T, K], N segments
    baseline/       logits, CDFs, streams, codec of the first cell; written by that cell
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import read_json, sha256_of
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.compare import CODERS

FORMAT = 2
DESCRIPTION_NAME = "case.json"
BASELINE_NAME = "baseline"
RANDOM = "random weights"
AUDIO_NAME = "audio.npy"
CODEC_FOLDER = "codec"
CODES_NAME = "codes.npy"
MODEL_FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Case:
    """A folder whose files are what its description says."""

    folder: Path
    codec: str  # registry name of the codec whose tokens these are; `RANDOM` for upstream's model without training
    seed: int  # of the weights of a case of random weights, and of the choice of segments
    coders: tuple[str, ...]  # names in `CODERS`
    identities: dict[str, str]  # SHA-256 of the models: "lm", "exact"; "codec", "exact codec" if tried
    files: dict[str, str]  # SHA-256 by path in the folder, the baseline's answers not included
    float_segments: int = 0  # coders of floats compute only so many segments, from the first; 0 is all

    @property
    def codes(self) -> np.ndarray:
        """Tokens, int64 ``[N, T, K]``."""
        # the file is little-endian
        return np.load(self.folder / CODES_NAME, allow_pickle=False).astype(np.int64, copy=False)

    def codes_for(self, numbers: str, cell: Cell) -> np.ndarray:
        """Return the tokens that a cell computes with one kind of numbers, int64 ``[N, T, K]``."""
        limits = [limit for limit in (self.float_segments, cell.float_segments) if limit]
        return self.codes if numbers == "exact" or not limits else self.codes[: min(limits)]

    @property
    def baseline(self) -> Path:
        """Folder of the first cell's answers."""
        return self.folder / BASELINE_NAME

    def answers(self) -> Path:
        """Return the folder of the first cell's answers, or raise UnsupportedInput where there are none yet."""
        if not self.baseline.is_dir():
            raise UnsupportedInput(f"{self.folder} has no answers of a baseline; run its first cell with run_matrix.")
        return self.baseline

    @property
    def identity(self) -> str:
        """SHA-256 over the description, hex: equal where models and tokens are."""
        return hashlib.sha256(json.dumps(self.description(), sort_keys=True).encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        """Return the content of ``case.json``."""
        content = asdict(self)
        del content["folder"]
        return {"format": FORMAT, **content}


def open_case(folder: str | Path) -> Case:
    """Open a case, and check every file of it.

    Raises:
        CorruptInput: The description is damaged, or a file is missing or altered.
        UnsupportedInput: Another format, or a coder that this version does not know.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        raise CorruptInput(f"{folder} holds no case ({DESCRIPTION_NAME} is missing); export it again.")
    content = read_json(path, dict, "export it again")
    found = content.get("format")
    if found != FORMAT:
        raise UnsupportedInput(f"{folder} is of format {found!r}, this version reads {FORMAT}; export it again.")
    try:
        case = Case(
            folder, str(content["codec"]), int(content["seed"]), tuple(map(str, content["coders"])),
            _texts(content["identities"]), _texts(content["files"]), int(content["float_segments"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptInput(f"{path} is damaged ({error!r}); export it again.") from error
    if set(case.coders) - set(CODERS):
        raise UnsupportedInput(f"{folder} names the coders {case.coders}, this version has {tuple(CODERS)}.")
    for name, sha256 in case.files.items():
        path = folder / name
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name
        if not inside or not path.is_file() or sha256_of(path) != sha256:
            raise CorruptInput(f"{path} is missing or altered (its SHA-256 is not {sha256[:16]}...); export it again.")
    path = folder / CODES_NAME
    try:  # without reading them
        codes = np.load(path, mmap_mode="r", allow_pickle=False)
        is_codes = codes.ndim == 3 and codes.dtype.kind in "iu"
    except Exception as error:  # of other bytes numpy raises what its parsers stumble over
        raise CorruptInput(f"{path} holds no array ({type(error).__name__}); export it again.") from error
    if not is_codes:
        raise CorruptInput(f"{path} holds {codes.dtype} {list(codes.shape)} and no tokens; export it again.")
    return case


def _texts(content: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in content.items()}
