"""`OnnxSteps`: language models of both kinds of numbers in onnxruntime."""

import functools
from typing import Any

import numpy as np
import onnxruntime

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.onnx import export_onnx
from codecbook.lm.token_lm import TokenLM
from codecbook.tokens.checks import checked_codes

OPTIMISATIONS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""Levels of onnxruntime. Of a float model ``"basic"`` joins products with the sums after them, and ``"extended"`` puts
fused operators in the place of norms and GELUs; both change how logits are rounded."""


class OnnxSteps:
    """A model in onnxruntime on the CPU; satisfies `codecbook.probes.determinism.backends.Steps`.

    Args:
        model: A float32 `RVQTransformer`, or an `ExactLM`.
        threads: Threads of one operator.
        optimisation: A key of `OPTIMISATIONS`; onnxruntime's own default is ``"all"``.
        chunk_frames: Frames that a full pass reads at a time; no exact result depends on it.

    Raises:
        UnsupportedInput: Another optimisation, fewer than one thread or frame, or a model that `export_onnx` refuses.
    """

    def __init__(
        self, model: TokenLM | ExactLM, threads: int = 1, optimisation: str = "all", chunk_frames: int = 256
    ) -> None:
        if optimisation not in OPTIMISATIONS:
            raise UnsupportedInput(
                f"There is no graph optimisation {optimisation!r}; choose one of {', '.join(OPTIMISATIONS)}."
            )
        if threads < 1 or chunk_frames < 1:
            raise UnsupportedInput(f"threads={threads} and chunk_frames={chunk_frames}; both start at 1.")
        self._graphs = export_onnx(model)
        self._config = self._graphs.config
        self._threads, self._optimisation, self._chunk_frames = threads, optimisation, chunk_frames
        self._hidden = np.empty((0, self._config.dim), np.float32)
        self._past = self._empty(0)

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._advance(self._bos(batch), self._empty(batch))

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`.

        Raises:
            UnsupportedInput: As many codes as the frame has, or of another batch.
            CorruptInput: A code outside its codebook.
        """
        known, K = before.shape[-1], self._config.num_codebooks
        if known >= K:
            raise UnsupportedInput(f"{known} codes were given, and the frame has {K}; none is left.")
        codes = np.zeros((len(before), K), np.int64)  # those that are not known yet are not read either
        codes[:, :known] = self._checked(before, self._config.codebook_sizes[:known])
        return self._heads.run(["logits"], {"hidden": self._hidden, "codes": codes})[0][:, known]

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`.

        Raises:
            UnsupportedInput: Another number of codebooks or batch.
            CorruptInput: A code outside its codebook.
        """
        codes = self._checked(frame, self._config.codebook_sizes)
        self._advance(codes[:, None], self._past)

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`; it leaves alone what was stepped through.

        Raises:
            UnsupportedInput: Another shape than ``[B, T, K]``, or no frames.
            CorruptInput: A code outside its codebook.
        """
        codes = checked_codes(codes, self._config.codebook_sizes, "The segments")
        if codes.ndim != 3 or codes.shape[1] < 1:
            raise UnsupportedInput(
                f"Segments have the shape [B, T, K] and a frame at least; received {list(codes.shape)}."
            )
        B, T, K = codes.shape
        inputs = np.concatenate((self._bos(B), codes[:, :-1]), axis=1)
        past, parts = self._empty(B), []
        for first in range(0, T, self._chunk_frames):
            chunk = slice(first, first + self._chunk_frames)
            hidden, past = self._read(inputs[:, chunk], past)
            feeds = {"hidden": hidden.reshape(-1, self._config.dim), "codes": codes[:, chunk].reshape(-1, K)}
            parts.append(self._heads.run(["logits"], feeds)[0].reshape(B, -1, K, self._config.codebook_size))
        return np.concatenate(parts, axis=1)

    def _advance(self, codes: np.ndarray, past: np.ndarray) -> None:
        hidden, self._past = self._read(codes, past)
        self._hidden = hidden[:, 0]

    def _read(self, codes: np.ndarray, past: np.ndarray) -> list[np.ndarray]:
        """Return hidden float32 ``[B, T, D]`` for codes ``[B, T, K]``, and what to remember."""
        return self._reader.run(["hidden", "present"], {"codes": codes, "past": past})

    def _checked(self, codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> np.ndarray:
        codes = checked_codes(codes, codebook_sizes, "The frame")
        if codes.ndim != 2 or len(codes) != len(self._hidden):
            raise UnsupportedInput(
                f"Codes {list(codes.shape)} were given, and start() was called for {len(self._hidden)} segment(s); "
                "give the codes of all segments at once."
            )
        return codes

    def _empty(self, batch: int) -> np.ndarray:
        c = self._config
        return np.zeros((2 * c.layers, batch, c.heads, 0, c.dim // c.heads), np.float32)

    def _bos(self, batch: int) -> np.ndarray:
        return np.full((batch, 1, self._config.num_codebooks), self._config.codebook_size, dtype=np.int64)

    @functools.cached_property
    def _reader(self) -> Any:
        return self._session(self._graphs.read)

    @functools.cached_property
    def _heads(self) -> Any:
        return self._session(self._graphs.heads)

    def _session(self, graph: bytes) -> Any:
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = OPTIMISATIONS[self._optimisation]
        # threads that wait must not keep the others of a busy machine from running
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; they are raised as well
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
