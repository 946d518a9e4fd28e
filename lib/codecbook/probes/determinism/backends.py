"""Language models of all backends behind one interface: whole segments at once, or code by code."""

import copy
import functools
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.reference import ReferenceEvaluator
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import ExactStepper, kernel_logits
from codecbook.probes.determinism.case import RANDOM, Case
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.compare import Coder

_MATMULS = {"numpy": "int64", "numpy-blas": "float32"}


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


class NumbaSteps(ExactStepper):
    """The compiled evaluator; a full pass takes so many rows at a time, on which no result depends."""

    def __init__(self, model: ExactLM, rows: int = 16) -> None:
        super().__init__(model)
        self._rows = rows

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return np.stack([kernel_logits(self.model, segment, self._rows) for segment in codes])


class ReferenceSteps(ReferenceEvaluator):
    """The specification in numpy."""

    def full(self, codes: np.ndarray) -> np.ndarray:
        """Raise UnsupportedInput: the reference has no such pass."""
        raise UnsupportedInput(f"The numpy reference reads frame by frame; received a pass over {codes.shape[1]}.")


# What is imported within these functions needs libraries that a machine may lack.


def load_steps(case: Case, numbers: str, cell: Cell) -> Steps:
    """Load the model of a case that gives one kind of numbers, in the backend of a cell."""
    model: Any = load_exact(case.folder / "exact") if numbers == "exact" else None
    if model is not None and cell.backend in _MATMULS:
        return ReferenceSteps(model, matmul=_MATMULS[cell.backend])
    if model is not None and cell.backend == "numba":
        return NumbaSteps(model)
    import torch

    from codecbook.lm.exact.torch_model import ExactTorch
    from codecbook.probes.determinism.torch_steps import PackageSteps, TorchSteps

    if model is None:
        model = copy.deepcopy(_float_model(case.folder, case.codec, case.codes.shape[2], case.seed)).to(
            cell.device, torch.float64 if numbers == "float64" else torch.float32
        )
        if case.codec == RANDOM:
            return PackageSteps(model)
    if cell.backend == "onnx":
        from codecbook.probes.determinism.onnx_steps import OnnxSteps

        return OnnxSteps(model, cell.threads, cell.graph_optimisation)
    model = ExactTorch(model, cell.device) if numbers == "exact" else model
    return TorchSteps(model, cell.precision == "autocast", cell.compiled)


@functools.lru_cache(maxsize=1)  # as a process needs it in two types
def _float_model(folder: Path, codec: str, num_codebooks: int, seed: int) -> Any:
    if codec == RANDOM:
        from codecbook.coding.ecdc.lm import upstream_lm

        return upstream_lm(num_codebooks, 1024, 75.0, seed)
    from codecbook.lm.model_files import load_lm

    return load_lm(folder / "lm").model


def trace(steps: Steps, codes: np.ndarray, batch: int, mode: str) -> np.ndarray:
    """Return the logits ``[N, T, K, V]`` of known segments int64 ``[N, T, K]``, by batch and mode of a `Cell`.

    Floats are as the model gives them; integers, whose evaluators prove their range, are int32.
    """
    traced = np.empty(0)
    for first in range(0, len(codes), batch):
        group = slice(first, first + batch)
        part = steps.full(codes[group]) if mode == "full" else _stepped(steps, codes[group])
        if first == 0:  # once, as all logits of a case are large
            traced = np.empty((len(codes), *part.shape[1:]), dtype=_kept_type(part))
        traced[group] = part
    return traced


def _stepped(steps: Steps, codes: np.ndarray) -> np.ndarray:
    B, T, K = codes.shape
    steps.start(B)
    traced = []
    for t in range(T):
        for k in range(K):
            logits = steps.logits(codes[:, t, :k])
            traced.append(logits.astype(_kept_type(logits)))
        if t < T - 1:
            steps.push(codes[:, t])
    return np.stack(traced, axis=1).reshape(B, T, K, -1)


def _kept_type(logits: np.ndarray) -> np.dtype:
    return np.dtype(np.int32) if logits.dtype.kind == "i" else logits.dtype


def decode_segments(
    coder: Coder, steps: Steps, streams: list[bytes], num_frames: int, num_codebooks: int
) -> list[tuple[np.ndarray, str]]:
    """Decode segments side by side, code by code, as a decoder must.

    A segment that breaks off goes on with code 0 until all are done, so that the others keep their batch.

    Returns:
        Of each segment its codes, int64 ``[T, K]``, zeros from where decoding broke off; and what the decoder raised,
        empty if it went through.
    """
    B = len(streams)
    decoders, errors = [coder.decoder(data) for data in streams], [""] * B
    codes = np.zeros((B, num_frames, num_codebooks), dtype=np.int64)
    steps.start(B)
    for t in range(num_frames):
        for k in range(num_codebooks):
            rows = coder.cdf(steps.logits(codes[:, t, :k]))
            for b in range(B):
                if not errors[b]:
                    try:
                        codes[b, t, k] = decoders[b].pull(rows[b])
                    except CodecbookError as error:
                        errors[b] = f"frame {t}: {error}"
        if t < num_frames - 1:
            steps.push(codes[:, t])
    return list(zip(codes, errors, strict=True))
