"""Starting points for training, computed from real audio, which pass audio through from the first step on.

With torch's default initialisation a small SEANet does not start: over some fifteen convolutions the signal dies,
and what is left is a constant.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from snac.layers import DecoderBlock, EncoderBlock, Snake1d
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codecbook.codecs.loading import hooked
from codecbook.codecs.training.losses import relative_squared_error
from codecbook.errors import UnsupportedInput

# an ELU is smooth at 0, so that small signals pass it nearly unchanged (x + x^2 / 2 below 0)
_CARRIER_DEVIATION = 0.1
_SPARE_DEVIATION = 0.5
_WHITENING_FLOOR = 0.02
_NOISE = 0.02
_SNAKE_ALPHA = 0.3


def normalised_convolutions(module: nn.Module) -> list[Any]:
    """Return the weight-normalised convolutions (of either of torch's implementations) in order of definition."""
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv1d | nn.ConvTranspose1d))
    return [c for c in convolutions if hasattr(c, "weight_g") or parametrize.is_parametrized(c, "weight")]


def _weight(convolution: Any) -> Tensor:
    if hasattr(convolution, "weight_g"):
        direction = convolution.weight_v / convolution.weight_v.flatten(1).norm(dim=1)[:, None, None]
        return convolution.weight_g * direction
    return convolution.weight.clone()


def _set_weight(convolution: Any, weight: Tensor) -> None:
    """Write a weight into its direction and magnitude."""
    if hasattr(convolution, "weight_g"):
        convolution.weight_v.copy_(weight)
        convolution.weight_g.copy_(weight.flatten(1).norm(dim=1)[:, None, None])
    else:
        convolution.weight = weight


def _scale_outputs(convolution: Any, factor: Tensor) -> None:
    """Multiply what each output channel (``factor``: [C]) or all of them (scalar) give."""
    per_channel = factor.expand(convolution.out_channels)
    shape = (1, -1, 1) if isinstance(convolution, nn.ConvTranspose1d) else (-1, 1, 1)
    _set_weight(convolution, _weight(convolution) * per_channel.view(shape))
    if convolution.bias is not None:
        convolution.bias.mul_(per_channel)


@torch.no_grad()
def unit_deviation_start(module: nn.Module, batch: Tensor, last_gain: float = 0.1) -> None:
    """Rescale each convolution in place so that its output has mean 0 and deviation 1 per channel, in forward order.

    The signal stays alive; what to do with it must be learned (Salimans and Kingma 2016, section 3).

    Args:
        module: Takes `batch`; its convolutions are weight-normalised.
        batch: Real audio ``[B, C, S]``, or whatever the module takes.
        last_gain: Extra factor on the last convolution: a quiet estimate is a better start than a loud wrong one.
    """
    met: list[Any] = []

    def rescale(convolution: Any, _inputs: tuple, output: Tensor) -> Tensor:
        mean = output.mean(dim=(0, 2))
        centred = output - mean[None, :, None]
        deviation = centred.square().mean(dim=(0, 2)).sqrt().clamp(min=1e-6)
        convolution.bias.sub_(mean)
        _scale_outputs(convolution, 1.0 / deviation)
        met.append(convolution)
        return centred / deviation[None, :, None]

    with hooked(normalised_convolutions(module), rescale):
        module(batch)
    _scale_outputs(met[-1], torch.tensor(last_gain))


@dataclass
class _Signal:
    """Activations on the way through a network being set up: in the first channels components, in the others noise."""

    values: Tensor  # [B, C, T]
    scales: Tensor  # [carriers]: of the components less their means, to the units of the waveform

    @property
    def carriers(self) -> int:
        return len(self.scales)

    def patches(self, stride: int) -> Tensor:
        """Return `stride` consecutive positions of the components, in the units of the waveform, as vectors.

        They are ``[N, carriers * stride]``.
        """
        carriers = self.values[:, : self.carriers]
        natural = (carriers - carriers.mean(dim=(0, 2), keepdim=True)) * self.scales[None, :, None]
        whole = natural[..., : natural.shape[-1] // stride * stride]
        return whole.unflatten(-1, (-1, stride)).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)


def _set_noisy_weight(convolution: Any, weight: Tensor) -> None:
    """Add a little noise, so that weights that begin at 0 do not all learn the same."""
    _set_weight(convolution, weight + torch.randn_like(weight) * _NOISE * weight.square().mean().sqrt())


def _settle(layer: Any, convolution: Any, values: Tensor, carriers: int, is_last: bool) -> _Signal:
    """Run a layer, centre its convolution's outputs and, unless it is the last, give them their deviations."""
    convolution.bias.zero_()
    output = layer(values)
    mean = output.mean(dim=(0, 2))
    deviation = (output - mean[None, :, None]).square().mean(dim=(0, 2)).sqrt()
    factor = torch.ones_like(deviation)
    if not is_last:
        floor = float(deviation[:carriers].max()) * _WHITENING_FLOOR
        factor[:carriers] = _CARRIER_DEVIATION / deviation[:carriers].clamp(min=floor)
        factor[carriers:] = _SPARE_DEVIATION / deviation[carriers:].clamp(min=1e-6)
    convolution.bias.copy_(-mean)
    _scale_outputs(convolution, factor)
    return _Signal(layer(values), 1.0 / factor[:carriers])


def _through_block(block: Any, signal: _Signal) -> _Signal:
    """Run an activation, or a residual block made an identity plus a tenth of a random branch."""
    if hasattr(block, "block"):
        for shortcut in normalised_convolutions(getattr(block, "shortcut", nn.Identity())):
            identity = torch.eye(shortcut.out_channels, device=signal.values.device)[:, :, None]
            _set_weight(shortcut, identity + torch.randn_like(identity) * 1e-3)
            shortcut.bias.zero_()
        unit_deviation_start(block.block, signal.values, last_gain=0.1 * _CARRIER_DEVIATION)
    return _Signal(block(signal.values), signal.scales)


def principal_components(patches: Tensor, count: int) -> Tensor:
    """Return the leading principal directions ``[count, D]`` of centred vectors ``[N, D]``."""
    covariance = patches.T.double() @ patches.double() / len(patches)
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.flip(1)[:, :count].T.float()


def _own_tap(layer: Any, convolution: Any) -> int:
    """Return which tap of a layer's (transposed) convolution meets the first sample of its own patch."""
    if convolution.padding[0]:
        return convolution.padding[0]  # SNAC pads inside the convolution
    spare = convolution.kernel_size[0] - convolution.stride[0]
    if getattr(layer, "causal", False):
        return 0 if isinstance(convolution, nn.ConvTranspose1d) else spare
    return spare - spare // 2


def _encoding(layer: Any, convolution: Any, signal: _Signal, is_last: bool, stages: list[Tensor]) -> _Signal:
    """Make an encoder's layer the principal component transform of its patches, which is added to the stages."""
    stride, tap = convolution.stride[0], _own_tap(layer, convolution)
    if convolution.groups > 1:
        # a depthwise layer can keep the components apart, and scale them back to natural proportions
        weight, count = torch.zeros_like(_weight(convolution)), signal.carriers
        weight[:, 0, tap] = signal.scales
        directions = torch.eye(count, device=weight.device)
    else:
        count = min(signal.carriers * stride, convolution.out_channels)
        directions = principal_components(signal.patches(stride), count)
        weight = _weight(convolution) * (not is_last)
        weight[:count] = 0.0
        taps = directions.view(count, signal.carriers, stride) * signal.scales[None, :, None]
        weight[:count, : signal.carriers, tap : tap + stride] = taps
    stages.append(directions)
    _set_noisy_weight(convolution, weight)
    return _settle(layer, convolution, signal.values, count, is_last)


def _decoding(layer: Any, convolution: Any, signal: _Signal, is_last: bool, stages: list[Tensor]) -> _Signal:
    """Make a decoder's layer the transpose of the last of the stages, which is taken off."""
    stride, tap = convolution.stride[0], _own_tap(layer, convolution)
    if convolution.groups > 1:
        weight = torch.zeros_like(_weight(convolution))
        weight[:, 0, tap] = 1.0
        _set_noisy_weight(convolution, weight)
        return _Signal(layer(signal.values), signal.scales)
    directions = stages.pop()
    carriers, count = directions.shape[1] // stride, min(len(directions), signal.carriers)
    if carriers > convolution.out_channels:
        raise UnsupportedInput(f"A decoder of {convolution.out_channels} channels, an encoder of {carriers}; widen it.")
    back = directions[:count].view(count, carriers, stride) * signal.scales[:count, None, None]
    weight = _weight(convolution) * (not is_last)
    # a transposed convolution's weight is [in, out, taps], another one's [out, in, taps]
    swapped = weight if isinstance(convolution, nn.ConvTranspose1d) else weight.transpose(0, 1)
    swapped[:, :carriers] = 0.0
    swapped[:count, :carriers, tap : tap + stride] = back
    _set_noisy_weight(convolution, weight)
    return _settle(layer, convolution, signal.values, carriers, is_last)


def _set_up(network: nn.Module, signal: _Signal, make: Callable[..., _Signal], stages: list[Tensor]) -> None:
    """Send a signal through a SEANet's or SNAC's layers in order; `make` sets each convolution up before it."""
    layers: list[Any] = []
    stack: Any = next(iter(network.children()))
    for part in stack:
        layers += part.block if isinstance(part, EncoderBlock | DecoderBlock) else [part]
    found = {layer: normalised_convolutions(layer) for layer in layers if not hasattr(layer, "block")}
    convolutions = {layer: inside[0] for layer, inside in found.items() if inside}
    last = list(convolutions)[-1]
    for layer in layers:
        if layer in convolutions:
            signal = make(layer, convolutions[layer], signal, layer is last, stages)
        else:
            signal = _through_block(layer, signal)


@torch.no_grad()
def linear_start(encoder: nn.Module, decoder: nn.Module, audio: Tensor) -> None:
    """Set an autoencoder up as a cascade of principal component transforms, in place.

    Each strided convolution maps the patch it covers onto its principal components, each transposed convolution maps
    them back, at amplitudes so small that the activations pass them nearly unchanged. The autoencoder then begins
    close to the best blockwise linear one (4 to 5 dB SI-SDR on speech at 24 kHz before the first step) instead of
    having to find it, which takes hours on two CPU cores; channels that the transform leaves over stay random.

    The encoder is a SEANet with weight_norm and without LSTM, or SNAC's without attention; the decoder mirrors it. Real
    audio ``[B, C, S]``, S a multiple of the frame, need not be more than some ten seconds in all. Other layers, or a
    decoder that does not mirror the encoder or is narrower, raise UnsupportedInput.
    """
    for network in (encoder, decoder):
        if not normalised_convolutions(network) or any(isinstance(part, nn.LSTM) for part in network.modules()):
            raise UnsupportedInput("Networks need weight_norm, and no LSTM; use unit_deviation_start for others.")
    strides = [
        [c.stride[0] for c in normalised_convolutions(network) if c.stride[0] > 1] for network in (encoder, decoder)
    ]
    if strides[0] != strides[1][::-1]:
        raise UnsupportedInput(f"Encoder strides {strides[0]} and decoder strides {strides[1]} do not mirror.")
    for part in (*encoder.modules(), *decoder.modules()):
        if isinstance(part, Snake1d):
            part.alpha.fill_(_SNAKE_ALPHA)
    stages: list[Tensor] = []  # directions [count, C * stride] of principal component transforms
    _set_up(encoder, _Signal(audio, torch.ones(audio.shape[1], device=audio.device)), _encoding, stages)
    # latents of deviation 1 on average suit the quantiser's constants; the proportions between them stay
    gain = 1.0 / math.sqrt(float(encoder(audio).var(dim=(0, 2)).mean()) + 1e-12)
    _scale_outputs(normalised_convolutions(encoder)[-1], torch.tensor(gain, device=audio.device))
    latents = encoder(audio)
    _set_up(decoder, _Signal(latents, latents.new_full(latents.shape[1:2], 1.0 / gain)), _decoding, stages)


@dataclass(frozen=True)
class SignalReport:
    """What is left of audio on its way through an untrained autoencoder."""

    # of each convolution's output in forward order: standard deviation between the recordings of the batch, averaged
    # over channels and time, in the signal's own unit
    deviations: tuple[float, ...]
    relative_error: float  # energy of the output's error over the input's; silence would score 1
    left: float  # deviation of the last output over the input's; next to 0 where the network is deaf


@torch.no_grad()
def report_signals(autoencoder: nn.Module, audio: Tensor) -> SignalReport:
    """Send crops of two or more recordings, ``[B, C, S]``, through an autoencoder and watch every convolution.

    The deviation is taken between recordings at one instant, not over time: transposed convolutions turn a constant
    into a pattern that repeats with their stride, which varies in time and says nothing of the input.
    """
    deviations: list[float] = []

    def watch(_layer: nn.Module, _inputs: tuple, output: Tensor) -> None:
        deviations.append(float(output.std(dim=0).mean()))

    with hooked(normalised_convolutions(autoencoder), watch):
        estimate = autoencoder(audio)
    length = audio.shape[-1]
    error = relative_squared_error(estimate[..., :length], audio[..., :length])
    heard = max(float(audio.std(dim=0).mean()), 1e-12)  # recordings may be equal
    return SignalReport(tuple(deviations), float(error), deviations[-1] / heard)
