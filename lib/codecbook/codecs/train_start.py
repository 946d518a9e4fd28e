"""Starting points for training: parameters that pass audio through from the first step on.

With torch's default initialisation a small SEANet does not start: over some fifteen convolutions the signal dies,
and what is left is a constant. Two remedies, both computed from a batch of real audio:

* `unit_deviation_start` rescales every weight-normalised convolution so that each of its channels has mean 0 and
  deviation 1 (data-dependent initialisation, Salimans and Kingma 2016, section 3). The signal stays alive; what to
  do with it must be learned.
* `linear_start` sets a SEANet up as a cascade of principal component transforms. Each strided convolution maps
  the patch it covers onto its principal components, each transposed convolution maps them back, at amplitudes
  so small that the ELUs pass them nearly unchanged. The autoencoder then begins as the best linear one of its shape (up to the
  blockwise patches) instead of having to find it; channels that the transform leaves over stay random and
  nonlinear. On two CPU cores this saves hours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codecbook.errors import UnsupportedInput

# an ELU is smooth at 0, so that small signals pass it nearly unchanged (x + x^2 / 2 below 0)
_CARRIER_DEVIATION = 0.1
_SPARE_DEVIATION = 0.5
_WHITENING_FLOOR = 0.02
_NOISE = 0.02


def normalised_convolutions(module: nn.Module) -> list[nn.Module]:
    """Return the weight-normalised convolutions (torch.nn.utils.weight_norm) in order of definition."""
    return [part for part in module.modules() if hasattr(part, "weight_g")]


@torch.no_grad()
def unit_deviation_start(module: nn.Module, batch: Tensor, last_gain: float = 0.1) -> None:
    """Rescale each convolution so that its output has mean 0 and deviation 1 per channel, in forward order.

    Args:
        module: Takes `batch`; its convolutions are weight-normalised. Changed in place.
        batch: Real audio ``[B, C, S]``.
        last_gain: Extra factor on the last convolution: a quiet estimate is a better start than a loud wrong one.

    Raises:
        UnsupportedInput: No weight-normalised convolution in the module.
    """
    convolutions = normalised_convolutions(module)
    if not convolutions:
        raise UnsupportedInput(
            "The module has no weight-normalised convolution to rescale; build it with norm='weight_norm'."
        )
    last: list[nn.Module] = []

    def rescale(convolution: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        mean = output.mean(dim=(0, 2))
        centred = output - mean[None, :, None]
        deviation = centred.square().mean(dim=(0, 2)).sqrt().clamp(min=1e-6)
        if isinstance(convolution, nn.ConvTranspose1d):
            # here weight_g is per input channel, so that the outputs can share one factor only
            deviation = deviation.square().mean().sqrt().expand_as(deviation)
            convolution.weight_g.div_(deviation[0])
        else:
            convolution.weight_g.div_(deviation[:, None, None])
        if convolution.bias is not None:
            convolution.bias.copy_((convolution.bias - mean) / deviation)
        last[:] = [convolution]
        return centred / deviation[None, :, None]

    handles = [convolution.register_forward_hook(rescale) for convolution in convolutions]
    try:
        module(batch)
    finally:
        for handle in handles:
            handle.remove()
    last[0].weight_g.mul_(last_gain)
    if last[0].bias is not None:
        last[0].bias.mul_(last_gain)


@dataclass
class _Signal:
    """Activations on the way through a network being set up.

    ``natural = (values[:, :carriers] - mean) * scales`` are the components in the units of the waveform.
    """

    values: Tensor  # [B, C, T]
    carriers: int
    scales: Tensor  # [carriers]

    def natural(self) -> Tensor:
        carriers = self.values[:, : self.carriers]
        return (carriers - carriers.mean(dim=(0, 2), keepdim=True)) * self.scales[None, :, None]


def _convolution_of(wrapper: nn.Module) -> nn.Module:
    return normalised_convolutions(wrapper)[0]


def _set(convolution: nn.Module, weight: Tensor) -> None:
    """Write a weight into its magnitude and direction, with a little noise so that no direction is empty."""
    noise = torch.randn_like(weight) * _NOISE * weight.square().mean().sqrt()
    weight = weight + noise
    convolution.weight_v.copy_(weight)
    convolution.weight_g.copy_(weight.flatten(1).norm(dim=1)[:, None, None])


def _rewrite(convolution: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Replace the weight that magnitude and direction stand for by a function of it."""
    direction = convolution.weight_v / convolution.weight_v.flatten(1).norm(dim=1)[:, None, None]
    weight = change(convolution.weight_g * direction)
    convolution.weight_v.copy_(weight)
    convolution.weight_g.copy_(weight.flatten(1).norm(dim=1)[:, None, None])


def _settle(wrapper: nn.Module, values: Tensor, carriers: int, spare_deviation: float | None) -> _Signal:
    """Run a convolution, then centre its outputs and give carriers and spare channels their deviations."""
    convolution = _convolution_of(wrapper)
    convolution.bias.zero_()
    output = wrapper(values)
    mean = output.mean(dim=(0, 2))
    deviation = (output - mean[None, :, None]).square().mean(dim=(0, 2)).sqrt()
    target = torch.full_like(deviation, _CARRIER_DEVIATION)
    factor = torch.ones_like(deviation)
    if spare_deviation is not None:
        floor = deviation[:carriers].max() * _WHITENING_FLOOR
        factor[:carriers] = target[:carriers] / deviation[:carriers].clamp(min=float(floor))
        factor[carriers:] = spare_deviation / deviation[carriers:].clamp(min=1e-6)
        if isinstance(convolution, nn.ConvTranspose1d):
            _rewrite(convolution, lambda weight: weight * factor[None, :, None])
        else:
            convolution.weight_g.mul_(factor[:, None, None])
    convolution.bias.copy_(-mean * factor)
    return _Signal(wrapper(values), carriers, 1.0 / factor[:carriers])


def _through_residual(block: nn.Module, signal: _Signal) -> _Signal:
    """Make a residual block an identity plus a tenth of a random branch, and run it."""
    shortcut = normalised_convolutions(block.shortcut)
    if shortcut:
        weight = torch.eye(shortcut[0].weight_v.shape[0])[:, :, None]
        shortcut[0].weight_v.copy_(weight + torch.randn_like(weight) * 1e-3)
        shortcut[0].weight_g.copy_(shortcut[0].weight_v.flatten(1).norm(dim=1)[:, None, None])
        shortcut[0].bias.zero_()
    unit_deviation_start(block.block, signal.values, last_gain=0.1 * _CARRIER_DEVIATION)
    return _Signal(block(signal.values), signal.carriers, signal.scales)


def _principal_components(patches: Tensor, count: int) -> Tensor:
    """Return the leading principal directions ``[count, D]`` of centred vectors ``[N, D]``."""
    covariance = patches.T.double() @ patches.double() / len(patches)
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.flip(1)[:, :count].T.float()


def _patches(natural: Tensor, stride: int) -> Tensor:
    """Cut ``[B, C, T]`` into vectors ``[N, C * stride]`` of `stride` consecutive positions."""
    whole = natural[..., : natural.shape[-1] // stride * stride]
    return whole.unflatten(-1, (-1, stride)).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)


def _own_tap(wrapper: nn.Module, kernel: int, stride: int) -> int:
    """Return which tap of a strided or plain (transposed) convolution meets the first sample of its own patch."""
    transposed = hasattr(wrapper, "convtr")
    if wrapper.causal:
        return 0 if transposed else kernel - stride
    total = kernel - stride
    return total - total // 2


def _start_encoder(encoder: nn.Module, audio: Tensor) -> list[tuple[Tensor, int]]:
    """Set the encoder up; return (directions [count, C * stride], carriers before) of each stage."""
    layers = list(encoder.model)
    stages: list[tuple[Tensor, int]] = []
    channels = audio.shape[1]
    signal = _Signal(audio, channels, torch.ones(channels))
    for layer in layers:
        if hasattr(layer, "shortcut"):
            signal = _through_residual(layer, signal)
            continue
        if not normalised_convolutions(layer):
            signal = _Signal(layer(signal.values), signal.carriers, signal.scales)
            continue
        convolution = _convolution_of(layer)
        out_channels, _, kernel = convolution.weight_v.shape
        stride = convolution.stride[0]
        is_last = layer is layers[-1]
        count = min(signal.carriers * stride, out_channels)
        directions = _principal_components(_patches(signal.natural(), stride), count)
        stages.append((directions, signal.carriers))
        weight = convolution.weight_v * 0.0 if is_last else convolution.weight_v.clone()
        tap = _own_tap(layer, kernel, stride)
        weight[:count] = 0.0
        in_natural = directions.view(count, signal.carriers, stride) * signal.scales[None, :, None]
        weight[:count, : signal.carriers, tap : tap + stride] = in_natural
        _set(convolution, weight)
        signal = _settle(layer, signal.values, count, None if is_last else _SPARE_DEVIATION)
    return stages


def _start_decoder(decoder: nn.Module, latents: Tensor, stages: list[tuple[Tensor, int]]) -> None:
    """Set the decoder up as the transpose of the encoder's stages."""
    layers = list(decoder.model)
    stages = list(stages)
    signal = _Signal(latents, latents.shape[1], torch.ones(latents.shape[1]))
    for layer in layers:
        if hasattr(layer, "shortcut"):
            signal = _through_residual(layer, signal)
            continue
        if not normalised_convolutions(layer):
            signal = _Signal(layer(signal.values), signal.carriers, signal.scales)
            continue
        convolution = _convolution_of(layer)
        is_last = layer is layers[-1]
        directions, carriers = stages.pop()
        count, kernel = len(directions), convolution.weight_v.shape[2]
        stride = convolution.stride[0]
        count = min(count, signal.carriers)
        tap = _own_tap(layer, kernel, stride)
        back = directions[:count].view(count, carriers, stride) * signal.scales[:count, None, None]
        weight = convolution.weight_v.clone() * (0.0 if is_last else 1.0)
        if isinstance(convolution, nn.ConvTranspose1d):
            weight[:, :carriers] = 0.0
            weight[:count, :carriers, tap : tap + stride] = back
        else:
            weight[:carriers] = 0.0
            weight[:carriers, :count, tap : tap + stride] = back.transpose(0, 1)
        _set(convolution, weight)
        signal = _settle(layer, signal.values, carriers, None if is_last else _SPARE_DEVIATION)


@torch.no_grad()
def linear_start(encoder: nn.Module, decoder: nn.Module, audio: Tensor) -> None:
    """Set a SEANet autoencoder up as a cascade of principal component transforms, in place.

    Args:
        encoder: ``encodec.modules.SEANetEncoder`` with weight_norm and without LSTM.
        decoder: The ``SEANetDecoder`` that mirrors it.
        audio: Real audio ``[B, C, S]``; some ten seconds in all suffice.

    Raises:
        UnsupportedInput: An LSTM, another norm, or an encoder and decoder that do not mirror each other.
    """
    for network in (encoder, decoder):
        if not normalised_convolutions(network) or any(isinstance(part, nn.LSTM) for part in network.modules()):
            raise UnsupportedInput(
                "linear_start needs SEANets with weight_norm and without LSTM; use unit_deviation_start for others."
            )
    if list(encoder.ratios) != list(reversed(decoder.ratios)):
        raise UnsupportedInput(
            f"Encoder strides {list(encoder.ratios)} and decoder strides {list(decoder.ratios)} do not mirror."
        )
    stages = _start_encoder(encoder, audio)
    gain = 1.0 / math.sqrt(float(encoder(audio).var(dim=(0, 2)).mean()) + 1e-12)
    # latents of deviation 1 on average suit the quantiser's constants; the proportions between them stay
    last = _convolution_of(list(encoder.model)[-1])
    last.weight_g.mul_(gain)
    last.bias.mul_(gain)
    directions, carriers = stages[-1]
    stages[-1] = (directions / gain, carriers)
    _start_decoder(decoder, encoder(audio), stages)
