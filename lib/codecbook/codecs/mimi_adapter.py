"""Mimi (Defossez et al. 2024, Moshi), 24 kHz mono, through ``transformers``; codebook 0 is semantic.

Encoder and decoder are causal: convolutions, a Transformer with a sliding window, and a change of rate. Long clips go
through them in pieces, with the convolutions' inputs and the Transformer's keys and values carried over.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import MimiConfig, MimiModel
from transformers.cache_utils import DynamicCache

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.chunks import chunk_bounds
from codecbook.codecs.network_codec import NetworkCodec
from codecbook.codecs.streaming import CausalStream
from codecbook.codecs.transformers_models import load_transformers
from codecbook.codecs.weights import WeightsRequest, keep_signal_alive
from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens

REPOSITORY = "kyutai/mimi"
_CHUNK_S = 20.0


class MimiCodec(NetworkCodec):
    """Mimi behind the common interface.

    Args:
        name: Registry name.
        model: ``transformers.MimiModel``.
        weights: Where its weights are from.
        device: Torch device.

    Raises:
        UnsupportedInput: The configuration has several semantic codebooks, which cannot be left out one by one.
    """

    seams = "state"
    chunk_s = decode_chunk_s = _CHUNK_S

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        config = model.config
        if config.num_semantic_quantizers != 1:
            raise UnsupportedInput(
                f"This Mimi has {config.num_semantic_quantizers} semantic codebooks; one is supported, as published."
            )
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(config.sampling_rate)
        self.channels = int(config.audio_channels)
        self.hop_length = int(config.frame_size)
        self._set_codebooks(int(config.codebook_size), config.num_quantizers)

    @torch.inference_mode()
    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        wave = torch.from_numpy(samples)[None]
        encoder = self.module.encoder
        chunk = round((chunk_s or _CHUNK_S) * self.sample_rate_hz)
        bounds = chunk_bounds(wave.shape[-1], chunk, self.hop_length)
        stream = _MimiStream(encoder.encoder_seanet.layers, encoder.encoder_transformer, [encoder.downsample])
        codes = []
        for start, end in bounds:
            piece = wave[..., start:end].to(self.device)
            latents = encoder(piece).latents if len(bounds) == 1 else stream.push(piece)
            codes.append(self.module.quantizer.encode(latents, num_codebooks)[:, 0].cpu())
        return Encoded(list(torch.cat(codes, dim=-1).numpy()))

    @torch.inference_mode()
    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        codes = torch.from_numpy(np.stack(tokens.codes))[None]  # [1, K, T]
        decoder = self.module.decoder
        bounds = chunk_bounds(codes.shape[-1], round(self.decode_chunk_s * self.frame_rates_hz[0]))
        stream = _MimiStream([decoder.upsample], decoder.decoder_transformer, decoder.decoder_seanet.layers)
        parts = []
        for start, end in bounds:
            latents = self.module.quantizer.decode(codes[..., start:end].to(self.device))
            wave = decoder(latents).audio_values if len(bounds) == 1 else stream.push(latents)
            parts.append(wave[0].cpu())
        return torch.cat(parts, dim=-1).numpy()


class _MimiStream:
    """One pass through convolutions, the Transformer and more convolutions, piece by piece."""

    def __init__(self, before: Any, transformer: Any, after: Any) -> None:
        self._before = CausalStream(before)
        self._transformer = transformer
        self._after = CausalStream(after)
        # keeps as many keys and values as the sliding window sees
        self._cache = DynamicCache(config=transformer.config)

    def push(self, piece: Tensor) -> Tensor:
        """Take the next piece ``[1, C, S]`` and return the outputs ``[1, C', T]`` that it completes."""
        hidden = self._before.push(piece).transpose(1, 2)
        output = self._transformer(hidden, past_key_values=self._cache, use_cache=True)
        return self._after.push(output.last_hidden_state.transpose(1, 2))


def load_mimi(name: str, request: WeightsRequest, device: str) -> MimiCodec:
    """Load Mimi with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    model, weights = load_transformers(name, MimiModel, REPOSITORY, request, _random_model)
    return MimiCodec(name, model, weights, device)


def _random_model() -> Any:
    model = MimiModel(MimiConfig()).eval()
    draw_codebooks(model)
    keep_signal_alive(model, model, torch.randn(1, 1, 16 * model.config.frame_size) * 0.1)
    return model


def draw_codebooks(model: Any) -> None:
    """Fill the codebooks, which transformers leaves at zero, with normal vectors of falling length."""
    for quantizer in (
        model.quantizer.semantic_residual_vector_quantizer,
        model.quantizer.acoustic_residual_vector_quantizer,
    ):
        for level, layer in enumerate(quantizer.layers):
            layer.codebook.embed_sum.normal_(std=0.3 * 0.95**level)
