"""`Case`: what every cell computes: a language model, its exact twin, tokens, and the baseline's answers to compare.

A case is a folder, described by ``case.json`` with the SHA-256 of every file, so that it can travel to another
machine (`codecbook.probes.determinism.bundle`) and be known there to be the same::

    case.json       format, codec, seed, coders, identities of the models, {file: sha256}
    audio.npy       float32 [N, C, S], where the codec itself is tried too
    lm/  exact/     models as `codecbook.lm` saves them (a case of random weights has neither)
    codes.npy       int64 [N, T, K], N segments
    baseline/       logits, CDFs and streams of the first cell; written by that cell
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lazy import lazy_names
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.model import ExactLM
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.coders import CODERS
from codecbook.probes.determinism.steps import NumbaSteps, ReferenceSteps, Steps

if TYPE_CHECKING:
    from codecbook.probes.determinism.case_maker import make_case, random_model

__all__ = [
    "AUDIO_NAME", "BASELINE_NAME", "DESCRIPTION_NAME", "FORMAT", "MODEL_FILES", "RANDOM", "Case", "make_case",
    "open_case", "random_model", "sha256_of",
]  # fmt: skip

FORMAT = 2
DESCRIPTION_NAME = "case.json"
BASELINE_NAME = "baseline"
RANDOM = "random weights"
AUDIO_NAME = "audio.npy"
MODEL_FILES = ("config.json", "model.safetensors")
_MATMULS = {"numpy": "int64", "numpy-blas": "float32"}

# who opens a case need not be able to make one
__getattr__, __dir__ = lazy_names(
    __name__, {"codecbook.probes.determinism.case_maker": ("make_case", "random_model")}
)


@dataclass(frozen=True)
class Case:
    """A folder whose files are what its description says.

    Attributes:
        folder: Where it lies.
        codec: Registry name of the codec whose tokens these are; `RANDOM` for upstream's model without training.
        seed: Of the weights of a case of random weights, and of the choice of segments.
        coders: Names in `codecbook.probes.determinism.coders.CODERS`.
        identities: SHA-256 of the models: ``"lm"``, ``"exact"`` and, where it is tried, ``"codec"``.
        files: SHA-256 by path in the folder, the baseline's answers not included.
        float_segments: Coders of floats compute the first so many segments only; 0 is all.
    """

    folder: Path
    codec: str
    seed: int
    coders: tuple[str, ...]
    identities: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    float_segments: int = 0

    @property
    def codes(self) -> np.ndarray:
        """Tokens, int64 ``[N, T, K]``."""
        # the file is little-endian
        return np.load(self.folder / "codes.npy", allow_pickle=False).astype(np.int64, copy=False)

    def codes_for(self, numbers: str, cell: Cell) -> np.ndarray:
        """Return the tokens that a cell computes with one kind of numbers, int64 ``[N, T, K]``."""
        limits = [limit for limit in (self.float_segments, cell.float_segments) if limit]
        codes = self.codes
        return codes if numbers == "exact" or not limits else codes[: min(limits)]

    @property
    def baseline(self) -> Path:
        """Folder of the first cell's answers."""
        return self.folder / BASELINE_NAME

    @property
    def identity(self) -> str:
        """SHA-256 over the description, hex: equal where models and tokens are."""
        return hashlib.sha256(json.dumps(self.description(), sort_keys=True).encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        """Return the content of ``case.json``."""
        return {
            "format": FORMAT, "codec": self.codec, "seed": self.seed, "coders": list(self.coders),
            "identities": self.identities, "files": self.files, "float_segments": self.float_segments,
        }  # fmt: skip

    def steps(self, numbers: str, cell: Cell) -> Steps:
        """Load the model that gives one kind of numbers, in the backend of a cell."""
        if numbers == "exact":
            return _exact_steps(load_exact(self.folder / "exact"), cell)
        return _float_steps(self, numbers, cell)


# The evaluators that are imported within these functions need libraries that a machine may lack.


def _exact_steps(model: ExactLM, cell: Cell) -> Steps:
    if cell.backend in _MATMULS:
        return ReferenceSteps(model, _MATMULS[cell.backend])
    if cell.backend == "numba":
        return NumbaSteps(model)
    if cell.backend == "onnx":
        return _onnx_steps(model, cell)
    from codecbook.lm.exact.torch_model import ExactTorch
    from codecbook.probes.determinism.torch_steps import TorchSteps

    return TorchSteps(ExactTorch(model, cell.device), cell.precision == "autocast", cell.compiled)


def _onnx_steps(model: Any, cell: Cell) -> Steps:
    from codecbook.probes.determinism.onnx_steps import OnnxSteps

    return OnnxSteps(model, cell.threads, cell.graph_optimisation)


def _float_steps(case: Case, numbers: str, cell: Cell) -> Steps:
    from codecbook.lm.model_files import load_lm
    from codecbook.probes.determinism.torch_steps import PackageSteps, TorchSteps

    if case.codec == RANDOM:
        from codecbook.probes.determinism.case_maker import random_model

        model = random_model(case.codes.shape[2], case.seed)
        return PackageSteps(model.double() if numbers == "float64" else model)
    trained = load_lm(case.folder / "lm").model
    if cell.backend == "onnx":
        return _onnx_steps(trained, cell)
    trained = trained.double() if numbers == "float64" else trained
    return TorchSteps(trained.to(cell.device), cell.precision == "autocast", cell.compiled)


def open_case(folder: str | Path) -> Case:
    """Open a case, and check every file of it.

    Raises:
        CorruptInput: The description is damaged, or a file is missing or altered.
        UnsupportedInput: Another format, or a coder that this version does not know.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / DESCRIPTION_NAME).read_text())
        found = content["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptInput(f"{folder} holds no case ({error!r}); export it again.") from error
    if found != FORMAT:
        raise UnsupportedInput(
            f"{folder} is of format {found!r}, this version reads {FORMAT}; export it again."
        )
    try:
        case = Case(
            folder, str(content["codec"]), int(content["seed"]), tuple(content["coders"]),
            dict(content["identities"]), dict(content["files"]), int(content["float_segments"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptInput(f"{folder / DESCRIPTION_NAME} is damaged ({error!r}); export it again.") from error
    if set(case.coders) - set(CODERS):
        raise UnsupportedInput(f"{folder} names the coders {case.coders}, this version has {tuple(CODERS)}.")
    for name, sha256 in case.files.items():
        path = folder / name
        if ".." in Path(name).parts or not path.is_file() or sha256_of(path) != sha256:
            raise CorruptInput(
                f"{path} is missing or altered (its SHA-256 is not {sha256[:16]}...); export it again."
            )
    return case


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
