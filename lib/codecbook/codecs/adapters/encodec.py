"""EnCodec (Defossez et al. 2022): 24 kHz mono, causal, and 48 kHz stereo in normalised segments of a second.

Pieces of little more than a second stay in the processor's cache. Segments are run one by one: a batch changes the last
bits of most latents, and saves no time on a CPU.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from codecbook.codecs.base import Encoded, Mend, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.encodec_package import deprecated_weight_norm, encodec
from codecbook.codecs.loading import keep_signal_alive, load_network
from codecbook.codecs.networks import CausalCodec
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.models.hub import fetch_checkpoint
from codecbook.models.weights import WeightsRequest, load_state, missing, read_state
from codecbook.tokens.tokens import Tokens

EncodecModel = encodec.model.EncodecModel
CHECKPOINTS = {"encodec_24khz": "encodec_24khz-d7cc33bc.th", "encodec_48khz": "encodec_48khz-7e698e3e.th"}
_BUILDERS = {"encodec_24khz": EncodecModel.encodec_model_24khz, "encodec_48khz": EncodecModel.encodec_model_48khz}


class EncodecCodec(CausalCodec):
    """EnCodec behind the common interface."""

    chunk_s = 1.28

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = model.sample_rate
        self.channels = model.channels
        self.hop_length = int(model.encoder.hop_length)
        self._set_codebooks(model.quantizer.bins, [self.hop_length] * model.quantizer.n_q)
        self.bandwidths_kbps = tuple(float(bandwidth) for bandwidth in model.target_bandwidths)

    def _quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        return self.module.quantizer.vq.encode(latents, n_q=num_codebooks)[:, 0]

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self.module.quantizer.decode(codes.transpose(0, 1))


class SegmentedEncodec(EncodecCodec):
    """An EnCodec that works in segments, each normalised on its own."""

    seams = "segments"
    # 8 codebooks at twice the frames, which the bundled language model codes
    _preferred_kbps = 12.0

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        super().__init__(name, model, weights, device)
        self.chunk_s = float(model.segment)

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        model, scales = self.module, ()
        while queue.has(1):
            segment = self._tensor(queue.peek(model.segment_length))
            if model.normalize:
                scale = _level(segment)
                segment, scales = segment / scale, (scale.item(),)
            codes = self._quantize(model.encoder(segment), num_codebooks).cpu().numpy()
            yield Encoded(list(codes), (codes.shape[1],), scales)
            queue.drop(model.segment_stride)

    def _first_codes(self, waves: Tensor) -> Iterable[Tensor]:
        if waves.shape[-1] > self.module.segment_length:
            raise UnsupportedInput(f"{waves.shape[-1]} samples are more than a segment of {self.name}; cut them.")
        return super()._first_codes(waves / _level(waves) if self.module.normalize else waves)

    @torch.inference_mode()
    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        for wave in overlap_add(self._segments(tokens, mend), int(self.module.segment_stride)):
            yield wave[0].cpu().numpy()

    def _segments(self, tokens: Tokens, mend: Mend | None) -> Iterator[Tensor]:
        frames, first = self._checked_segments(tokens), 0
        segments = np.split(np.stack(tokens.codes), np.cumsum(frames)[:-1], axis=1)
        for codes, scale in zip(segments, tokens.scales or (None,) * len(frames), strict=True):
            wave = self.module.decoder(self._mended(self._dequantize(self._tensor(codes)), mend, first))
            yield wave if scale is None else wave * torch.tensor(scale, device=self.device)
            first += codes.shape[1]

    def _checked_segments(self, tokens: Tokens) -> list[int]:
        """Return the frames of each segment; where the tokens do not say, all but the last are full."""
        full = math.ceil(self.module.segment_length / self.hop_length)
        total = len(tokens.codes[0])
        frames = list(tokens.segment_frames) or [full] * (total // full) + [total % full] * (total % full > 0)
        if self.module.normalize and len(tokens.scales) != len(frames):
            raise UnsupportedInput(f"{len(tokens.scales)} scales for {len(frames)} segments; keep them as Parquet.")
        # a last segment that begins within the overlap before the clip's end follows one that is not whole either
        stride, length = int(self.module.segment_stride), int(self.module.segment_length)
        within = len(frames) > 1 and frames[-1] <= math.ceil((length - stride) / self.hop_length)
        whole = frames[: -2 if within else -1]
        before = frames[-2] if within else full
        least = math.ceil((stride + 1) / self.hop_length)
        if any(count != full for count in whole) or not least <= before <= full or frames[-1] > full:
            raise CorruptInput(f"Segments have {frames} frames, not {full}, before the last; encode again.")
        return frames


def _level(segments: Tensor) -> Tensor:
    """Return by what segments ``[B, C, S]`` are divided, ``[B, 1, 1]``."""
    return 1e-8 + segments.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt()


def overlap_add(waves: Iterable[Tensor], stride: int) -> Iterator[Tensor]:
    """Join the decoded segments of a clip as the package does, each sample as soon as no further segment reaches it.

    The waves, ``[B, C, S]``, begin `stride` samples apart; there is one or more, none longer than the first.

    Where the last segment begins just before the clip's end, whole frames let the one before it reach beyond the last
    one's own end, for which the package makes no room, and fails. What lies beyond is cut: it is after the clip's end.
    """
    waves = iter(waves)
    wave: Tensor | None = next(waves)
    t = torch.linspace(0, 1, wave.shape[-1] + 2, device=wave.device, dtype=wave.dtype)[1:-1]
    weight = 0.5 - (t - 0.5).abs()
    total, total_weight = wave[..., :0], weight[:0]
    while wave is not None:
        following, length = next(waves, None), wave.shape[-1]
        room = (0, max(0, length - total.shape[-1]))
        total, total_weight = pad(total, room), pad(total_weight, room)
        total[..., :length] += weight[:length] * wave
        total_weight[:length] += weight[:length]
        end = length if following is None else stride
        yield total[..., :end] / total_weight[:end]
        total, total_weight, wave = total[..., end:], total_weight[end:], following


def network(name: str, request: WeightsRequest) -> tuple[Any, Weights]:
    """Return EnCodec's network as it was trained, and where its weights are from."""
    with deprecated_weight_norm():
        model, weights = load_network(
            name, request, EncodecModel, lambda: _random_model(name), lambda path: _published_model(name, path)
        )
    if request.kind != "bundled":
        model.name = name
    return model, weights


def wrap(name: str, model: Any, weights: Weights, device: str) -> EncodecCodec:
    """Return a network of `network` behind the common interface."""
    return (EncodecCodec if model.segment is None else SegmentedEncodec)(name, model, weights, device)


def load(name: str, request: WeightsRequest, device: str) -> EncodecCodec:
    """Load EnCodec; see `codecbook.codecs.load_codec`."""
    return wrap(name, *network(name, request), device)


def _random_model(name: str) -> Any:
    """Build the full-size architecture with random weights that give audio varied tokens."""
    model: Any = _BUILDERS[name](pretrained=False)
    probe = torch.randn(1, model.channels, model.sample_rate) * 0.1
    keep_signal_alive(model, lambda wave: model.decoder(model.encoder(wave)), probe)
    residual = model.encoder(probe)
    for layer in model.quantizer.vq.layers:
        codebook = layer._codebook
        mean, deviation = residual.mean(dim=(0, 2)), residual.std(dim=(0, 2))
        # a Gaussian codebook of 1024 in 128 dimensions takes most off its residual at about a third of its deviation
        codebook.embed.copy_(mean + 0.3 * deviation * torch.randn_like(codebook.embed))
        codebook.inited.fill_(1.0)
        residual = residual - layer.decode(layer.encode(residual))
    return model


def _published_model(name: str, path: Path | None) -> tuple[Any, str]:
    """Read a state dict, or upstream's file from a folder, the `repository` of the package; or download it."""
    checkpoint = CHECKPOINTS[name]
    if path is None:
        source = f"{encodec.model.ROOT_URL}{checkpoint}"
        file = fetch_checkpoint(name, source, f"the file {checkpoint}, or a folder that holds it")
    else:
        source, file = str(path), path / checkpoint if path.is_dir() else path
    if not file.is_file():
        raise missing(name, source, f"the folder holds no {file.name}", f"a folder with {file.name}, or a file")
    model = _BUILDERS[name](pretrained=False)
    load_state(model, read_state(file), file)
    return model, source
