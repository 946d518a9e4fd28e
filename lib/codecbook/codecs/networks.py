"""Codecs whose networks run in torch, and how they take long clips in pieces: by their state, or by overlap.

A causal network runs piece by piece with the state of every layer, which is the exact way to cut. A convolution needs
its last ``(kernel - 1) dilation - (stride - 1)`` inputs, a transposed one its last
``(kernel - stride) / stride``, an LSTM its hidden and cell state (Defossez et al. 2022, section 3.1). The layers are
those of ``encodec`` and ``transformers`` (Mimi), told by their attributes; their padding rules hold at both ends.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils import parametrize, remove_weight_norm

from codecbook.codecs.base import Codec, Encoded, Mend, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import checked_device
from codecbook.tokens.tokens import Tokens


class CausalStream:
    """One pass over one signal.

    Args:
        layers: Causal layers, applied in order; all pieces but the last must be multiples of their total stride.

    Raises UnsupportedInput: a layer is not causal.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._layers = list(layers)
        self._states: dict[nn.Module, Any] = {}
        for part in nn.ModuleList(self._layers).modules():
            if hasattr(part, "causal") and not (part.causal and getattr(part, "trim_right_ratio", 1.0) == 1.0):
                raise UnsupportedInput(f"{type(part).__name__} looks ahead; encode segments, not a stream.")

    def push(self, piece: Tensor) -> Tensor:
        """Take the next piece ``[B, C, S]`` and return the outputs ``[B, C', T]`` that it completes."""
        return self._run(self._layers, piece)

    def _run(self, layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        for layer in layers:
            x = self._apply(layer, x)
        return x

    def _apply(self, layer: Any, x: Tensor) -> Tensor:
        if hasattr(layer, "shortcut"):
            return self._apply(layer.shortcut, x) + self._run(layer.block, x)
        if hasattr(layer, "lstm"):
            return self._lstm(layer, x)
        if hasattr(layer, "trim_right_ratio"):
            return self._transposed(layer, x)
        if hasattr(layer, "causal"):
            return self._convolution(layer, x)
        return layer(x)

    def _lstm(self, layer: Any, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)
        y, self._states[layer] = layer.lstm(x, self._states.get(layer))
        return (y + x if layer.skip else y).permute(1, 2, 0)

    def _convolution(self, layer: Any, x: Tensor) -> Tensor:
        convolution = _plain(layer)
        stride = convolution.stride[0]
        context = (convolution.kernel_size[0] - 1) * convolution.dilation[0] - (stride - 1)
        # only the last piece may be no multiple of the stride; it is completed as the layer itself would do it
        missing = -x.shape[-1] % stride
        if layer in self._states:
            x = torch.cat([self._states[layer], x], dim=-1)
        elif context:
            x = pad(x, (context, 0), layer.pad_mode)
        if context:
            self._states[layer] = x[..., -context:]
        if missing:
            x = pad(x, (0, missing), layer.pad_mode)
        return layer.conv(x)

    def _transposed(self, layer: Any, x: Tensor) -> Tensor:
        convolution = _plain(layer)
        stride, length, before = convolution.stride[0], x.shape[-1], 0
        overlap = -(-(convolution.kernel_size[0] - stride) // stride)
        if layer in self._states:
            before = overlap
            x = torch.cat([self._states[layer], x], dim=-1)
        self._states[layer] = x[..., x.shape[-1] - overlap :]
        return convolution(x)[..., before * stride : (before + length) * stride]


def _plain(layer: Any) -> nn.Conv1d | nn.ConvTranspose1d:
    """Return torch's convolution inside the wrappers of either package."""
    while not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        layer = layer.convtr if hasattr(layer, "convtr") else layer.conv
    return layer


class NetworkCodec(Codec):
    """A codec whose network runs in torch, on any of its devices.

    The network is changed in place: its weight norm is folded, and it goes to the device in evaluation mode.

    Attributes:
        hop_length: Samples for which one frame stands.
    """

    hop_length: int

    def __init__(self, name: str, module: Any, weights: Weights, device: str = "cpu") -> None:
        self.name = name
        self.weights = weights
        self.device = checked_device(device)
        fold_weight_norm(module)
        self.module = module.to(device).eval()

    def _set_codebooks(self, codebook_size: int, steps: Sequence[int]) -> None:
        """Give each codebook the size and a code every so many samples; offer a bandwidth for each number of them."""
        self.codebook_sizes = (codebook_size,) * len(steps)
        self.frame_rates_hz = tuple(self.sample_rate_hz / step for step in steps)
        self.bandwidths_kbps = tuple(self.bitrate_kbps(k + 1) for k in range(len(steps)))

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Return an array, which may be read-only, as a batch of one on the network's device."""
        return torch.tensor(array)[None].to(self.device)

    @torch.inference_mode()
    def latents(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 ``[D, T]``; see `Codec.latents`."""
        return self._dequantize(self._tensor(np.stack(codes)))[0].cpu().numpy()

    @torch.inference_mode()
    def encode_beside(self, waves: np.ndarray) -> list[np.ndarray]:
        """Return the codes ``[T_k]`` of the first of several waves that go through the network as one batch.

        `encode` takes clips one by one; this is for those who want to know what batches change. `waves` are float32
        ``[B, C, S]``, of a codec with segments at most one long.
        """
        return [codes.cpu().numpy() for codes in self._first_codes(torch.tensor(waves).to(self.device))]

    def _first_codes(self, waves: Tensor) -> Iterable[Tensor]:
        """Return codes ``[T_k]`` of the first of a batch ``[B, C, S]``, with all codebooks."""
        raise UnsupportedInput(f"{self.name} encodes clips one by one; there are no batches to compare.")

    def _dequantize(self, codes: Tensor) -> Tensor:
        """Return latents ``[1, D, T]`` of codes ``[1, K, T]``."""
        raise UnsupportedInput(f"{self.name} has no decoder, and so no latents; use another codec.")

    def _mended(self, latents: Tensor, mend: Mend | None, first: int) -> Tensor:
        """Return latents ``[1, D, T]``, of frames from `first` on, as `mend` leaves them."""
        return latents if mend is None else self._tensor(mend(latents[0].cpu().numpy(), first))


class CausalCodec(NetworkCodec):
    """A codec whose network does not look ahead: its state is carried from piece to piece.

    Encoder and decoder are SEANets, unless a subclass says otherwise.
    """

    seams = "state"

    @abstractmethod
    def _quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Return codes ``[K, T]`` of latents ``[1, D, T]``, or of the first of a batch in the first `K` rows."""

    def _first_codes(self, waves: Tensor) -> Iterable[Tensor]:
        count = len(self.codebook_sizes)
        return self._quantize(self._encoder(in_pieces=False)(waves), count)[:count]

    # clips of one piece take the package's own path, whose padding also serves clips of a few samples
    def _encoder(self, in_pieces: bool) -> Callable[[Tensor], Tensor]:
        return CausalStream(self.module.encoder.model).push if in_pieces else self.module.encoder

    def _decoder(self, in_pieces: bool) -> Callable[[Tensor], Tensor]:
        return CausalStream(self.module.decoder.model).push if in_pieces else self.module.decoder

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        chunk = _multiple(chunk_s * self.sample_rate_hz, self.hop_length)
        encode = self._encoder(queue.has(2 * chunk))
        for piece in queue.pieces(chunk):
            yield Encoded(list(self._quantize(encode(self._tensor(piece)), num_codebooks).cpu().numpy()))

    @torch.inference_mode()
    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        queue, first = BlockQueue([np.stack(tokens.codes)], tokens.num_codebooks), 0
        chunk = _multiple(self.chunk_s * self.frame_rates_hz[0], 1)
        decode = self._decoder(queue.has(2 * chunk))
        for codes in queue.pieces(chunk):
            latents = self._dequantize(self._tensor(codes))
            yield decode(self._mended(latents, mend, first))[0].cpu().numpy()
            first += codes.shape[1]


class ContextCodec(NetworkCodec):
    """A mono codec whose network looks ahead, but not far: pieces overlap by the receptive field.

    Attributes:
        align: The encoder pads a clip to a multiple of this many samples.
        context: Samples on either side that codes and audio may depend on, a multiple of `align`.
    """

    seams = "context"
    channels = 1
    chunk_s = 20.0
    align: int
    context: int

    def _set_context(self, align: int, reach: int) -> None:
        """Set `align`, and as `context` the multiple of it that holds the network's reach to either side."""
        self.align = align
        self.context = align * -(-reach // align)

    @abstractmethod
    def _codes(self, wave: Tensor, num_codebooks: int) -> Sequence[Tensor]:
        """Return codes ``[T_k]`` per codebook of ``[1, 1, S]``, which may need padding to a multiple of `align`."""

    def _first_codes(self, waves: Tensor) -> Iterable[Tensor]:
        return self._codes(waves, len(self.codebook_sizes))

    def _frames(self, tokens: Tokens) -> np.ndarray:
        """Return the codes that `_dequantize` takes, ``[K, T]``: those of each frame."""
        return np.stack(tokens.codes)

    @abstractmethod
    def _audio(self, latents: Tensor) -> Tensor:
        """Return ``[1, S]`` of ``[1, D, T]``."""

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        chunk = _multiple(chunk_s * self.sample_rate_hz, self.align)
        steps = [round(self.sample_rate_hz / rate_hz) for rate_hz in self.frame_rates_hz[:num_codebooks]]
        for samples, start, end in queue.pieces_in_context(chunk, self.align, self.context):
            levels = zip(self._codes(self._tensor(samples), num_codebooks), steps, strict=False)
            yield Encoded([level[start // step : end // step].cpu().numpy() for level, step in levels])

    @torch.inference_mode()
    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        frames, hop, place = self._frames(tokens), self.hop_length, 0
        align = self.align // hop
        chunk = _multiple(self.chunk_s * self.frame_rates_hz[-1], align)
        pieces = BlockQueue([frames], len(frames)).pieces_in_context(chunk, align, self.context // hop)
        for piece, start, end in pieces:
            latents = self._mended(self._dequantize(self._tensor(piece)), mend, place - start)
            yield self._audio(latents)[:, start * hop : end * hop].cpu().numpy()
            place += end - start


def _multiple(length: float, align: int) -> int:
    """Return the multiple of `align` up to a length, one at least."""
    return max(1, round(length) // align) * align


def fold_weight_norm(module: nn.Module) -> None:
    """Compute the weights from magnitude and direction once, instead of at every call; equal to the last bit."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
        elif hasattr(part, "weight_g"):
            remove_weight_norm(part)


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
