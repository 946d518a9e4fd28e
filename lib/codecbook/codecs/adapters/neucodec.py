"""NeuCodec (Julian et al. 2025): one FSQ codebook of 65,536, 50 frames/s, through ``transformers``.

An acoustic encoder and a speech model (w2v-BERT) look at the whole clip, so every token depends on all of it, and long
recordings must be cut. They take 16 kHz; here clips go in, as they come out, at 24 kHz, so that they can be compared.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import NeuCodecConfig, NeuCodecModel, SeamlessM4TFeatureExtractor

from codecbook.audio import Clip, convert
from codecbook.codecs.base import Encoded, Mend, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.loading import keep_signal_alive, load_transformers
from codecbook.codecs.networks import NetworkCodec
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens

REPOSITORY = "neuphonic/neucodec"


class NeuCodec(NetworkCodec):
    """NeuCodec, a ``transformers.NeuCodecModel``, behind the common interface."""

    channels = 1

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        config = model.config
        features = config.semantic_model_config.feature_projection_input_dim
        if config.input_sampling_rate != 16_000 or features != 160:
            raise UnsupportedInput(f"{features} features at {config.input_sampling_rate} Hz; NeuCodec: 160 at 16000.")
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(config.output_sampling_rate)
        self.hop_length = int(config.encoder_hop_length) * self.sample_rate_hz // 16_000
        self._set_codebooks(int(np.prod(config.quantization_levels)), [self.hop_length])
        # that of w2v-BERT, whose features are log mel energies; the model's own takes these from torchaudio
        self._features = SeamlessM4TFeatureExtractor()

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        wave = convert(Clip(queue.rest(), self.sample_rate_hz), sample_rate_hz=16_000).samples[0]
        # a zero, and whole frames, as the package does; two frames at least make one token
        hop = int(self.module.config.encoder_hop_length)
        length = max(wave.size + 1, 2 * hop)
        wave = np.pad(wave, (0, length + -length % hop - wave.size))
        features = self._features(wave, sampling_rate=16_000, return_tensors="pt")["input_features"]
        encoded = self.module.encode(input_values=self._tensor(wave[None]), input_features=features.to(self.device))
        yield Encoded([encoded.audio_codes[0, 0].long().cpu().numpy()])

    @torch.inference_mode()
    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        latents = self._mended(self._dequantize(self._tensor(tokens.codes[0][None])), mend, 0)
        yield self.module.decode(latents=latents).audio_values[0].cpu().numpy()

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self.module.quantizer.from_codes(codes.transpose(1, 2)).transpose(1, 2)


def load(name: str, request: WeightsRequest, device: str) -> NeuCodec:
    """Load NeuCodec; see `codecbook.codecs.load_codec`."""
    network = load_transformers(name, NeuCodecModel, REPOSITORY, request, lambda: random_model(NeuCodecConfig()))
    return NeuCodec(name, *network, device)


def random_model(config: NeuCodecConfig) -> NeuCodecModel:
    """Return a random model whose latents vary as far as the quantiser's levels lie apart, whatever its size."""
    model: Any = NeuCodecModel(config).eval()
    wave = torch.randn(1, 1, 50 * config.encoder_hop_length) * 0.1
    keep_signal_alive(model.acoustic_encoder, model.acoustic_encoder, wave)
    for layer in (model.fc_encoder, model.quantizer.project_in):
        torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    return model
