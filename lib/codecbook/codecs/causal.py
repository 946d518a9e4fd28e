"""Run causal networks over a signal piece by piece, carrying the state of every layer: the exact way to cut.

A causal convolution needs its last ``(kernel - 1) dilation - (stride - 1)`` inputs, a transposed one its last
``(kernel - stride) / stride``, an LSTM its hidden and cell state (Defossez et al. 2022, section 3.1). The layers are
those of ``encodec`` and ``transformers`` (Mimi), told by their attributes; their padding rules hold at both ends.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from codecbook.errors import UnsupportedInput


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
                raise UnsupportedInput(
                    f"{type(part).__name__} looks ahead, so its state cannot be carried over; encode segments instead."
                )

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
