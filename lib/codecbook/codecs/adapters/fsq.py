"""A causal codec with one finite scalar quantiser (Mentzer et al. 2023): one token of 16 bits a frame, 50 a second.

The shape of NeuCodec's tokens, small enough to be trained here; see `codecbook.codecs.build.build_fsq`.
"""

from collections.abc import Iterator

import numpy as np
import torch

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.build import FsqCodec, build_fsq
from codecbook.codecs.causal import CausalStream
from codecbook.codecs.networks import NetworkCodec, fold_weight_norm, keep_signal_alive, load_network
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens


class FsqAdapter(NetworkCodec):
    """The FSQ codec behind the common interface; the network's weight norm is folded in place."""

    seams = "state"
    chunk_s = decode_chunk_s = 1.28
    channels = 1

    def __init__(self, name: str, model: FsqCodec, weights: Weights, device: str = "cpu") -> None:
        fold_weight_norm(model)
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = model.sample_rate_hz
        self.hop_length = model.hop_length
        self._set_codebooks(model.codebook_size, 1)

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float | None) -> Iterator[Encoded]:
        encoder, chunk = self.module.encoder, self._chunk(chunk_s, self.hop_length)
        run = CausalStream(encoder.model).push if queue.has(2 * chunk) else encoder
        for piece in queue.pieces(chunk):
            latents = run(self._tensor(piece)).transpose(1, 2)
            yield Encoded([self.module.quantizer(latents)[1][0].long().cpu().numpy()])

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> Iterator[np.ndarray]:
        queue, decoder, chunk = (BlockQueue([tokens.codes[0][None]], 1), self.module.decoder, self._decode_chunk())
        run = CausalStream(decoder.model).push if queue.has(2 * chunk) else decoder
        for codes in queue.pieces(chunk):
            latents = self.module.quantizer.indices_to_codes(self._tensor(codes[0]))
            yield run(latents.transpose(1, 2))[0].cpu().numpy()


def load_fsq(name: str, request: WeightsRequest, device: str) -> FsqAdapter:
    """Load the FSQ codec with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    return FsqAdapter(name, *load_network(name, request, draw=_random_model, own=FsqCodec), device)


def _random_model() -> FsqCodec:
    model = build_fsq()
    probe = torch.randn(1, 1, model.sample_rate_hz) * 0.1
    keep_signal_alive(model, lambda wave: model.decoder(model.encoder(wave)), probe)
    return model
