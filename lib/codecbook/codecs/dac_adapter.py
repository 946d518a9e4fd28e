"""DAC, the Descript Audio Codec (Kumar et al. 2023), 44.1 kHz mono, through ``transformers``.

The encoder looks ahead, but not far: long clips are encoded in pieces that overlap by the receptive field.
"""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DacConfig, DacModel

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.chunks import chunk_bounds, run_with_context
from codecbook.codecs.network_codec import NetworkCodec
from codecbook.codecs.transformers_models import load_transformers
from codecbook.codecs.weights import WeightsRequest, keep_signal_alive
from codecbook.tokens.tokens import Tokens

REPOSITORY = "descript/dac_44khz"
_CHUNK_S = 20.0


class DacCodec(NetworkCodec):
    """DAC behind the common interface.

    Args:
        name: Registry name.
        model: ``transformers.DacModel``.
        weights: Where its weights are from.
        device: Torch device.

    Attributes:
        context: Samples on either side that codes and audio may depend on, in whole frames.
    """

    seams = "context"
    chunk_s = decode_chunk_s = _CHUNK_S
    channels = 1

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        config = model.config
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(config.sampling_rate)
        self.hop_length = int(config.hop_length)
        # at hop_length's frame rate: the configuration's own is rounded up to a whole number (87)
        self._set_codebooks(int(config.codebook_size), config.n_codebooks)
        self.context = self.hop_length * -(-_receptive_field(config) // self.hop_length)

    @torch.inference_mode()
    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        wave = torch.from_numpy(samples)[None]
        wave = pad(wave, (0, -wave.shape[-1] % self.hop_length))
        chunk = round((chunk_s or _CHUNK_S) * self.sample_rate_hz)
        (codes,) = run_with_context(
            lambda piece: self.module.encode(piece.to(self.device), num_codebooks).audio_codes.cpu(),
            wave,
            chunk_bounds(wave.shape[-1], chunk, self.hop_length),
            self.context,
            [(self.hop_length, 1)],
        )
        return Encoded(list(codes[0].numpy()))

    @torch.inference_mode()
    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        codes = torch.from_numpy(np.stack(tokens.codes))[None]  # [1, K, T]
        (wave,) = run_with_context(
            lambda piece: self.module.decode(audio_codes=piece.to(self.device)).audio_values[:, None].cpu(),
            codes,
            chunk_bounds(codes.shape[-1], round(self.decode_chunk_s * self.frame_rates_hz[0])),
            self.context // self.hop_length,
            [(1, self.hop_length)],
        )
        return wave[0].numpy()


def _receptive_field(config: Any) -> int:
    """Bound from above how many samples away from its place a code depends on, on either side.

    At each stage three residual units (kernel 7, dilations 1, 3, 9) reach 39 steps, the strided convolution
    another two strides; the convolutions at either end of the network reach 3 samples and 3 frames.
    """
    reach, step = 3, 1
    for stride in config.downsampling_ratios:
        reach += step * (39 + 2 * stride)
        step *= stride
    return reach + 4 * step


def load_dac(name: str, request: WeightsRequest, device: str) -> DacCodec:
    """Load DAC with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    model, weights = load_transformers(name, DacModel, REPOSITORY, request, _random_model)
    return DacCodec(name, model, weights, device)


def _random_model() -> Any:
    model = DacModel(DacConfig(sampling_rate=44_100)).eval()
    keep_signal_alive(model, model, torch.randn(1, 1, 32 * model.config.hop_length) * 0.1)
    return model
