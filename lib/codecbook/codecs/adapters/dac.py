"""DAC, the Descript Audio Codec (Kumar et al. 2023), 44.1 kHz mono, through ``transformers``."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DacConfig, DacModel

from codecbook.codecs.base import Weights
from codecbook.codecs.loading import keep_signal_alive, load_transformers
from codecbook.codecs.networks import ContextCodec, stages_reach
from codecbook.models.weights import WeightsRequest

REPOSITORY = "descript/dac_44khz"


class DacCodec(ContextCodec):
    """DAC, a ``transformers.DacModel``, behind the common interface."""

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        super().__init__(name, model, weights, device)
        config = model.config
        self.sample_rate_hz = int(config.sampling_rate)
        self.hop_length = int(config.hop_length)
        # at hop_length's frame rate: the configuration's own is rounded up to a whole number (87)
        self._set_codebooks(int(config.codebook_size), [self.hop_length] * config.n_codebooks)
        # the network's ends reach 3 samples and 4 frames
        self._set_context(self.hop_length, 3 + stages_reach(config.downsampling_ratios) + 4 * self.hop_length)

    def _codes(self, wave: Tensor, num_codebooks: int) -> Tensor:
        return self.module.encode(pad(wave, (0, -wave.shape[-1] % self.hop_length)), num_codebooks).audio_codes[0]

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self.module.quantizer.from_codes(codes)[0]

    def _audio(self, latents: Tensor) -> Tensor:
        return self.module.decode(quantized_representation=latents).audio_values


def load(name: str, request: WeightsRequest, device: str) -> DacCodec:
    """Load DAC; see `codecbook.codecs.load_codec`."""
    config = DacConfig(sampling_rate=44_100)
    return DacCodec(name, *load_transformers(name, DacModel, REPOSITORY, request, lambda: random_model(config)), device)


def random_model(config: DacConfig) -> DacModel:
    """Return a random model whose tokens vary with the audio."""
    model = DacModel(config).eval()
    keep_signal_alive(model, model, torch.randn(1, 1, 32 * config.hop_length) * 0.1)
    return model
