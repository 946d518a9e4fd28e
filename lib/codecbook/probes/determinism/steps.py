"""Language models of all backends behind one interface: whole segments at once, or code by code."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lazy import lazy_names
from codecbook.lm.exact.model import ExactLM
from codecbook.lm.exact.reference import ReferenceEvaluator
from codecbook.lm.exact.stepper import ExactStepper, kernel_logits

if TYPE_CHECKING:
    from codecbook.probes.determinism.torch_steps import PackageSteps, TorchSteps

__all__ = ["NumbaSteps", "PackageSteps", "ReferenceSteps", "Steps", "TorchSteps", "trace"]

# exact integers step where there is no torch, too
__getattr__, __dir__ = lazy_names(
    __name__, {"codecbook.probes.determinism.torch_steps": ("PackageSteps", "TorchSteps")}
)


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
    """The specification in numpy.

    Args:
        model: The model.
        matmul: As for `ReferenceEvaluator`.
    """

    def __init__(self, model: ExactLM, matmul: str = "int64") -> None:
        self._evaluator = ReferenceEvaluator(model, 1, matmul)

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._evaluator.restart(batch)

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return self._evaluator.logits(before)

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        self._evaluator.read(frame)

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

    Returns:
        Floats as the model gives them; integers, whose evaluators prove their range, as int32.
    """
    groups = [slice(first, first + batch) for first in range(0, len(codes), batch)]
    traced = None
    for group in groups:
        part = steps.full(codes[group]) if mode == "full" else _stepped(steps, codes[group])
        if traced is None:  # once, as all logits of a case are large
            traced = np.empty((len(codes), *part.shape[1:]), dtype=_kept_type(part))
        traced[group] = part
    assert traced is not None, "a case has segments"
    return traced


def _stepped(steps: Steps, codes: np.ndarray) -> np.ndarray:
    B, T, K = codes.shape
    steps.start(B)
    traced = None
    for t in range(T):
        for k in range(K):
            logits = steps.logits(codes[:, t, :k])
            if traced is None:
                traced = np.empty((B, T, K, logits.shape[1]), dtype=_kept_type(logits))
            traced[:, t, k] = logits
        if t < T - 1:
            steps.push(codes[:, t])
    assert traced is not None, "segments have frames"
    return traced


def _kept_type(logits: np.ndarray) -> np.dtype:
    return np.dtype(np.int32) if logits.dtype.kind == "i" else logits.dtype
