"""`OnnxSteps`: language models of both kinds of numbers in onnxruntime."""

from typing import Any

import numpy as np
import onnxruntime

from codecbook.coding.counts import cdf_upstream
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.onnx import export_onnx
from codecbook.lm.token_lm import TokenLM

OPTIMISATIONS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""Levels of onnxruntime. Of a float model ``"basic"`` joins products with the sums after them, and ``"extended"`` puts
fused operators in the place of norms and GELUs; both change how logits are rounded."""
_CHUNK_FRAMES = 256
"""Frames that a full pass reads at a time, as attention takes memory for each pair; no exact result depends on it."""


def session(graph: bytes, threads: int, optimisation: str) -> Any:
    """Return a session on the CPU, with so many threads for one operator; `optimisation` as in `OPTIMISATIONS`."""
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = OPTIMISATIONS[optimisation]
    # threads that wait must not keep the others of a busy machine from running
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they are raised as well
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class OnnxSteps:
    """A model that `export_onnx` takes, in onnxruntime on the CPU, with so many threads for one operator.

    Satisfies `codecbook.probes.determinism.backends.Steps`. `optimisation` is a key of `OPTIMISATIONS`.
    """

    def __init__(self, model: TokenLM | ExactLM, threads: int = 1, optimisation: str = "all") -> None:
        graphs = export_onnx(model)
        self._config = graphs.config
        self._reader, self._heads = (session(graph, threads, optimisation) for graph in (graphs.read, graphs.heads))

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._hidden, self._past = self._read(self._bos(batch), self._empty(batch))

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        known = before.shape[1]
        codes = np.zeros((len(before), self._config.num_codebooks), np.int64)  # unknown ones are not read either
        codes[:, :known] = before
        return self._logits(self._hidden[:, 0], codes)[:, known]

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        self._hidden, self._past = self._read(frame[:, None], self._past)

    def frame(self) -> np.ndarray:
        """Return the logits ``[B, K, V]`` of all codebooks, of a model whose heads read no code of their own frame."""
        codes = np.zeros((len(self._hidden), self._config.num_codebooks), np.int64)
        return self._logits(self._hidden[:, 0], codes)

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`; it leaves alone what was stepped through."""
        B, T, K = codes.shape
        inputs = np.concatenate((self._bos(B), codes[:, :-1]), axis=1)
        past, parts = self._empty(B), []
        for first in range(0, T, _CHUNK_FRAMES):
            chunk = slice(first, first + _CHUNK_FRAMES)
            hidden, past = self._read(inputs[:, chunk], past)
            logits = self._logits(hidden.reshape(-1, self._config.dim), codes[:, chunk].reshape(-1, K))
            parts.append(logits.reshape(B, -1, K, self._config.codebook_size))
        return np.concatenate(parts, axis=1)

    def _read(self, codes: np.ndarray, past: np.ndarray) -> list[np.ndarray]:
        """Return hidden float32 ``[B, T, D]`` for codes ``[B, T, K]``, and what to remember."""
        return self._reader.run(["hidden", "present"], {"codes": codes, "past": past})

    def _logits(self, hidden: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the logits ``[N, K, V]`` of frames ``[N, K]``."""
        return self._heads.run(["logits"], {"hidden": hidden, "codes": codes})[0]

    def _empty(self, batch: int) -> np.ndarray:
        c = self._config
        return np.zeros((2 * c.layers, batch, c.heads, 0, c.dim // c.heads), np.float32)

    def _bos(self, batch: int) -> np.ndarray:
        return np.full((batch, 1, self._config.num_codebooks), self._config.codebook_size, dtype=np.int64)


class OnnxStepper:
    """A float model without conditioning in compiled form, behind `codecbook.coding.ecdc.lm.Stepper`."""

    dialect = None

    def __init__(self, model: TokenLM, threads: int = 1) -> None:
        self._steps = OnnxSteps(model, threads)

    def start(self, num_codebooks: int) -> None:
        """See `Stepper`; the model knows its codebooks."""
        del num_codebooks
        self._steps.start(1)

    def step(self, codes: np.ndarray | None = None) -> np.ndarray:
        """See `Stepper`; counts are by upstream's rule."""
        if codes is not None:
            self._steps.push(codes[None])
        return cdf_upstream(self._steps.frame().transpose(0, 2, 1))[0]
