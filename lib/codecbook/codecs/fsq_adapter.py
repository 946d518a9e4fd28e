"""A causal codec with one finite scalar quantiser (Mentzer et al. 2023): one token of 16 bits a frame, 50 a second.

The shape of NeuCodec's tokens, small enough to be trained here; see `codecbook.codecs.build.build_fsq`.
"""

import numpy as np
import torch

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.build import build_fsq
from codecbook.codecs.chunks import chunk_bounds
from codecbook.codecs.fsq_codec import FsqCodec
from codecbook.codecs.model_files import load_model, tensors_sha256
from codecbook.codecs.network_codec import NetworkCodec
from codecbook.codecs.streaming import CausalStream
from codecbook.codecs.weights import (
    WeightsRequest,
    fold_weight_norm,
    keep_signal_alive,
    missing,
    model_source,
    seeded,
)
from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens

_CHUNK_S = 1.28


class FsqAdapter(NetworkCodec):
    """The FSQ codec behind the common interface.

    Args:
        name: Registry name.
        model: Of `codecbook.codecs.build`. Its weight norm is folded in place.
        weights: Where its weights are from.
        device: Torch device.
    """

    seams = "state"
    chunk_s = decode_chunk_s = _CHUNK_S
    channels = 1

    def __init__(self, name: str, model: FsqCodec, weights: Weights, device: str = "cpu") -> None:
        fold_weight_norm(model)
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = model.sample_rate_hz
        self.hop_length = model.hop_length
        self._set_codebooks(model.codebook_size, 1)

    @torch.inference_mode()
    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        wave = torch.from_numpy(samples)[None]
        chunk = round((chunk_s or _CHUNK_S) * self.sample_rate_hz)
        bounds = chunk_bounds(wave.shape[-1], chunk, self.hop_length)
        stream = CausalStream(self.module.encoder.model)
        codes = []
        for start, end in bounds:
            piece = wave[..., start:end].to(self.device)
            latents = self.module.encoder(piece) if len(bounds) == 1 else stream.push(piece)
            codes.append(self.module.quantizer(latents.transpose(1, 2))[1][0].long().cpu())
        return Encoded([torch.cat(codes).numpy()])

    @torch.inference_mode()
    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        codes = torch.from_numpy(tokens.codes[0])[None]
        bounds = chunk_bounds(codes.shape[-1], round(self.decode_chunk_s * self.frame_rates_hz[0]))
        stream = CausalStream(self.module.decoder.model)
        parts = []
        for start, end in bounds:
            latents = self.module.quantizer.indices_to_codes(codes[:, start:end].to(self.device)).transpose(
                1, 2
            )
            wave = self.module.decoder(latents) if len(bounds) == 1 else stream.push(latents)
            parts.append(wave[0].cpu())
        return torch.cat(parts, dim=-1).numpy()


def load_fsq(name: str, request: WeightsRequest, device: str) -> FsqAdapter:
    """Load the FSQ codec with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    if request.kind == "random":
        model = _random_model(request.seed)
        weights = Weights("random", f"seed {request.seed}", tensors_sha256(model.state_dict()))
        return FsqAdapter(name, model, weights, device)
    if request.kind == "pretrained" or request.path is None:
        raise missing(
            name,
            str(request.path or "the hub"),
            "this codec is this project's own, so all of its weights are bundled",
            "a folder that codecbook.codecs.train wrote, or use weights='bundled'",
        )
    loaded = load_model(request.path)
    if not isinstance(loaded.module, FsqCodec):
        raise UnsupportedInput(
            f"The model in {request.path} is of architecture {loaded.config['architecture']}, not fsq."
        )
    weights = Weights("bundled", model_source(loaded.folder), loaded.sha256)
    return FsqAdapter(name, loaded.module, weights, device)


def _random_model(seed: int) -> FsqCodec:
    with seeded(seed):
        model = build_fsq()
        probe = torch.randn(1, 1, model.sample_rate_hz) * 0.1
        keep_signal_alive(model, lambda wave: model.decoder(model.encoder(wave)), probe)
    return model
