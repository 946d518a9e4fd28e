"""Mimi (Defossez et al. 2024, Moshi), 24 kHz mono, through ``transformers``; codebook 0 is semantic.

Encoder and decoder are causal: convolutions, a Transformer with a sliding window, and a change of rate. Long clips go
through them in pieces, with the convolutions' inputs and the Transformer's keys and values carried over.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import MimiConfig, MimiModel
from transformers.cache_utils import DynamicCache

from codecbook.codecs.base import Weights
from codecbook.codecs.loading import keep_signal_alive, load_transformers
from codecbook.codecs.networks import CausalCodec, CausalStream
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import WeightsRequest

REPOSITORY = "kyutai/mimi"


class MimiCodec(CausalCodec):
    """Mimi, a ``transformers.MimiModel``, behind the common interface.

    Several semantic codebooks are refused, as they cannot be left out one by one.
    """

    chunk_s = 20.0

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        config = model.config
        if config.num_semantic_quantizers != 1:
            raise UnsupportedInput(f"Mimi has {config.num_semantic_quantizers} semantic codebooks; one is supported.")
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(config.sampling_rate)
        self.channels = int(config.audio_channels)
        self.hop_length = int(config.frame_size)
        self._set_codebooks(int(config.codebook_size), [self.hop_length] * config.num_quantizers)

    def _encoder(self, in_pieces: bool) -> Callable[[Tensor], Tensor]:
        encoder = self.module.encoder
        if in_pieces:
            return MimiStream(encoder.encoder_seanet.layers, encoder.encoder_transformer, [encoder.downsample]).push
        return lambda wave: encoder(wave).latents

    def _decoder(self, in_pieces: bool) -> Callable[[Tensor], Tensor]:
        decoder = self.module.decoder
        if in_pieces:
            return MimiStream([decoder.upsample], decoder.decoder_transformer, decoder.decoder_seanet.layers).push
        return lambda latents: decoder(latents).audio_values

    def _quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        return self.module.quantizer.encode(latents, num_codebooks)[:, 0]

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self.module.quantizer.decode(codes)


class MimiStream:
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


def load(name: str, request: WeightsRequest, device: str) -> MimiCodec:
    """Load Mimi; see `codecbook.codecs.load_codec`."""
    network = load_transformers(name, MimiModel, REPOSITORY, request, lambda: random_model(MimiConfig()))
    return MimiCodec(name, *network, device)


def random_model(config: MimiConfig) -> MimiModel:
    """Return a random model whose tokens vary with the audio; transformers leaves its codebooks at zero."""
    model: Any = MimiModel(config).eval()
    for kind in ("semantic", "acoustic"):
        quantizer = getattr(model.quantizer, f"{kind}_residual_vector_quantizer")
        for level, layer in enumerate(quantizer.layers):
            layer.codebook.embed_sum.normal_(std=0.3 * 0.95**level)
    keep_signal_alive(model, model, torch.randn(1, 1, 16 * config.frame_size) * 0.1)
    return model
