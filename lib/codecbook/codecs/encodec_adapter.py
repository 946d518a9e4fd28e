"""EnCodec (Defossez et al. 2022): 24 kHz mono, causal, and 48 kHz stereo in normalised segments of a second.

Both run the package ``encodec``'s own modules. The mono codec goes through a clip in pieces with the state of its
convolutions and LSTM carried over: the tokens are those of the whole clip at once, in memory that does not grow, and
pieces of little more than a second stay in the processor's cache. Segments of the stereo codec are run one by one on
a CPU (a batch changes the last bits of most latents and saves no time) and eight at a time elsewhere.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.chunks import chunk_bounds
from codecbook.codecs.encodec_package import deprecated_weight_norm, encodec, overlap_add
from codecbook.codecs.model_files import load_model, tensors_sha256
from codecbook.codecs.network_codec import NetworkCodec
from codecbook.codecs.streaming import CausalStream
from codecbook.codecs.weights import (
    WeightsRequest,
    connect_timeout,
    fold_weight_norm,
    keep_signal_alive,
    load_state,
    missing,
    model_source,
    read_state,
    seeded,
)
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens.tokens import Tokens

EncodecModel = encodec.model.EncodecModel
CHECKPOINTS = {"encodec_24khz": "encodec_24khz-d7cc33bc.th", "encodec_48khz": "encodec_48khz-7e698e3e.th"}
_BUILDERS: dict[str, Callable[..., Any]] = {
    "encodec_24khz": EncodecModel.encodec_model_24khz,
    "encodec_48khz": EncodecModel.encodec_model_48khz,
}
_CHUNK_S = 1.28
_SEGMENTS_AT_ONCE = 8
# a Gaussian codebook of 1024 in 128 dimensions takes most off its residual at about a third of its deviation
_RANDOM_CODEBOOK_GAIN = 0.3


class EncodecCodec(NetworkCodec):
    """EnCodec behind the common interface.

    Args:
        name: ``"encodec_24khz"`` or ``"encodec_48khz"``.
        model: Of the package ``encodec``, or of `codecbook.codecs.build`. Its weight norm is folded in place.
        weights: Where its weights are from.
        device: Torch device.
    """

    decode_chunk_s = _CHUNK_S

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        fold_weight_norm(model)
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = model.sample_rate
        self.channels = model.channels
        num_codebooks = model.quantizer.n_q
        self.codebook_sizes = (model.quantizer.bins,) * num_codebooks
        self.frame_rates_hz = (float(model.frame_rate),) * num_codebooks
        self.bandwidths_kbps = tuple(float(bandwidth) for bandwidth in model.target_bandwidths)
        self.hop_length = int(model.encoder.hop_length)
        self.seams = "state" if model.segment is None else "segments"
        self.chunk_s = _CHUNK_S if model.segment is None else float(model.segment)
        self._segments_at_once = 1 if device == "cpu" else _SEGMENTS_AT_ONCE

    @torch.inference_mode()
    def _encode_samples(self, samples: np.ndarray, num_codebooks: int, chunk_s: float | None) -> Encoded:
        wave = torch.from_numpy(samples)[None]
        if self.module.segment is not None:
            return self.encode_segments(wave, num_codebooks)
        stream = CausalStream(self.module.encoder.model)
        chunk = round((chunk_s or _CHUNK_S) * self.sample_rate_hz)
        bounds = chunk_bounds(wave.shape[-1], chunk, self.hop_length)
        codes = []
        for start, end in bounds:
            piece = wave[..., start:end].to(self.device)
            # a clip of one piece takes the package's own path, whose padding also serves clips of a few samples
            latents = self.module.encoder(piece) if len(bounds) == 1 else stream.push(piece)
            codes.append(self.quantize(latents, num_codebooks)[0])
        return Encoded(list(np.concatenate(codes, axis=1)))

    def quantize(self, latents: Tensor, num_codebooks: int) -> np.ndarray:
        """Return codes, int64 ``[B, K, T]``, of the encoder's latents ``[B, D, T]``."""
        return self.module.quantizer.vq.encode(latents, n_q=num_codebooks).transpose(0, 1).cpu().numpy()

    def encode_segments(self, wave: Tensor, num_codebooks: int) -> Encoded:
        """Encode audio ``[1, C, S]`` in the segments of a model that has them, each normalised on its own."""
        model = self.module
        length, stride = model.segment_length, model.segment_stride
        segments = [wave[..., start : start + length] for start in range(0, wave.shape[-1], stride)]
        codes: list[np.ndarray] = []
        scales: list[float] = []
        for group in _groups_of_equal_length(segments, self._segments_at_once):
            batch = torch.cat(group).to(self.device)  # [B, C, S]
            if model.normalize:
                volume = batch.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt()
                scale = 1e-8 + volume
                batch = batch / scale
                scales += scale.flatten().tolist()
            codes += list(self.quantize(model.encoder(batch), num_codebooks))
        frames = tuple(segment.shape[1] for segment in codes)
        return Encoded(list(np.concatenate(codes, axis=1)), segment_frames=frames, scales=tuple(scales))

    @torch.inference_mode()
    def _decode_tokens(self, tokens: Tokens) -> np.ndarray:
        codes = torch.from_numpy(np.stack(tokens.codes))[:, None].to(self.device)  # [K, 1, T]
        if self.module.segment is not None:
            return self._decode_segments(codes, tokens)
        stream = CausalStream(self.module.decoder.model)
        bounds = chunk_bounds(codes.shape[-1], round(self.decode_chunk_s * self.frame_rates_hz[0]))
        parts = []
        for start, end in bounds:
            latents = self.module.quantizer.decode(codes[..., start:end])
            piece = self.module.decoder(latents) if len(bounds) == 1 else stream.push(latents)
            parts.append(piece[0].cpu())
        return torch.cat(parts, dim=-1).numpy()

    def _decode_segments(self, codes: Tensor, tokens: Tokens) -> np.ndarray:
        frames = self.checked_segments(tokens)
        scales = tokens.scales or (None,) * len(frames)
        segments = [
            (segment.transpose(0, 1), None if scale is None else torch.tensor([scale], device=self.device))
            for segment, scale in zip(codes.split(frames, dim=-1), scales, strict=True)
        ]
        decoded = [self.module._decode_frame(segment) for segment in segments]
        return overlap_add(decoded, int(self.module.segment_stride))[0].cpu().numpy()

    def checked_segments(self, tokens: Tokens) -> list[int]:
        """Return the frames of each segment; where the tokens do not say, all but the last are full.

        Raises:
            UnsupportedInput: The scales of normalised segments are missing.
            CorruptInput: Segments that no clip is cut into.
        """
        full = math.ceil(self.module.segment_length / self.hop_length)
        total = len(tokens.codes[0])
        frames = list(tokens.segment_frames) or [full] * (total // full) + [total % full] * (total % full > 0)
        if self.module.normalize and len(tokens.scales) != len(frames):
            raise UnsupportedInput(
                f"{self.name} normalises each segment, but these tokens have {len(tokens.scales)} scales for "
                f"{len(frames)} segments; keep such tokens as Parquet (codecbook.tokens.parquet), which stores them."
            )
        # a last segment that begins within the overlap before the clip's end follows one that is not whole either
        stride, length = int(self.module.segment_stride), int(self.module.segment_length)
        within = len(frames) > 1 and frames[-1] <= math.ceil((length - stride) / self.hop_length)
        whole = frames[: -2 if within else -1]
        before = frames[-2] if within else full
        least = math.ceil((stride + 1) / self.hop_length)
        if any(count != full for count in whole) or not least <= before <= full or frames[-1] > full:
            raise CorruptInput(
                f"Segments of {frames} frames, but those of {self.name} have {full}, except for shorter ones at the "
                "end; encode the clip again."
            )
        return frames


def _groups_of_equal_length(segments: list[Tensor], at_once: int) -> list[list[Tensor]]:
    """Group neighbours for batching; only segments at the end of a clip are shorter than the others."""
    groups: list[list[Tensor]] = []
    for segment in segments:
        if groups and len(groups[-1]) < at_once and groups[-1][0].shape == segment.shape:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups


def load_encodec(name: str, request: WeightsRequest, device: str) -> EncodecCodec:
    """Load EnCodec with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    if request.kind == "bundled":
        assert request.path is not None
        loaded = load_model(request.path)
        if not isinstance(loaded.module, EncodecModel):
            raise UnsupportedInput(
                f"The model in {request.path} is of architecture {loaded.config['architecture']}, not an EnCodec."
            )
        return EncodecCodec(
            name, loaded.module, Weights("bundled", model_source(loaded.folder), loaded.sha256), device
        )
    with deprecated_weight_norm():
        if request.kind == "random":
            model, source = _random_model(name, request.seed), f"seed {request.seed}"
        elif request.path is None:
            model, source = _downloaded_model(name), f"{encodec.model.ROOT_URL}{CHECKPOINTS[name]}"
        else:
            model, source = _model_from(name, request.path), str(request.path)
    model.name = name
    return EncodecCodec(
        name, model, Weights(request.kind, source, tensors_sha256(model.state_dict())), device
    )


def _random_model(name: str, seed: int) -> Any:
    """Build the full-size architecture with random weights that give audio varied tokens."""
    with seeded(seed), torch.no_grad():
        model = _BUILDERS[name](pretrained=False)
        probe = torch.randn(1, model.channels, model.sample_rate) * 0.1
        keep_signal_alive(model, lambda wave: model.decoder(model.encoder(wave)), probe)
        residual = model.encoder(probe)
        for layer in model.quantizer.vq.layers:
            codebook = layer._codebook
            mean, deviation = residual.mean(dim=(0, 2)), residual.std(dim=(0, 2))
            codebook.embed.copy_(mean + _RANDOM_CODEBOOK_GAIN * deviation * torch.randn_like(codebook.embed))
            codebook.inited.fill_(1.0)
            residual = residual - layer.decode(layer.encode(residual))
    return model


def _downloaded_model(name: str) -> Any:
    source = f"{encodec.model.ROOT_URL}{CHECKPOINTS[name]}"
    try:
        with connect_timeout():
            return _BUILDERS[name](pretrained=True)
    except (OSError, RuntimeError) as error:
        remedy = f"the file {CHECKPOINTS[name]}, or a folder that holds it"
        raise missing(name, source, error, remedy) from error


def _model_from(name: str, path: Path) -> Any:
    """Read a state dict, or upstream's file from a folder, the `repository` of the package."""
    file = path / CHECKPOINTS[name] if path.is_dir() else path
    if not file.is_file():
        raise missing(
            name, str(path), f"the folder holds no {file.name}", f"a folder with {file.name}, or a file"
        )
    model = _BUILDERS[name](pretrained=False)
    load_state(model, read_state(file), file)
    return model
