"""`make_case`: write a case of bundled tokens and models; needs torch and the corpora, which opening one does not."""

import json
import shutil
from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.audio import Clip, convert
from codecbook.clips import load_clips
from codecbook.codecs import load_codec
from codecbook.coding.ecdc.lm import network_of
from codecbook.errors import CodecbookError, MissingWeights, UnsupportedInput
from codecbook.files import sha256_of, write_file
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.files import load_exact
from codecbook.lm.model_files import EXACT_NAME, default_folder, load_lm, save_lm
from codecbook.probes.determinism.case import (
    AUDIO_NAME,
    CODEC_FOLDER,
    CODES_NAME,
    DESCRIPTION_NAME,
    MODEL_FILES,
    RANDOM,
    Case,
)
from codecbook.probes.determinism.codec_steps import save_network
from codecbook.probes.determinism.compare import CODERS


def make_case(
    folder: str | Path,
    codec: str = "encodec_24khz",
    segments: int = 8,
    frames: int = 75,
    seed: int = 0,
    model_folder: str | Path | None = None,
    recordings: int = 0,
    codes: np.ndarray | None = None,
    float_segments: int = 0,
    clips: Sequence[Clip] = (),
    recording_s: float = 1.0,
) -> Case:
    """Write a case.

    Args:
        folder: Made; must not hold a case yet.
        codec: Whose bundled tokens, and whose bundled language model.
        segments: N; each is taken from another held-out clip.
        frames: T of each, 75 are a second of EnCodec.
        seed: Chooses clips and places.
        model_folder: Float model with its exact twin in ``exact``; None takes the bundled one. `RANDOM` as text
            takes upstream's model with random weights instead, for which there is no exact twin.
        recordings: How many bundled clips the codec itself is tried on; 0 leaves it out.
        codes: Tokens of your own, int64 ``[N, T, K]``, instead of segments of held-out clips.
        float_segments: Coders of floats, which take longest, compute only this many segments, from the first; 0 is all.
        clips: Recordings of your own, instead of held-out tokens and of bundled clips: as many segments and recordings
            as they are long enough for, up to those asked for.
        recording_s: Of each recording that the codec is tried on, down to whole frames.

    Raises:
        MissingWeights: There is no such language model, or no tokens.
        CodecbookError: Too few usable clips, or the folder holds a case already.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_NAME).exists():
        raise CodecbookError(f"{folder} holds a case already; choose another folder.")
    if codes is None:
        codes = (segments_of(clips, codec, segments, frames, seed) if clips
                 else _segments(codec, segments, frames, seed))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / CODES_NAME, codes.astype(np.int64))
    names, identities, coders = [CODES_NAME], {}, tuple(CODERS)
    if model_folder == RANDOM:
        codec, coders = RANDOM, tuple(name for name in CODERS if CODERS[name].numbers != "exact")
    else:
        source = default_folder(codec) if model_folder is None else Path(model_folder)
        identities = _copy_models(source, folder)
        names += [f"{part}/{name}" for part in ("lm", "exact") for name in MODEL_FILES]
    if recordings:
        audio, identities["codec"] = audio_batch(codec, recordings, recording_s, clips)
        if len(audio):
            np.save(folder / AUDIO_NAME, audio)
            exact: Any = load_codec(codec, exact=True)
            save_network(folder / CODEC_FOLDER, exact.network)
            identities["exact codec"] = exact.exact_sha256
            names += [AUDIO_NAME, *(f"{CODEC_FOLDER}/{name}" for name in MODEL_FILES)]
    files = {name: sha256_of(folder / name) for name in names}
    case = Case(folder, codec, seed, coders, identities, files, float_segments)
    write_file(folder / DESCRIPTION_NAME, json.dumps(case.description(), indent=2) + "\n")
    return case


def audio_batch(codec: str, count: int, duration_s: float, clips: Sequence[Clip] = ()) -> tuple[np.ndarray, str]:
    """Return the middle of clips, float32 ``[N, C, S]`` at the codec's rate, and its bundled weights' SHA-256.

    Of one's own clips fewer than `count` may be long enough; without any the bundled ones are taken. Raises
    UnsupportedInput: the codec is no EnCodec, or fewer of the bundled clips are long enough.
    """
    model = load_codec(codec)
    network = network_of(model)
    # whole frames: the codec completes a part of one, after which a batch's silence would not come in its place
    hop = round(network.sample_rate / model.frame_rates_hz[0])
    samples = max(1, round(duration_s * network.sample_rate) // hop) * hop
    found = []
    for clip in clips or load_clips("")[0]:
        audio = convert(clip, network.sample_rate, network.channels).samples
        start = (audio.shape[1] - samples) // 2
        if start >= 0 and len(found) < count:
            found.append(audio[:, start : start + samples])
    if len(found) < count and not clips:
        raise UnsupportedInput(f"Only {len(found)} clips last {duration_s:g} s, {count} were asked for; ask for fewer.")
    batch = np.array(found, dtype=np.float32).reshape(-1, network.channels, samples)  # may be empty
    return batch, model.weights.sha256


def segments_of(clips: Sequence[Clip], codec: str, segments: int, frames: int, seed: int = 0) -> np.ndarray:
    """Encode clips with a codec's bundled weights, and return stretches of their tokens, int64 ``[N, T, K]``.

    Stretches do not overlap, and are drawn from the clips in turn; there are fewer than asked for where the clips hold
    fewer. As many codebooks are used as the codec's bundled tokens have. Raises UnsupportedInput: no clip holds as many
    frames.
    """
    model, count = load_codec(codec), bundled_tokens(codec).entry.num_codebooks
    random = np.random.default_rng(seed)
    stretches: list[list[np.ndarray]] = []
    for clip in clips:
        tokens = model.encode(convert(clip, model.sample_rate_hz, model.channels), num_codebooks=count)
        rows = tokens.to_frames()
        places = random.permutation(len(rows) // frames) * frames
        stretches.append([rows[place : place + frames] for place in places.tolist()])
    turns = (part for parts in zip_longest(*stretches) for part in parts if part is not None)
    found = list(islice(turns, segments))
    if not found:
        longest_s = max((clip.duration_s for clip in clips), default=0.0)
        raise UnsupportedInput(
            f"None of the {len(clips)} clips holds a segment of {frames} frames; the longest lasts {longest_s:.3g} s, "
            f"and {frames / model.frame_rates_hz[0]:.3g} s are needed: give longer ones, or fewer frames."
        )
    return np.stack(found)


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
        raise UnsupportedInput(f"Only {len(found)} held-out clips have {frames} frames; ask for fewer than {segments}.")
    return np.stack(found).astype(np.int64)


def _copy_models(source: Path, folder: Path) -> dict[str, str]:
    loaded, exact = load_lm(source), folder / "exact"
    exact.mkdir()
    for name in MODEL_FILES:
        if not (source / EXACT_NAME / name).is_file():
            raise MissingWeights(f"There is no {source / EXACT_NAME / name}; export the model to integers.")
        shutil.copyfile(source / EXACT_NAME / name, exact / name)
    floats = save_lm(folder / "lm", loaded.model, loaded.config["provenance"])
    return {"lm": floats, "exact": load_exact(exact).sha256}
