"""SNAC (Siuzdak et al. 2024): three levels of codes at 1, 2 and 4 times the coarsest rate, 24 kHz mono.

The encoder looks ahead, but not far: long clips are encoded in pieces that overlap by the receptive field.
"""

from pathlib import Path

import numpy as np
import snac
import torch
from snac.layers import NoiseBlock
from torch import Tensor

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.chunks import chunk_bounds, run_with_context
from codecbook.codecs.model_files import load_model, tensors_sha256
from codecbook.codecs.network_codec import NetworkCodec
from codecbook.codecs.weights import (
    WeightsRequest,
    fold_weight_norm,
    from_hub,
    keep_signal_alive,
    missing,
    model_source,
    seeded,
)
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.tokens import Tokens

REPOSITORY = "hubertsiuzdak/snac_24khz"
_FILES = ("config.json", "pytorch_model.bin")
_CHUNK_S = 20.0
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

    Args:
        name: Registry name.
        model: Of the package ``snac``. Its weight norm is folded in place.
        weights: Where its weights are from.
        device: Torch device.

    Attributes:
        vq_strides: Frames for which one code of each level stands, coarse to fine.
        align: The encoder pads a clip to a multiple of so many samples: whole codes of level 0, whole windows of
            attention.
        context: Samples on either side that codes and audio may depend on, a multiple of `align`.
    """

    seams = "context"
    chunk_s = decode_chunk_s = _CHUNK_S
    channels = 1

    def __init__(self, name: str, model: snac.SNAC, weights: Weights, device: str = "cpu") -> None:
        fold_weight_norm(model)
        _silence_noise(model)
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(model.sampling_rate)
        self.hop_length = int(model.hop_length)
        self.vq_strides = tuple(int(stride) for stride in model.vq_strides)
        self.codebook_sizes = (model.codebook_size,) * len(self.vq_strides)
        self.frame_rates_hz = tuple(
            self.sample_rate_hz / (self.hop_length * stride) for stride in self.vq_strides
        )
        self.bandwidths_kbps = tuple(self.bitrate_kbps(k + 1) for k in range(len(self.vq_strides)))
        self.align = self.hop_length * int(np.lcm(self.vq_strides[0], model.attn_window_size or 1))
        self.context = self.align * -(-_receptive_field(model) // self.align)

    @torch.inference_mode()
    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        wave = self.module.preprocess(torch.from_numpy(samples)[None])
        chunk = round((chunk_s or _CHUNK_S) * self.sample_rate_hz)
        codes = run_with_context(
            lambda piece: [level.cpu() for level in self.module.encode(piece.to(self.device))],
            wave,
            chunk_bounds(wave.shape[-1], chunk, self.align),
            self.context,
            [(self.hop_length * stride, 1) for stride in self.vq_strides],
        )
        return Encoded([level[0].numpy() for level in codes[:num_codebooks]])

    @torch.inference_mode()
    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        self.check_levels(tokens)
        latents = self.latents(tokens)
        frames_align = self.align // self.hop_length
        (wave,) = run_with_context(
            lambda piece: self.module.decoder(piece.to(self.device)).cpu(),
            latents,
            chunk_bounds(
                latents.shape[-1], round(self.decode_chunk_s * self.frame_rates_hz[-1]), frames_align
            ),
            self.context // self.hop_length,
            [(1, self.hop_length)],
        )
        return wave[0].numpy()

    def latents(self, tokens: Tokens) -> Tensor:
        """Sum the codewords of the levels that are there, each held for its stride: ``[1, D, T]``."""
        total: Tensor | float = 0.0
        for quantizer, level in zip(self.module.quantizer.quantizers, tokens.codes, strict=False):
            codewords = quantizer.decode_code(torch.from_numpy(level)[None].to(self.device))
            total = total + quantizer.out_proj(codewords).repeat_interleave(quantizer.stride, dim=-1)
        assert isinstance(total, Tensor)
        return total

    def check_levels(self, tokens: Tokens) -> None:
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


def _receptive_field(model: snac.SNAC) -> int:
    """Bound from above how many samples away from its place a code depends on, on either side.

    At each stage three residual units (kernel 7, dilations 1, 3, 9) reach 39 steps, the strided convolution
    another two strides; then attention a window, and the last convolution and the decoder's first 7 frames each.
    """
    reach, step = 3, 1
    for stride in model.encoder_rates:
        reach += step * (39 + 2 * stride)
        step *= stride
    return reach + step * (7 + (model.attn_window_size or 0) + max(model.vq_strides))


def load_snac(name: str, request: WeightsRequest, device: str) -> SnacCodec:
    """Load SNAC with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    if request.kind == "bundled":
        assert request.path is not None
        loaded = load_model(request.path)
        if not isinstance(loaded.module, snac.SNAC):
            raise UnsupportedInput(
                f"The model in {request.path} is of architecture {loaded.config['architecture']}, not a SNAC."
            )
        return SnacCodec(
            name, loaded.module, Weights("bundled", model_source(loaded.folder), loaded.sha256), device
        )
    if request.kind == "random":
        model, source = _random_model(request.seed), f"seed {request.seed}"
    elif request.path is None:
        remedy = f"a folder with {' and '.join(_FILES)} of {REPOSITORY}"
        model, source = from_hub(name, REPOSITORY, snac.SNAC.from_pretrained, remedy)
    else:
        model, source = _model_from(name, request.path), str(request.path)
    return SnacCodec(name, model, Weights(request.kind, source, tensors_sha256(model.state_dict())), device)


def _random_model(seed: int) -> snac.SNAC:
    with seeded(seed):
        model = snac.SNAC(**_PUBLISHED_24KHZ).eval()
        keep_signal_alive(model, model, torch.randn(1, 1, model.sampling_rate) * 0.1)
    return model


def _model_from(name: str, path: Path) -> snac.SNAC:
    if not all((path / file).is_file() for file in _FILES):
        raise missing(
            name, str(path), f"{' and '.join(_FILES)} are not both there", "a folder that holds both"
        )
    try:
        return snac.SNAC.from_pretrained(str(path))
    except Exception as error:  # json, pickle, zip, shapes: each reader of a damaged file raises its own
        reason = " ".join(str(error).split())[:300]
        raise CorruptInput(
            f"{path} could not be read as a SNAC model ({reason}); fetch {REPOSITORY} again."
        ) from error
