"""An optional adversary for the decoder phase: EnCodec's multi-scale STFT discriminator.

The package's discriminator takes its spectrogram from torchaudio; here torch.stft gives the same one. Losses are
EnCodec's (section 3.4): hinge losses, and a feature distance relative to the mean magnitude of the real features.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbook.codecs.encodec_package import deprecated_weight_norm

# after the placeholder for torchaudio that encodec_package registers
import encodec.msstftd  # isort: skip

_FEATURE_WEIGHT = 3.0


class StftSpectrogram(nn.Module):
    """Complex STFT without centring, as ``torchaudio.transforms.Spectrogram(power=None, center=False)``."""

    window: Tensor

    def __init__(
        self, n_fft: int, hop_length: int, win_length: int, window_fn: Callable[[int], Tensor], **_unused: object
    ) -> None:
        super().__init__()
        self.lengths = n_fft, hop_length, win_length
        self.register_buffer("window", window_fn(win_length), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, C, S]`` into complex ``[B, C, n_fft // 2 + 1, T]``, scaled to a window of unit energy."""
        flat = waveform.flatten(0, 1)
        stft = torch.stft(flat, *self.lengths, self.window, center=False, return_complex=True)
        return (stft / self.window.square().sum().sqrt()).unflatten(0, waveform.shape[:2])


class Adversary:
    """The discriminator, with convolutions of `filters` channels (EnCodec: 32), and its optimiser."""

    def __init__(self, channels: int, seed: int, device: torch.device, filters: int = 8) -> None:
        package: Any = encodec.msstftd
        with (
            torch.random.fork_rng(devices=[]),
            mock.patch.object(package.torchaudio.transforms, "Spectrogram", StftSpectrogram),
            deprecated_weight_norm(),
        ):
            torch.manual_seed(seed)
            network: nn.Module = package.MultiScaleSTFTDiscriminator(filters, channels, norm="weight_norm")
        self.network = network.to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=3e-4, betas=(0.5, 0.9))

    def feedback(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return what the decoder should minimise: hinge loss and feature distance, a scalar."""
        self.network.requires_grad_(False)
        with torch.no_grad():
            _, real_features = self.network(target)
        logits, features = self.network(estimate)
        self.network.requires_grad_(True)
        hinge = torch.stack([functional.relu(1 - logit).mean() for logit in logits]).mean()
        distances = [
            (ours - real).abs().mean() / real.abs().mean().clamp(min=1e-6)
            for scale, real_scale in zip(features, real_features, strict=True)
            for ours, real in zip(scale, real_scale, strict=True)
        ]
        return hinge + _FEATURE_WEIGHT * torch.stack(distances).mean()

    def learn(self, estimate: Tensor, target: Tensor) -> float:
        """Train the discriminator on one batch; return its loss."""
        loss = torch.stack(
            [
                functional.relu(1 - real).mean() + functional.relu(1 + ours).mean()
                for real, ours in zip(self.network(target)[0], self.network(estimate)[0], strict=True)
            ]
        ).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict:
        """Return network and optimiser state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`'s result."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
