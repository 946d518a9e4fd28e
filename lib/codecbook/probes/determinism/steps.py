"""Language models of all backends behind one interface: whole segments at once, or code by code."""

from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import ExactLM, ExactStepper, ExactTorch, ReferenceEvaluator, kernel_logits
from codecbook.lm.token_lm import TokenLM


class Steps(Protocol):
    """A language model that reads `B` segments side by side."""

    def start(self, batch: int) -> None:
        """Forget everything; the next frame is the first of `batch` segments."""
        ...

    def logits(self, before: np.ndarray) -> np.ndarray:
        """Return logits ``[B, V]`` of codebook ``k`` for int64 ``[B, k]``, the frame's codes below it."""
        ...

    def push(self, frame: np.ndarray) -> None:
        """Fix the codes int64 ``[B, K]`` of the frame."""
        ...

    def full(self, codes: np.ndarray) -> np.ndarray:
        """Return the logits ``[B, T, K, V]`` of all frames ``[B, T, K]`` in one pass."""
        ...


class TorchSteps:
    """A `TokenLM` or an `ExactTorch`, which are called alike."""

    def __init__(self, model: TokenLM | ExactTorch) -> None:
        self._model: Any = model
        self._hidden: Any = None
        self._state: Any = None

    @torch.inference_mode()
    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._hidden, self._state = self._model.begin(batch)

    @torch.inference_mode()
    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        codes = torch.from_numpy(np.ascontiguousarray(before)).to(self._model.device)
        return self._model.head(self._hidden[:, 0], codes).cpu().numpy()

    @torch.inference_mode()
    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        codes = torch.from_numpy(np.ascontiguousarray(frame[:, None])).to(self._model.device)
        self._hidden, self._state = self._model.read(codes, self._state)

    @torch.inference_mode()
    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
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
        """See `Steps`."""
        self._states, self._offset = None, 0
        self._frame = self._read(torch.zeros(batch, self._model.n_q, 1, dtype=torch.int64))

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return self._frame[:, 0, before.shape[1]].numpy()

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        self._frame = self._read(1 + torch.from_numpy(np.ascontiguousarray(frame))[:, :, None])

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
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


class NumbaSteps:
    """The compiled evaluator."""

    def __init__(self, model: ExactLM) -> None:
        self._model = model
        self._stepper = ExactStepper(model)

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._stepper = ExactStepper(self._model, batch)
        self._stepper.begin_frame()
        self._known = 0

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        for k in range(self._known, before.shape[1]):
            self._stepper.push(k, before[:, k])
        self._known = before.shape[1]
        return np.atleast_2d(self._stepper.logits(self._known))

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        for k in range(self._known, frame.shape[1]):
            self._stepper.push(k, frame[:, k])
        self._stepper.begin_frame()
        self._known = 0

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return np.stack([kernel_logits(self._model, segment) for segment in codes])


class ReferenceSteps:
    """The specification in numpy, one segment at a time."""

    def __init__(self, model: ExactLM) -> None:
        self._model = model
        self._evaluators: list[ReferenceEvaluator] = []

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._evaluators = [ReferenceEvaluator(self._model) for _ in range(batch)]

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return np.stack([e.logits(row) for e, row in zip(self._evaluators, before, strict=True)])

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        for evaluator, row in zip(self._evaluators, frame, strict=True):
            evaluator.read(row)

    def full(self, codes: np.ndarray) -> np.ndarray:
        """Raise UnsupportedInput: the reference has no such pass."""
        raise UnsupportedInput(
            f"The numpy reference reads frame by frame; received a pass over {codes.shape[1]}."
        )


def trace(steps: Steps, codes: np.ndarray, batch: int, mode: str) -> np.ndarray:
    """Return the logits ``[N, T, K, V]`` of known segments, evaluated as a cell says.

    Args:
        steps: The model.
        codes: int64 ``[N, T, K]``.
        batch: Segments side by side.
        mode: ``"stepping"`` or ``"full"``.
    """
    parts = []
    for first in range(0, len(codes), batch):
        group = codes[first : first + batch]
        parts.append(steps.full(group) if mode == "full" else _stepped(steps, group))
    return np.concatenate(parts)


def _stepped(steps: Steps, codes: np.ndarray) -> np.ndarray:
    B, T, K = codes.shape
    steps.start(B)
    frames = []
    for t in range(T):
        frames.append(np.stack([steps.logits(codes[:, t, :k]) for k in range(K)], axis=1))
        if t < T - 1:
            steps.push(codes[:, t])
    return np.stack(frames, axis=1)
