"""SNAC (Siuzdak et al. 2024): three levels of codes at 1, 2 and 4 times the coarsest rate, 24 kHz mono."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import snac
import torch
from snac.layers import NoiseBlock
from torch import Tensor

from codecbook.codecs.base import Weights
from codecbook.codecs.loading import keep_signal_alive, load_from_hub, load_network
from codecbook.codecs.networks import ContextCodec, stages_reach
from codecbook.errors import CorruptInput
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens

REPOSITORY = "hubertsiuzdak/snac_24khz"
# of the published model; with noise blocks the same codes would decode differently at each call
_PUBLISHED_24KHZ = {
    "sampling_rate": 24_000, "encoder_dim": 48, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 1024,
    "decoder_rates": [8, 8, 4, 2], "attn_window_size": None, "codebook_size": 4096, "codebook_dim": 8,
    "vq_strides": [4, 2, 1], "noise": True, "depthwise": True,
}  # fmt: skip


class SnacCodec(ContextCodec):
    """SNAC behind the common interface.

    Decoding is repeatable: noise blocks, where the model has them, are run with their noise set to zero. Levels
    beyond those that the tokens hold contribute nothing.

    Attributes:
        vq_strides: Frames for which one code of each level stands, coarse to fine.
    """

    def __init__(self, name: str, model: snac.SNAC, weights: Weights, device: str = "cpu") -> None:
        super().__init__(name, model, weights, device)
        for part in model.modules():
            if isinstance(part, NoiseBlock):
                torch.nn.init.zeros_(part.linear.weight)  # type: ignore[arg-type]
        self.sample_rate_hz = int(model.sampling_rate)
        self.hop_length = int(model.hop_length)
        self.vq_strides = tuple(int(stride) for stride in model.vq_strides)
        self._set_codebooks(model.codebook_size, [self.hop_length * stride for stride in self.vq_strides])
        # whole codes of level 0, and whole windows of attention
        align = self.hop_length * int(np.lcm(self.vq_strides[0], model.attn_window_size or 1))
        # after the stages, attention reaches a window, and the last convolution and the decoder's first 7 frames each
        frames = 7 + (model.attn_window_size or 0) + max(self.vq_strides)
        self._set_context(align, 3 + stages_reach(model.encoder_rates) + self.hop_length * frames)

    def _codes(self, wave: Tensor, num_codebooks: int) -> list[Tensor]:
        return [level[0] for level in self.module.encode(self.module.preprocess(wave))]

    def _frames(self, tokens: Tokens) -> np.ndarray:
        """Return the codes of each frame; levels that do not fit together raise CorruptInput."""
        lengths = [len(level) * stride for level, stride in zip(tokens.codes, self.vq_strides, strict=False)]
        window = self.align // self.hop_length
        if len(set(lengths)) > 1 or lengths[0] % window:
            raise CorruptInput(
                f"Levels of {[len(level) for level in tokens.codes]} codes do not fit together: level k of "
                f"{self.name} holds one code per {list(self.vq_strides)} frames, of a multiple of {window} frames. "
                "Cut all levels at a frame of level 0."
            )
        return self._repeated(tokens.codes)

    def _repeated(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([np.repeat(level, stride) for level, stride in zip(codes, self.vq_strides, strict=False)])

    def latents(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 ``[D, T]``; see `Codec.latents`."""
        return super().latents(list(self._repeated(codes)))

    def _dequantize(self, codes: Tensor) -> Tensor:
        latents = torch.zeros(1, device=self.device)
        for quantizer, level in zip(self.module.quantizer.quantizers, codes[0], strict=False):
            codewords = quantizer.out_proj(quantizer.decode_code(level[None, :: quantizer.stride]))
            latents = latents + codewords.repeat_interleave(quantizer.stride, dim=-1)  # [1, D, T]
        return latents

    def _audio(self, latents: Tensor) -> Tensor:
        return self.module.decoder(latents)[0]


def network(name: str, request: WeightsRequest) -> tuple[Any, Weights]:
    """Return SNAC's network as it was trained, and where its weights are from."""

    def pretrained(path: Path | None) -> tuple[Any, str]:
        files = ("config.json", "pytorch_model.bin")
        return load_from_hub(name, REPOSITORY, snac.SNAC.from_pretrained, files, 2, path)

    return load_network(name, request, snac.SNAC, lambda: random_model(**_PUBLISHED_24KHZ), pretrained)


def load(name: str, request: WeightsRequest, device: str) -> SnacCodec:
    """Load SNAC; see `codecbook.codecs.load_codec`."""
    return wrap(name, *network(name, request), device)


wrap = SnacCodec
"""Puts a network behind the common interface."""


def random_model(**settings: Any) -> snac.SNAC:
    """Return a random model whose tokens vary with the audio."""
    model = snac.SNAC(**settings).eval()
    keep_signal_alive(model, model, torch.randn(1, 1, model.sampling_rate) * 0.1)
    return model
