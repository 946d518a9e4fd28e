"""Language models that torch evaluates, behind the interface of `codecbook.probes.determinism.steps`."""

from typing import Any

import numpy as np
import torch
from torch import nn

from codecbook.lm.exact.torch_model import ExactTorch
from codecbook.lm.token_lm import TokenLM


class TorchSteps:
    """A `TokenLM` or an `ExactTorch`, which are called alike."""

    def __init__(self, model: TokenLM | ExactTorch) -> None:
        self._model: Any = model
        self._hidden: Any = None
        self._state: Any = None

    @torch.inference_mode()
    def start(self, batch: int) -> None:
        """See `codecbook.probes.determinism.steps.Steps`."""
        self._hidden, self._state = self._model.begin(batch)

    @torch.inference_mode()
    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `codecbook.probes.determinism.steps.Steps`."""
        codes = torch.from_numpy(np.ascontiguousarray(before)).to(self._model.device)
        return self._model.head(self._hidden[:, 0], codes).cpu().numpy()

    @torch.inference_mode()
    def push(self, frame: np.ndarray) -> None:
        """See `codecbook.probes.determinism.steps.Steps`."""
        codes = torch.from_numpy(np.ascontiguousarray(frame[:, None])).to(self._model.device)
        self._hidden, self._state = self._model.read(codes, self._state)

    @torch.inference_mode()
    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `codecbook.probes.determinism.steps.Steps`."""
        tensor = torch.from_numpy(np.ascontiguousarray(codes)).to(self._model.device)
        logits = self._model.logits(tensor) if isinstance(self._model, ExactTorch) else self._model(tensor)
        return logits.cpu().numpy()


class PackageSteps:
    """The package's ``LMModel``: a frame's codebooks at once, the codes of the frame before as ``1 + code``."""

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self._states: Any = None
        self._offset: Any = 0
        self._frame = torch.empty(0)

    def start(self, batch: int) -> None:
        """See `codecbook.probes.determinism.steps.Steps`."""
        self._states, self._offset = None, 0
        self._frame = self._read(torch.zeros(batch, self._model.n_q, 1, dtype=torch.int64))

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `codecbook.probes.determinism.steps.Steps`."""
        return self._frame[:, 0, before.shape[1]].numpy()

    def push(self, frame: np.ndarray) -> None:
        """See `codecbook.probes.determinism.steps.Steps`."""
        self._frame = self._read(1 + torch.from_numpy(np.ascontiguousarray(frame))[:, :, None])

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `codecbook.probes.determinism.steps.Steps`."""
        self._states, self._offset = None, 0
        indices = 1 + torch.from_numpy(codes).permute(0, 2, 1)
        first = torch.zeros(len(codes), self._model.n_q, 1, dtype=torch.int64)
        return self._read(torch.cat((first, indices[:, :, :-1]), dim=2)).numpy()

    @torch.inference_mode()
    def _read(self, indices: torch.Tensor) -> torch.Tensor:
        """Return logits ``[B, T, K, V]`` for indices ``[B, K, T]``, by the operations of the package's ``forward``."""
        lm = self._model
        inputs = sum(lm.emb[k](indices[:, k]) for k in range(indices.shape[1]))
        hidden, self._states, self._offset = lm.transformer(inputs, self._states, self._offset)
        return torch.stack([linear(hidden) for linear in lm.linears], dim=2)
