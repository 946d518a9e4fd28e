"""SNAC (Siuzdak et al. 2024): three levels of codes at 1, 2 and 4 times the coarsest rate, 24 kHz mono.

The encoder looks ahead, but not far: long clips are encoded in pieces that overlap by the receptive field.
"""

from collections.abc import Iterator

import numpy as np
import snac
import torch
from snac.layers import NoiseBlock

from codecbook.codecs.adapters.dac import stages_reach
from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.networks import NetworkCodec, fold_weight_norm, hub_sources, keep_signal_alive, load_network
from codecbook.errors import CorruptInput
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens

REPOSITORY = "hubertsiuzdak/snac_24khz"
# of the published model; with noise blocks the same codes would decode differently at each call
_PUBLISHED_24KHZ = {
    "sampling_rate": 24_000,
    "encoder_dim": 48,
    "encoder_rates": [2, 4, 8, 8],
    "decoder_dim": 1024,
    "decoder_rates": [8, 8, 4, 2],
    "attn_window_size": None,
    "codebook_size": 4096,
    "codebook_dim": 8,
    "vq_strides": [4, 2, 1],
    "noise": True,
    "depthwise": True,
}


class SnacCodec(NetworkCodec):
    """SNAC behind the common interface.

    Decoding is repeatable: noise blocks, where the model has them, are run with their noise set to zero. Levels
    beyond those that the tokens hold contribute nothing.

    The network's weight norm is folded in place.

    Attributes:
        vq_strides: Frames for which one code of each level stands, coarse to fine.
        align: The encoder pads a clip to a multiple of this many samples: whole codes of level 0, whole windows of
            attention.
        context: Samples on either side that codes and audio may depend on, a multiple of `align`.
    """

    seams = "context"
    chunk_s = decode_chunk_s = 20.0
    channels = 1

    def __init__(self, name: str, model: snac.SNAC, weights: Weights, device: str = "cpu") -> None:
        fold_weight_norm(model)
        _silence_noise(model)
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(model.sampling_rate)
        self.hop_length = int(model.hop_length)
        self.vq_strides = tuple(int(stride) for stride in model.vq_strides)
        self.codebook_sizes = (model.codebook_size,) * len(self.vq_strides)
        self.frame_rates_hz = tuple(self.sample_rate_hz / (self.hop_length * stride) for stride in self.vq_strides)
        self.bandwidths_kbps = tuple(self.bitrate_kbps(k + 1) for k in range(len(self.vq_strides)))
        self.align = self.hop_length * int(np.lcm(self.vq_strides[0], model.attn_window_size or 1))
        # then attention reaches a window, and the last convolution and the decoder's first 7 frames each
        window = (model.attn_window_size or 0) + max(self.vq_strides)
        reach = 3 + stages_reach(model.encoder_rates) + self.hop_length * (7 + window)
        self.context = self.align * -(-reach // self.align)

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float | None) -> Iterator[Encoded]:
        chunk = self._chunk(chunk_s, self.align)
        steps = [self.hop_length * stride for stride in self.vq_strides[:num_codebooks]]
        for samples, start, end in queue.pieces_in_context(chunk, self.align, self.context):
            levels = self.module.encode(self.module.preprocess(self._tensor(samples)))
            yield Encoded(
                [
                    level[0, start // step : end // step].cpu().numpy()
                    for level, step in zip(levels, steps, strict=False)
                ]
            )

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> Iterator[np.ndarray]:
        self._check_levels(tokens)
        hop = self.hop_length
        latents = torch.zeros(1, device=self.device)
        for quantizer, level in zip(self.module.quantizer.quantizers, tokens.codes, strict=False):
            codewords = quantizer.out_proj(quantizer.decode_code(self._tensor(level)))
            latents = latents + codewords.repeat_interleave(quantizer.stride, dim=-1)  # [1, D, T]
        queue, align = BlockQueue([latents[0].cpu().numpy()], latents.shape[1]), self.align // hop
        for piece, start, end in queue.pieces_in_context(self._decode_chunk(align), align, self.context // hop):
            yield self.module.decoder(self._tensor(piece))[0, :, start * hop : end * hop].cpu().numpy()

    def _check_levels(self, tokens: Tokens) -> None:
        """Refuse levels that do not stand for equally many frames, or for parts of a window.

        Raises:
            CorruptInput: Such levels.
        """
        lengths = [len(level) * stride for level, stride in zip(tokens.codes, self.vq_strides, strict=False)]
        window = self.align // self.hop_length
        if len(set(lengths)) > 1 or lengths[0] % window:
            raise CorruptInput(
                f"Levels of {[len(level) for level in tokens.codes]} codes do not fit together: level k of "
                f"{self.name} holds one code per {list(self.vq_strides)} frames, of a multiple of {window} frames. "
                "Cut all levels at a frame of level 0."
            )


def _silence_noise(model: snac.SNAC) -> None:
    for part in model.modules():
        if isinstance(part, NoiseBlock):
            torch.nn.init.zeros_(part.linear.weight)  # type: ignore[arg-type]


def load_snac(name: str, request: WeightsRequest, device: str) -> SnacCodec:
    """Load SNAC with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    files = ("config.json", "pytorch_model.bin")
    sources = hub_sources(name, REPOSITORY, snac.SNAC.from_pretrained, files, needed=2)
    return SnacCodec(name, *load_network(name, request, draw=_random_model, own=snac.SNAC, **sources), device)


def _random_model() -> snac.SNAC:
    model = snac.SNAC(**_PUBLISHED_24KHZ).eval()
    keep_signal_alive(model, model, torch.randn(1, 1, model.sampling_rate) * 0.1)
    return model
