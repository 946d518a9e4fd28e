"""`make_case`: write a case of bundled tokens and models; needs torch and the corpora, which opening one does not."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.codecs.encodec_package import encodec
from codecbook.codecs.weights import seeded
from codecbook.errors import CodecbookError, MissingWeights, UnsupportedInput
from codecbook.files import write_file
from codecbook.lm.corpora import bundled_tokens
from codecbook.lm.defaults import EXACT_NAME, default_folder
from codecbook.lm.exact.files import load_exact
from codecbook.lm.model_files import load_lm
from codecbook.probes.determinism.case import (
    AUDIO_NAME,
    DESCRIPTION_NAME,
    MODEL_FILES,
    RANDOM,
    Case,
    sha256_of,
)
from codecbook.probes.determinism.codec import audio_batch
from codecbook.probes.determinism.coders import CODERS


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
    float_segments: int = 0,
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
        float_segments: Coders of floats, which take longest, compute the first so many segments only; 0 is all.

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
        names += [f"{part}/{name}" for part in ("lm", "exact") for name in MODEL_FILES]
    if recordings:
        audio, identities["codec"] = audio_batch(codec, recordings, duration_s)
        np.save(folder / AUDIO_NAME, audio)
        names.append(AUDIO_NAME)
    files = {name: sha256_of(folder / name) for name in names}
    case = Case(folder, codec, seed, tuple(coders), identities, files, float_segments)
    write_file(folder / DESCRIPTION_NAME, json.dumps(case.description(), indent=2) + "\n")
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
        for name in MODEL_FILES:
            if not (origin / name).is_file():
                raise MissingWeights(
                    f"There is no {origin / name}; make it with python data/models/make_language_models.py."
                )
            (folder / part).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, folder / part / name)
    return {"lm": load_lm(folder / "lm").sha256, "exact": load_exact(folder / "exact").sha256}
