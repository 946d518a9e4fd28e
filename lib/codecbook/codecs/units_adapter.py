"""The unit tokenizer behind the common interface; see `codecbook.codecs.units` for what the units are."""

import numpy as np
import torch

from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.codecs.model_files import tensors_sha256
from codecbook.codecs.units import (
    NUM_FEATURES,
    SAMPLE_RATE_HZ,
    UNIT_SAMPLES,
    Units,
    load_units_model,
    unit_features,
)
from codecbook.codecs.weights import WeightsRequest, missing, model_source
from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens

_RANDOM_UNITS = 512


class UnitsCodec(Codec):
    """Units behind the common interface; they have no decoder.

    Args:
        name: Registry name.
        units: Of `codecbook.codecs.units`.
        weights: Where they are from.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1
    frame_rates_hz = (SAMPLE_RATE_HZ / UNIT_SAMPLES,)
    decodes = False
    seams = "context"
    # features are computed in stretches of this length in any case
    chunk_s = 20.0

    def __init__(self, name: str, units: Units, weights: Weights) -> None:
        self.name = name
        self.weights = weights
        self.units = units
        self.codebook_sizes = (len(units.centroids),)
        self.bandwidths_kbps = (self.bitrate_kbps(1),)

    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        return Encoded([self.units.assign(unit_features(samples[0]))])

    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        raise UnsupportedInput(f"{self.name} has no decoder; use another codec to listen.")


def load_units(name: str, request: WeightsRequest, device: str) -> UnitsCodec:
    """Load units with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    if device != "cpu":
        raise UnsupportedInput(f"Units are computed on the CPU, not on {device!r}; leave the device out.")
    if request.kind == "random":
        units = _random_units(request.seed)
        tensors = {key: torch.from_numpy(values) for key, values in vars(units).items()}
        return UnitsCodec(name, units, Weights("random", f"seed {request.seed}", tensors_sha256(tensors)))
    if request.kind == "pretrained" or request.path is None:
        raise missing(
            name,
            str(request.path or "the hub"),
            "these units are this project's own, so all of them are bundled",
            "a folder that codecbook.codecs.units wrote, or use weights='bundled'",
        )
    units, sha256 = load_units_model(request.path)
    return UnitsCodec(name, units, Weights("bundled", model_source(request.path), sha256))


def _random_units(seed: int) -> Units:
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((_RANDOM_UNITS, NUM_FEATURES)).astype(np.float32)
    # of the size that cepstra of speech have, so that clips fall into many units
    deviation = np.repeat([4.0, 0.5, 0.2], NUM_FEATURES // 3).astype(np.float32)
    mean = np.zeros(NUM_FEATURES, dtype=np.float32)
    mean[0] = -30.0
    return Units(centroids, mean, deviation)
