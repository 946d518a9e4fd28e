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
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.codecs.encodec_package import encodec
from codecbook.codecs.weights import seeded
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.files import write_file
from codecbook.lm.corpora import bundled_tokens
from codecbook.lm.defaults import EXACT_NAME, default_folder
from codecbook.lm.exact import ExactTorch, load_exact
from codecbook.lm.model_files import load_lm
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.codec import AUDIO_NAME, audio_batch
from codecbook.probes.determinism.coders import CODERS
from codecbook.probes.determinism.steps import NumbaSteps, PackageSteps, ReferenceSteps, Steps, TorchSteps

FORMAT = 1
DESCRIPTION_NAME = "case.json"
BASELINE_NAME = "baseline"
RANDOM = "random weights"
_MODEL_FILES = ("config.json", "model.safetensors")


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
    """

    folder: Path
    codec: str
    seed: int
    coders: tuple[str, ...]
    identities: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def codes(self) -> np.ndarray:
        """Tokens, int64 ``[N, T, K]``."""
        return np.load(self.folder / "codes.npy", allow_pickle=False)

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
            "identities": self.identities, "files": self.files,
        }  # fmt: skip

    def steps(self, numbers: str, cell: Cell) -> Steps:
        """Load the model that gives one kind of numbers, in the backend of a cell."""
        if numbers == "exact":
            exact = load_exact(self.folder / "exact")
            if cell.backend == "numba":
                return NumbaSteps(exact)
            return (
                ReferenceSteps(exact)
                if cell.backend == "numpy"
                else TorchSteps(ExactTorch(exact, cell.device))
            )
        model: Any = random_model(self.codes.shape[2], self.seed) if self.codec == RANDOM else None
        if model is None:
            model = load_lm(self.folder / "lm").model
        model = model.double() if numbers == "float64" else model
        return PackageSteps(model) if self.codec == RANDOM else TorchSteps(model.to(cell.device))


def random_model(num_codebooks: int, seed: int, codebook_size: int = 1024) -> Any:
    """Return upstream's language model for 75 frames/s with random weights, in evaluation mode.

    5 layers of 200 dimensions, a context of 3.5 s (EnCodec, section 3.3).
    """
    with seeded(seed):
        return encodec.model.LMModel(
            num_codebooks, codebook_size, num_layers=5, dim=200, past_context=262
        ).eval()


def make_case(
    folder: str | Path,
    codec: str = "encodec_24khz",
    segments: int = 8,
    frames: int = 75,
    coders: Sequence[str] = tuple(CODERS),
    seed: int = 0,
    model_folder: str | Path | None = None,
    recordings: int = 0,
    duration_s: float = 1.0,
    codes: np.ndarray | None = None,
) -> Case:
    """Write a case.

    Args:
        folder: Made; must not hold a case yet.
        codec: Whose bundled tokens, and whose bundled language model.
        segments: N; each is taken from another held-out clip.
        frames: T of each, 75 are a second of EnCodec.
        coders: Names in `CODERS`.
        seed: Chooses clips and places.
        model_folder: Float model with its exact twin in ``exact``; None takes the bundled one. `RANDOM` as text
            takes upstream's model with random weights instead, for which there is no exact twin.
        recordings: How many bundled clips the codec itself is tried on; 0 leaves it out.
        duration_s: Length of each, in seconds.
        codes: Tokens of your own, int64 ``[N, T, K]``, instead of segments of held-out clips.

    Raises:
        MissingWeights: There is no such language model, or no tokens.
        UnsupportedInput: An unknown coder, or fewer usable clips than segments.
        CodecbookError: The folder holds a case already.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_NAME).exists():
        raise CodecbookError(f"{folder} holds a case already; choose another folder.")
    unknown = [name for name in coders if name not in CODERS]
    if unknown:
        raise UnsupportedInput(f"There is no coder {unknown[0]!r}; choose of {', '.join(CODERS)}.")
    codes = _segments(codec, segments, frames, seed) if codes is None else codes.astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "codes.npy", codes)
    names, identities = ["codes.npy"], {}
    if model_folder == RANDOM:
        codec, coders = RANDOM, [name for name in coders if CODERS[name].numbers != "exact"]
    else:
        source = default_folder(codec) if model_folder is None else Path(model_folder)
        identities = _copy_models(source, folder)
        names += [f"{part}/{name}" for part in ("lm", "exact") for name in _MODEL_FILES]
    if recordings:
        audio, identities["codec"] = audio_batch(codec, recordings, duration_s)
        np.save(folder / AUDIO_NAME, audio)
        names.append(AUDIO_NAME)
    files = {name: _sha256(folder / name) for name in names}
    case = Case(folder, codec, seed, tuple(coders), identities, files)
    write_file(folder / DESCRIPTION_NAME, json.dumps(case.description(), indent=2) + "\n")
    return case


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
            dict(content["identities"]), dict(content["files"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptInput(f"{folder / DESCRIPTION_NAME} is damaged ({error!r}); export it again.") from error
    if set(case.coders) - set(CODERS):
        raise UnsupportedInput(f"{folder} names the coders {case.coders}, this version has {tuple(CODERS)}.")
    for name, sha256 in case.files.items():
        path = folder / name
        if ".." in Path(name).parts or not path.is_file() or _sha256(path) != sha256:
            raise CorruptInput(
                f"{path} is missing or altered (its SHA-256 is not {sha256[:16]}...); export it again."
            )
    return case


def _segments(codec: str, segments: int, frames: int, seed: int) -> np.ndarray:
    if segments < 1 or frames < 1:
        raise UnsupportedInput(f"segments={segments}, frames={frames}; both start at 1.")
    corpus = bundled_tokens(codec).held_out
    random = np.random.default_rng(seed)
    found = []
    for index in random.permutation(len(corpus)).tolist():
        clip = corpus.clip(index)
        if len(clip) >= frames and len(found) < segments:
            start = int(random.integers(0, len(clip) - frames + 1))
            found.append(clip[start : start + frames])
    if len(found) < segments:
        raise UnsupportedInput(
            f"Only {len(found)} held-out clips have {frames} frames, {segments} were asked for; ask for fewer."
        )
    return np.stack(found).astype(np.int64)


def _copy_models(source: Path, folder: Path) -> dict[str, str]:
    for part, origin in (("lm", source), ("exact", source / EXACT_NAME)):
        for name in _MODEL_FILES:
            if not (origin / name).is_file():
                raise MissingWeights(
                    f"There is no {origin / name}; make it with python data/models/make_language_models.py."
                )
            (folder / part).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, folder / part / name)
    return {"lm": load_lm(folder / "lm").sha256, "exact": load_exact(folder / "exact").sha256}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
