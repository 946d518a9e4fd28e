"""Look into a network before it is trained, to see whether audio gets through it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codecbook.codecs.losses import relative_squared_error
from codecbook.codecs.train_start import normalised_convolutions


@dataclass(frozen=True)
class SignalReport:
    """What is left of audio on its way through an untrained autoencoder.

    Attributes:
        deviations: Standard deviation of each convolution's output between the recordings of the batch, averaged
            over channels and time, in forward order.
        relative_error: Squared error of the output over the energy of the input; 1 is what silence would score.
    """

    deviations: tuple[float, ...]  # of the signal's own unit, full scale = 1
    relative_error: float  # ratio of energies


@torch.no_grad()
def report_signals(autoencoder: nn.Module, audio: Tensor) -> SignalReport:
    """Send audio through encoder and decoder and watch every convolution.

    The deviation is taken between recordings at one instant, not over time: transposed convolutions turn a constant
    into a pattern that repeats with their stride, which varies in time and says nothing of the input.

    Args:
        autoencoder: Takes and gives ``[B, C, S]``; its convolutions are weight-normalised.
        audio: Crops of different recordings ``[B, C, S]``, at least 2.
    """
    deviations: list[float] = []

    def watch(_layer: nn.Module, _inputs: tuple, output: Tensor) -> None:
        deviations.append(float(output.std(dim=0).mean()))

    hooks = [layer.register_forward_hook(watch) for layer in normalised_convolutions(autoencoder)]
    try:
        estimate = autoencoder(audio)
    finally:
        for hook in hooks:
            hook.remove()
    length = audio.shape[-1]
    error = relative_squared_error(estimate[..., :length], audio[..., :length])
    return SignalReport(tuple(deviations), float(error))
