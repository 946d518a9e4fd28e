"""`ExactStepper`: the compiled evaluator frame by frame, code by code; `kernel_logits`: whole clips at once."""

from collections import namedtuple
from typing import NamedTuple

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.kernels import head_rows, push_rows, read_rows
from codecbook.lm.exact.spec import ExactConfig, ExactLM, array_specs, exp2_table
from codecbook.tokens.checks import checked_codes

_ROWS = 16
_SPECS = array_specs(ExactConfig((1,), 2, 1, 1, 1, 1, rotary=True)) | array_specs(
    ExactConfig((1,), 2, 1, 1, 1, 1, conditioned=True, head_dim=1, head_hidden=1)
)

Weights = namedtuple("Weights", [name.replace(".", "_") for name in _SPECS])
"""The arrays of an `ExactLM` by their names, dots as underscores. Arrays that a model does not have are empty, so that
one compilation serves all: no ``rotation_cosine`` means biases, no ``project_weight`` heads without conditioning."""


class KernelState(NamedTuple):
    """What streams remember, and room to compute in. ``S`` streams; ``N`` rows (frames) can be read in one call.

    ``keys`` and ``values`` are rings over the window: the frame at position ``p`` is in place ``p mod W``.
    """

    keys: np.ndarray  # int8 [L, S, H, W, d]
    values: np.ndarray  # int8 [L, S, H, W, d]
    positions: np.ndarray  # int64 [S], frames read, BOS included
    row_positions: np.ndarray  # int64 [N]
    hidden: np.ndarray  # int16 [N, D], what heads read
    projected: np.ndarray  # int32 [N, K P]
    known: np.ndarray  # int32 [N, P], sum of the rows of a frame's known codes
    residual: np.ndarray  # int32 [N, max(D, P)]
    activations: np.ndarray  # int16 [N, widest input]
    sums: np.ndarray  # int32 [N, widest output]
    shares: np.ndarray  # int32 [W]


def kernel_weights(model: ExactLM) -> Weights:
    """Return a model's arrays for the kernels, without copies."""
    arrays = []
    for name, (kind, shape) in _SPECS.items():
        empty = np.zeros((0,) * len(shape), dtype=kind)
        empty.flags.writeable = False  # numba takes read-only arrays for another type
        arrays.append(model.arrays.get(name, empty))
    return Weights(*arrays)


def kernel_state(model: ExactLM, streams: int, rows: int) -> KernelState:
    """Return the state of streams that have read nothing, not even BOS."""
    c = model.config
    d, N = c.dim // c.heads, rows
    inputs = max(c.dim, c.hidden, c.head_dim, c.head_hidden)
    outputs = max(3 * c.dim, c.hidden, c.num_codebooks * c.head_dim, c.head_hidden, c.codebook_size)
    ring = (c.layers, streams, c.heads, c.window_frames, d)
    return KernelState(
        keys=np.zeros(ring, dtype=np.int8),
        values=np.zeros(ring, dtype=np.int8),
        positions=np.zeros(streams, dtype=np.int64),
        row_positions=np.zeros(N, dtype=np.int64),
        hidden=np.zeros((N, c.dim), dtype=np.int16),
        projected=np.zeros((N, c.num_codebooks * c.head_dim), dtype=np.int32),
        known=np.zeros((N, c.head_dim), dtype=np.int32),
        residual=np.zeros((N, max(c.dim, c.head_dim)), dtype=np.int32),
        activations=np.zeros((N, inputs), dtype=np.int16),
        sums=np.zeros((N, outputs), dtype=np.int32),
        shares=np.zeros(c.window_frames, dtype=np.int32),
    )


class ExactStepper:
    """Logits of one frame after the other, for one or more streams side by side.

    ::

        stepper = ExactStepper(model)
        for frame in frames:
            stepper.begin_frame()
            for k, code in enumerate(frame):
                logits = stepper.logits(k)  # given the frames before, and this frame's codes below k
                stepper.push(k, code)

    Each frame needs all its codes pushed, in order, before the next begins. A call costs some microseconds of Python;
    loops that have no time for that call `codecbook.lm.exact.kernels` from a kernel of their own.

    Args:
        model: The model.
        streams: How many streams, ``S``, step together.
    """

    def __init__(self, model: ExactLM, streams: int = 1) -> None:
        self.model, self.streams = model, streams
        self._weights = kernel_weights(model)
        self._state = kernel_state(model, streams, streams)
        self._indices = np.arange(streams, dtype=np.int64)
        self._logits = np.empty((streams, model.config.codebook_size), dtype=np.int32)
        self.reset()

    def reset(self) -> None:
        """Forget all frames: the next one follows BOS."""
        V, K = self.model.config.codebook_size, self.model.num_codebooks
        self._frame = np.full((self.streams, K), V, dtype=np.int64)
        self._frames_read, self._pushed = 0, K

    def begin_frame(self) -> None:
        """Read the frame that was pushed last (at first BOS), so that `logits` are those of the next.

        Raises:
            UnsupportedInput: The frame before is not complete, or rotary positions reach no further.
        """
        c = self.model.config
        if self._pushed < c.num_codebooks:
            raise UnsupportedInput(
                f"{self._pushed} of {c.num_codebooks} codes of the frame were pushed; push all before the next one."
            )
        if c.rotary and self._frames_read >= c.window_frames:
            raise UnsupportedInput(
                f"A sequence is longer than this model's {c.window_frames} tokens (BOS included); call reset()."
            )
        read_rows(self._weights, self._state, self._frame, self._indices, exp2_table())
        self._frames_read += 1
        self._frame = np.zeros_like(self._frame)
        self._pushed = 0

    def logits(self, k: int) -> np.ndarray:
        """Return the logits of codebook k, in 2^-8 bit: int32 ``[V]``, or ``[S, V]`` of several streams.

        Raises:
            UnsupportedInput: k is not the codebook whose code is to be pushed next.
        """
        self._check_turn(k)
        head_rows(self._weights, self._state, k, self.streams, self._logits)
        return (self._logits[0] if self.streams == 1 else self._logits).copy()

    def push(self, k: int, code: int | np.ndarray) -> None:
        """Fix the code of codebook k: an integer, or integers ``[S]``.

        Raises:
            UnsupportedInput: k is out of turn, or another number of codes.
            CorruptInput: A code outside its codebook.
        """
        self._check_turn(k)
        codes = np.atleast_1d(np.asarray(code))
        if codes.shape != (self.streams,):
            raise UnsupportedInput(f"Codes have the shape {list(codes.shape)}; give one per stream, [{self.streams}].")
        codes = checked_codes(codes[:, None], self.model.codebook_sizes[k : k + 1], f"Codebook {k}")[:, 0]
        push_rows(self._weights, self._state, k, codes.copy())
        self._frame[:, k] = codes
        self._pushed += 1

    def _check_turn(self, k: int) -> None:
        if k != self._pushed:
            raise UnsupportedInput(
                f"Codebook {k} is out of turn: {self._pushed} of {self.model.num_codebooks} codes of this frame are "
                "known; call begin_frame() for a new frame, and push codes in order."
            )


def kernel_logits(model: ExactLM, codes: np.ndarray, rows: int = _ROWS) -> np.ndarray:
    """Return what `reference_logits` does, and raise what it raises, by the compiled evaluator.

    Args:
        model: The model.
        codes: Integers ``[T, K]``.
        rows: Frames that go through the model at a time; no result depends on it.

    Returns:
        int32 ``[T, K, V]``, in 2^-8 bit.
    """
    config = model.config
    codes = checked_codes(codes, model.codebook_sizes, "The clip")
    T, K = codes.shape
    if config.rotary and config.window_frames < T:
        raise UnsupportedInput(f"A sequence of {T} tokens is longer than this model's {config.window_frames}.")
    weights, state = kernel_weights(model), kernel_state(model, 1, rows)
    inputs = np.concatenate((np.full((1, K), config.codebook_size), codes[:-1]))
    logits = np.empty((T, K, config.codebook_size), dtype=np.int32)
    part = np.empty((rows, config.codebook_size), dtype=np.int32)
    for start in range(0, T, rows):
        N = min(rows, T - start)
        streams = np.zeros(N, dtype=np.int64)
        read_rows(weights, state, inputs[start : start + N].copy(), streams, exp2_table())
        for k in range(K):
            head_rows(weights, state, k, N, part)
            logits[start : start + N, k] = part[:N]
            push_rows(weights, state, k, codes[start : start + N, k].copy())
    return logits
