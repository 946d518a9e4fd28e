"""A causal codec with one finite scalar quantiser (Mentzer et al. 2023): one token of 16 bits a frame, 50 a second.

The shape of NeuCodec's tokens, small enough to be trained here; see `codecbook.codecs.build.build_fsq`.
"""

import torch
from torch import Tensor

from codecbook.codecs.base import Weights
from codecbook.codecs.build import FsqCodec, build_fsq
from codecbook.codecs.loading import keep_signal_alive, load_network
from codecbook.codecs.networks import CausalCodec
from codecbook.models.weights import WeightsRequest


class FsqAdapter(CausalCodec):
    """The FSQ codec behind the common interface."""

    channels = 1
    chunk_s = 1.28

    def __init__(self, name: str, model: FsqCodec, weights: Weights, device: str = "cpu") -> None:
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = model.sample_rate_hz
        self.hop_length = model.hop_length
        self._set_codebooks(model.codebook_size, [model.hop_length])

    def _quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        return self.module.quantizer(latents.transpose(1, 2))[1].long()

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self.module.quantizer.indices_to_codes(codes[:, 0]).transpose(1, 2)


def network(name: str, request: WeightsRequest) -> tuple[FsqCodec, Weights]:
    """Return the codec's network as it was trained, and where its weights are from."""
    return load_network(name, request, FsqCodec, _random_model)


def load(name: str, request: WeightsRequest, device: str) -> FsqAdapter:
    """Load the FSQ codec; see `codecbook.codecs.load_codec`."""
    return wrap(name, *network(name, request), device)


wrap = FsqAdapter
"""Puts a network behind the common interface."""


def _random_model() -> FsqCodec:
    model = build_fsq()
    probe = torch.randn(1, 1, model.sample_rate_hz) * 0.1
    keep_signal_alive(model, lambda wave: model.decoder(model.encoder(wave)), probe)
    return model
