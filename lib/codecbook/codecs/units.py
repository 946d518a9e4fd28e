"""Units: k-means over MFCC features, 25 tokens a second, and how they are made.

The oldest of discrete speech representations, and the first targets of HuBERT (Hsu et al. 2021, section 2.1: k-means
on 13 MFCCs with their first and second differences). Here the features of four frames of 10 ms are averaged before
clustering, so that a unit stands for 40 ms. They give comparisons of bits per second a representation that keeps
little but what is said, without a large model.

    python -m codecbook.codecs.units FOLDER... --out data/models/units_25hz_mini --credit "corpus, licence"
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import scipy.fft
import torch
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.cluster import MiniBatchKMeans
from transformers.audio_utils import mel_filter_bank, window_function

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs.model_folder import CONFIG_NAME, PARAMETERS_NAME, write_model
from codecbook.codecs.recordings import find_recordings
from codecbook.codecs.tensor_hash import tensors_sha256
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.files import write_file

SAMPLE_RATE_HZ = 16_000
UNIT_SAMPLES = 640
_WINDOW, _HOP, _FFT_LENGTH = 400, 160, 512
_FRAMES_PER_UNIT = UNIT_SAMPLES // _HOP
_MARGIN = (_WINDOW - _HOP) // 2  # windows are centred on their 10 ms
_MEL_BINS = 40
_CEPSTRA = 13
_DIFFERENCE_REACH = 2
NUM_FEATURES = 3 * _CEPSTRA
# windows of so many units take some 30 MB
_UNITS_AT_ONCE = 500


@dataclass(frozen=True)
class Units:
    """Centroids in a space of standardised features.

    Attributes:
        centroids: float32 ``[V, 39]``.
        mean: float32 ``[39]``, of the features over the training data.
        deviation: float32 ``[39]``, likewise.
    """

    centroids: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def assign(self, features: np.ndarray) -> np.ndarray:
        """Return the index of the nearest centroid, int64 ``[T]``, of features ``[T, 39]``."""
        standard = (features - self.mean) / self.deviation
        centroids = self.centroids.astype(np.float64)
        # |x|^2 is the same for all centroids and left out
        distances = np.square(centroids).sum(axis=1) - 2.0 * standard @ centroids.T
        return distances.argmin(axis=1)


def unit_features(samples: np.ndarray) -> np.ndarray:
    """Return the features of each unit: MFCCs with first and second differences, averaged over 40 ms.

    Args:
        samples: float32 ``[S]`` at 16 kHz; silence is assumed on either side.

    Returns:
        float64 ``[T, 39]`` with ``T = ceil(S / 640)``.
    """
    num_units = -(-samples.size // UNIT_SAMPLES)
    padded = np.pad(samples, (_MARGIN, num_units * UNIT_SAMPLES - samples.size + _MARGIN))
    parts = []
    for start in range(0, num_units, _UNITS_AT_ONCE):
        stop = min(start + _UNITS_AT_ONCE, num_units)
        # second differences reach four frames, that is one unit, to either side
        first, last = max(0, start - 1), min(num_units, stop + 1)
        cepstra = _cepstra(padded[first * UNIT_SAMPLES : last * UNIT_SAMPLES + 2 * _MARGIN])
        slopes = _differences(cepstra)
        frames = np.concatenate([cepstra, slopes, _differences(slopes)], axis=1)
        units = frames.reshape(-1, _FRAMES_PER_UNIT, NUM_FEATURES).mean(axis=1)
        parts.append(units[start - first : stop - first])
    return np.concatenate(parts)


def _cepstra(padded: np.ndarray) -> np.ndarray:
    """Return 13 MFCCs of each frame of 10 ms, float64 ``[T, 13]``."""
    frames = sliding_window_view(padded.astype(np.float64), _WINDOW)[::_HOP]
    spectra = np.fft.rfft(frames * window_function(_WINDOW, "hann"), _FFT_LENGTH)
    mel = np.square(np.abs(spectra)) @ _mel_filters()
    # the floor lies some 10 dB below the noise of 16-bit audio
    return np.asarray(scipy.fft.dct(np.log(mel + 1e-7), axis=1, norm="ortho"))[:, :_CEPSTRA]


def _mel_filters() -> np.ndarray:
    return mel_filter_bank(
        num_frequency_bins=_FFT_LENGTH // 2 + 1,
        num_mel_filters=_MEL_BINS,
        min_frequency=20,
        max_frequency=SAMPLE_RATE_HZ / 2,
        sampling_rate=SAMPLE_RATE_HZ,
        norm=None,
        mel_scale="htk",
    )


def _differences(frames: np.ndarray) -> np.ndarray:
    """Return the slope of a line through five frames at each frame; the ends are continued as constants."""
    reach = _DIFFERENCE_REACH
    padded = np.pad(frames, ((reach, reach), (0, 0)), mode="edge")
    offsets = np.arange(-reach, reach + 1)
    shifted = (offset * padded[reach + offset : reach + offset + len(frames)] for offset in offsets)
    return sum(shifted, np.zeros_like(frames)) / np.square(offsets).sum()


def fit_units(clips: Iterable[Clip], num_units: int = 512, seed: int = 0) -> Units:
    """Cluster the features of clips.

    Args:
        clips: Speech of any rate and channels; an iterator keeps one clip in memory at a time.
        num_units: How many units, ``V``.
        seed: Of k-means.

    Raises:
        UnsupportedInput: `num_units` below 2, or fewer than ten units of 40 ms for each.
    """
    parts = [unit_features(audio.convert(clip, SAMPLE_RATE_HZ, 1).samples[0]) for clip in clips]
    features = np.concatenate(parts) if parts else np.empty((0, NUM_FEATURES))
    if num_units < 2 or len(features) < 10 * num_units:
        raise UnsupportedInput(
            f"{len(features)} stretches of 40 ms for num_units={num_units}; give at least ten for each of two or more."
        )
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.maximum(deviation, 1e-6)
    kmeans = MiniBatchKMeans(num_units, batch_size=4096, n_init=3, random_state=seed)  # type: ignore[arg-type]
    kmeans.fit((features - mean) / deviation)
    centroids = np.asarray(kmeans.cluster_centers_)
    return Units(*(values.astype(np.float32) for values in (centroids, mean, deviation)))


def save_units(folder: Path, units: Units, provenance: dict[str, Any]) -> str:
    """Write units as ``model.safetensors`` and ``config.json``, replacing what is there.

    Returns:
        The SHA-256 of the tensors.
    """
    tensors = {name: torch.from_numpy(values).contiguous() for name, values in vars(units).items()}
    sha256 = tensors_sha256(tensors)
    config = {
        "architecture": "units",
        "arguments": {"num_units": len(units.centroids)},
        "sha256": sha256,
        "provenance": provenance,
    }
    write_model(folder, safetensors.torch.save(tensors), config, overwrite=True)
    return sha256


def load_units_model(folder: Path) -> tuple[Units, str]:
    """Read units and their SHA-256.

    Raises:
        CorruptInput: A file is missing, damaged or altered.
        UnsupportedInput: A model of another kind.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        architecture, expected = config["architecture"], config["sha256"]
        tensors = safetensors.torch.load((folder / PARAMETERS_NAME).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise CorruptInput(
            f"{folder} could not be read as units ({error!r}); make or fetch them again."
        ) from error
    if architecture != "units":
        raise UnsupportedInput(f"The model in {folder} is of architecture {architecture}, not units.")
    sha256 = tensors_sha256(tensors)
    if sha256 != expected or set(tensors) != {"centroids", "mean", "deviation"}:
        raise CorruptInput(
            f"The parameters in {folder} are not those of its {CONFIG_NAME}; fetch both again."
        )
    return Units(**{name: tensor.numpy() for name, tensor in tensors.items()}), sha256


def _card(units: Units, provenance: dict[str, Any], sha256: str) -> str:
    credits = "\n".join(f"- {credit}" for credit in provenance["credits"])
    return f"""# units_25hz_mini

{len(units.centroids)} k-means clusters of MFCC features, 25 tokens a second, for 16 kHz mono speech.
There is no decoder. See `codecbook.codecs.units` for the features.

Made by `python -m codecbook.codecs.units`, seed {provenance["seed"]}, from {provenance["num_clips"]} clips, \
{provenance["duration_s"] / 60:.0f} minutes:

{credits}

On this data {provenance["units_used"]} of {len(units.centroids)} units are used, with an entropy of \
{provenance["entropy_bits"]:.2f} bits a unit.

SHA-256 of the tensors: `{sha256}`.

Fit for comparisons of token rates on read English speech. Not fit for other languages or music, nor as a
measure of what larger semantic tokenizers achieve.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make units from recordings and write them with a model card."""
    parser = argparse.ArgumentParser(
        prog="python -m codecbook.codecs.units", description="Cluster speech into units."
    )
    parser.add_argument("inputs", nargs="+", help="files, folders, or quoted patterns")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument(
        "--credit", action="append", required=True, help="corpus and licence, once for each corpus"
    )
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        clips = [
            audio.load(recording.path, SAMPLE_RATE_HZ, mono=True)
            for recording in find_recordings(options.inputs)
        ]
        units = fit_units(clips, options.units, options.seed)
    except CodecbookError as error:
        print(f"codecbook: {error}", file=sys.stderr)
        return 2
    codes = np.concatenate([units.assign(unit_features(clip.samples[0])) for clip in clips])
    shares = np.bincount(codes)[np.bincount(codes) > 0] / codes.size
    provenance = {
        "credits": options.credit,
        "seed": options.seed,
        "num_clips": len(clips),
        "duration_s": round(sum(clip.duration_s for clip in clips), 1),
        "units_used": len(shares),
        "entropy_bits": round(float(-(shares * np.log2(shares)).sum()), 3),
    }
    sha256 = save_units(options.out, units, provenance)
    write_file(options.out / "README.md", _card(units, provenance, sha256), overwrite=True)
    print(f"{options.out}: {len(units.centroids)} units from {provenance['duration_s']} s of speech")
    return 0


if __name__ == "__main__":
    sys.exit(main())
