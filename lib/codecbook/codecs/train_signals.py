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
        deviations: Standard deviation over batch and time of each convolution's output, averaged over its channels,
            in forward order.
        relative_error: Squared error of the output over the energy of the input; 1 is what silence would score.
    """

    deviations: tuple[float, ...]  # of the signal's own unit, full scale = 1
    relative_error: float  # ratio of energies


@torch.no_grad()
def report_signals(autoencoder: nn.Module, audio: Tensor) -> SignalReport:
    """Send audio through encoder and decoder and watch every convolution.

    The deviation is taken over batch and time for each channel on its own: a channel that gives the same number
    whatever it hears has none, however large that number is.

    Args:
        autoencoder: Takes and gives ``[B, C, S]``; its convolutions are weight-normalised.
        audio: Real audio ``[B, C, S]``.
    """
    deviations: list[float] = []

    def watch(_layer: nn.Module, _inputs: tuple, output: Tensor) -> None:
        deviations.append(float(output.std(dim=(0, 2)).mean()))

    hooks = [layer.register_forward_hook(watch) for layer in normalised_convolutions(autoencoder)]
    try:
        estimate = autoencoder(audio)
    finally:
        for hook in hooks:
            hook.remove()
    error = relative_squared_error(estimate[..., : audio.shape[-1]], audio)
    return SignalReport(tuple(deviations), float(error))
