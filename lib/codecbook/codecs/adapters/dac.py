"""DAC, the Descript Audio Codec (Kumar et al. 2023), 44.1 kHz mono, through ``transformers``.

The encoder looks ahead, but not far: long clips are encoded in pieces that overlap by the receptive field.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DacConfig, DacModel

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.networks import NetworkCodec, keep_signal_alive, load_transformers
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens

REPOSITORY = "descript/dac_44khz"


class DacCodec(NetworkCodec):
    """DAC, a ``transformers.DacModel``, behind the common interface.

    Attributes:
        context: Samples on either side that codes and audio may depend on, in whole frames.
    """

    seams = "context"
    chunk_s = decode_chunk_s = 20.0
    channels = 1

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        config = model.config
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(config.sampling_rate)
        self.hop_length = int(config.hop_length)
        # at hop_length's frame rate: the configuration's own is rounded up to a whole number (87)
        self._set_codebooks(int(config.codebook_size), config.n_codebooks)
        # the network's ends reach 3 samples and 4 frames
        reach = 3 + stages_reach(config.downsampling_ratios) + 4 * self.hop_length
        self.context = self.hop_length * -(-reach // self.hop_length)

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float | None) -> Iterator[Encoded]:
        hop = self.hop_length
        for samples, start, end in queue.pieces_in_context(self._chunk(chunk_s, hop), hop, self.context):
            wave = pad(self._tensor(samples), (0, -samples.shape[1] % hop))
            codes = self.module.encode(wave, num_codebooks).audio_codes[0].cpu().numpy()
            yield Encoded(list(codes[:, start // hop : end // hop]))

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> Iterator[np.ndarray]:
        queue, hop = BlockQueue([np.stack(tokens.codes)], tokens.num_codebooks), self.hop_length
        for codes, start, end in queue.pieces_in_context(self._decode_chunk(), 1, self.context // hop):
            wave = self.module.decode(audio_codes=self._tensor(codes)).audio_values  # [1, S]
            yield wave[:, start * hop : end * hop].cpu().numpy()


def stages_reach(strides: Sequence[int]) -> int:
    """Bound from above how many samples the stages of DAC's and SNAC's encoder look to either side.

    At each stage three residual units (kernel 7, dilations 1, 3, 9) reach 39 steps, the strided convolution another two
    strides.
    """
    reach, step = 0, 1
    for stride in strides:
        reach += step * (39 + 2 * stride)
        step *= stride
    return reach


def load_dac(name: str, request: WeightsRequest, device: str) -> DacCodec:
    """Load DAC with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    return DacCodec(name, *load_transformers(name, DacModel, REPOSITORY, request, _random_model), device)


def _random_model() -> Any:
    model = DacModel(DacConfig(sampling_rate=44_100)).eval()
    keep_signal_alive(model, model, torch.randn(1, 1, 32 * model.config.hop_length) * 0.1)
    return model
