"""Units: k-means over MFCC features, averaged over 40 ms, 25 tokens a second.

The first targets of HuBERT (Hsu et al. 2021, section 2.1) were such clusters, of 10 ms. They give comparisons of bits
per second a representation that keeps little but what is said. `codecbook.codecs.training.units` makes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from codecbook.audio import triangular_filters
from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.models.store import load_tensors, read_config, tensors_sha256
from codecbook.models.weights import WeightsRequest, missing, model_source

ARCHITECTURE = "units"
SAMPLE_RATE_HZ = 16_000
_UNIT_SAMPLES = 640
_WINDOW, _HOP = 400, 160
_CEPSTRA = 13
NUM_FEATURES = 3 * _CEPSTRA
_UNITS_AT_ONCE = 500  # whose windows take some 30 MB


@dataclass(frozen=True)
class Units:
    """Centroids in a space of standardised features."""

    centroids: np.ndarray  # float32 [V, 39]
    mean: np.ndarray  # float32 [39], of the features over the training data
    deviation: np.ndarray  # float32 [39], likewise

    def assign(self, features: np.ndarray) -> np.ndarray:
        """Return the index of the nearest centroid, int64 ``[T]``, of features ``[T, 39]``."""
        standard = (features - self.mean) / self.deviation
        centroids = self.centroids.astype(np.float64)
        # |x|^2 is the same for all centroids and left out
        distances = np.square(centroids).sum(axis=1) - 2.0 * standard @ centroids.T
        return distances.argmin(axis=1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, as they are stored."""
        return {name: torch.from_numpy(values).contiguous() for name, values in vars(self).items()}


class UnitsCodec(Codec):
    """Units behind the common interface; they have no decoder."""

    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1
    frame_rates_hz = (SAMPLE_RATE_HZ / _UNIT_SAMPLES,)
    decodes = False
    seams = "context"
    chunk_s = 20.0

    def __init__(self, name: str, units: Units, weights: Weights) -> None:
        self.name = name
        self.weights = weights
        self.units = units
        self.codebook_sizes = (len(units.centroids),)
        self.bandwidths_kbps = (self.bitrate_kbps(1),)

    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        for features in _feature_pieces(queue, round(chunk_s * self.frame_rates_hz[0])):
            yield Encoded([self.units.assign(features)])


def unit_features(samples: np.ndarray) -> np.ndarray:
    """Return the features of each unit: MFCCs with first and second differences, averaged over 40 ms.

    Of float32 ``[S]`` at 16 kHz, with silence on either side, they are float64 ``[T, 39]``, ``T = ceil(S / 640)``.
    """
    return np.concatenate(list(_feature_pieces(BlockQueue([samples[None]], 1), _UNITS_AT_ONCE)))


def _feature_pieces(queue: BlockQueue, units_at_once: int) -> Iterator[np.ndarray]:
    # second differences reach four frames and half a window, less than two units, to either side
    context = 2 * _UNIT_SAMPLES
    margin = (_WINDOW - _HOP) // 2  # windows are centred on their 10 ms
    for samples, start, end in queue.pieces_in_context(units_at_once * _UNIT_SAMPLES, _UNIT_SAMPLES, context):
        cepstra = _cepstra(np.pad(samples[0], (margin, -samples.shape[1] % _UNIT_SAMPLES + margin)))
        slopes = _differences(cepstra)
        frames = np.concatenate([cepstra, slopes, _differences(slopes)], axis=1)
        units = frames.reshape(-1, _UNIT_SAMPLES // _HOP, NUM_FEATURES).mean(axis=1)
        yield units[start // _UNIT_SAMPLES : end // _UNIT_SAMPLES]


def _cepstra(padded: np.ndarray) -> np.ndarray:
    """Return 13 MFCCs of each frame of 10 ms, float64 ``[T, 13]``."""
    frames = sliding_window_view(padded.astype(np.float64), _WINDOW)[::_HOP]
    spectra = np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1], 512)
    ends_mel = 2595 * np.log10(1 + np.array([20, SAMPLE_RATE_HZ / 2]) / 700)  # of the HTK scale
    edges_hz = 700 * (10 ** (np.linspace(ends_mel[0], ends_mel[1], 42) / 2595) - 1)
    mel = np.square(np.abs(spectra)) @ triangular_filters(edges_hz, spectra.shape[1], SAMPLE_RATE_HZ)
    # the floor lies some 10 dB below the noise of 16-bit audio
    return np.asarray(scipy.fft.dct(np.log(mel + 1e-7), axis=1, norm="ortho"))[:, :_CEPSTRA]


def _differences(frames: np.ndarray) -> np.ndarray:
    """Return the slope of a line through five frames at each frame; the ends are continued as constants."""
    padded = np.pad(frames, ((2, 2), (0, 0)), mode="edge")
    shifted = (offset * padded[2 + offset : 2 + offset + len(frames)] for offset in range(-2, 3))
    return sum(shifted, np.zeros_like(frames)) / 10.0


def load(name: str, request: WeightsRequest, device: str) -> UnitsCodec:
    """Load units; see `codecbook.codecs.load_codec`."""
    if device != "cpu":
        raise UnsupportedInput(f"Units are computed on the CPU, not on {device!r}; leave the device out.")
    if request.kind == "random":
        units = _random_units(request.seed)
        return UnitsCodec(name, units, Weights("random", f"seed {request.seed}", tensors_sha256(units.tensors())))
    if request.kind == "pretrained" or request.path is None:
        raise missing(
            name,
            str(request.path or "the hub"),
            "these units are this project's own, so all of them are bundled",
            "a folder that codecbook.codecs.training.units wrote, or use weights='bundled'",
        )
    units, sha256 = load_units_model(request.path)
    return UnitsCodec(name, units, Weights("bundled", model_source(request.path), sha256))


def load_units_model(folder: Path) -> tuple[Units, str]:
    """Read units and their SHA-256."""
    config = read_config(folder, "units", "python -m codecbook.codecs.training.units")
    if config["architecture"] != ARCHITECTURE:
        raise UnsupportedInput(f"The model in {folder} is of architecture {config['architecture']}, not units.")
    tensors = load_tensors(folder, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    num_units, row = shapes.get("centroids", (0,))[0], (NUM_FEATURES,)
    if num_units < 1 or shapes != {"centroids": (num_units, *row), "mean": row, "deviation": row}:
        raise CorruptInput(f"The parameters in {folder} are no units ({shapes}); make or fetch them again.")
    return Units(**{name: tensor.numpy() for name, tensor in tensors.items()}), config["sha256"]


def _random_units(seed: int) -> Units:
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((512, NUM_FEATURES)).astype(np.float32)
    # of the size that cepstra of speech have, so that clips fall into many units
    deviation = np.repeat([4.0, 0.5, 0.2], _CEPSTRA).astype(np.float32)
    mean = np.zeros(NUM_FEATURES, dtype=np.float32)
    mean[0] = -30.0
    return Units(centroids, mean, deviation)
