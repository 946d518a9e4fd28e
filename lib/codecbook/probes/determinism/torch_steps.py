"""Language models in torch, behind the interface of `Steps`."""

from typing import Any

import numpy as np
import torch
from torch import nn

from codecbook.lm.exact.torch_model import ExactTorch
from codecbook.lm.token_lm import TokenLM


class TorchSteps:
    """A `TokenLM` or an `ExactTorch`, which are called alike; `Cell` says what the settings mean."""

    def __init__(self, model: TokenLM | ExactTorch, autocast: bool = False, compiled: bool = False) -> None:
        self._model: Any = model
        self._autocast = autocast
        whole: Any = model.logits if isinstance(model, ExactTorch) else model
        self._full: Any = torch.compile(whole) if compiled else whole

    @torch.inference_mode()
    def start(self, batch: int) -> None:
        """See `Steps`."""
        with self._precision():
            self._hidden, self._state = self._model.begin(batch)

    @torch.inference_mode()
    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        with self._precision():
            logits = self._model.head(self._hidden[:, 0], self._on_device(before))
        return _as_array(logits)

    @torch.inference_mode()
    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        with self._precision():
            self._hidden, self._state = self._model.read(self._on_device(frame[:, None]), self._state)

    @torch.inference_mode()
    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        with self._precision():
            return _as_array(self._full(self._on_device(codes)))

    def _on_device(self, codes: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(codes)).to(self._model.device)

    def _precision(self) -> torch.autocast:
        return torch.autocast(torch.device(self._model.device).type, torch.bfloat16, enabled=self._autocast)


def _as_array(logits: torch.Tensor) -> np.ndarray:
    return (logits.float() if logits.dtype == torch.bfloat16 else logits).cpu().numpy()


class PackageSteps:
    """The package's ``LMModel``: a frame's codebooks at once, the codes of the frame before as ``1 + code``."""

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self._states: Any = None
        self._offset: Any = 0

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._states, self._offset = None, 0
        self._frame = self._read(torch.zeros(batch, self._model.n_q, 1, dtype=torch.int64)).cpu()

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return self._frame[:, 0, before.shape[1]].numpy()

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        self._frame = self._read(1 + torch.from_numpy(np.ascontiguousarray(frame))[:, :, None]).cpu()

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        self._states, self._offset = None, 0
        indices = 1 + torch.from_numpy(codes).permute(0, 2, 1)
        first = torch.zeros(len(codes), self._model.n_q, 1, dtype=torch.int64)
        return self._read(torch.cat((first, indices[:, :, :-1]), dim=2)).cpu().numpy()

    @torch.inference_mode()
    def _read(self, indices: torch.Tensor) -> torch.Tensor:
        """Return logits ``[B, T, K, V]`` for indices ``[B, K, T]``, by the operations of the package's ``forward``."""
        lm = self._model
        indices = indices.to(next(lm.parameters()).device)
        inputs = sum(lm.emb[k](indices[:, k]) for k in range(indices.shape[1]))
        hidden, self._states, self._offset = lm.transformer(inputs, self._states, self._offset)
        return torch.stack([linear(hidden) for linear in lm.linears], dim=2)
