"""`ExactStepper`: the compiled evaluator frame by frame, code by code; `kernel_logits`: whole clips at once."""

import weakref
from collections import namedtuple
from typing import NamedTuple

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.kernels import head_rows, push_rows, read_rows
from codecbook.lm.exact.products import PLAIN, pack, packed_shape, padded, proved_kind
from codecbook.lm.exact.spec import ExactConfig, ExactLM, array_specs, exp2_table
from codecbook.tokens.tokens import checked_codes

_SPECS = array_specs(ExactConfig((1,), 2, 1, 1, 1, 1, rotary=True)) | array_specs(
    ExactConfig((1,), 2, 1, 1, 1, 1, conditioned=True, head_dim=1, head_hidden=1)
)

_MATRICES = [name for name in _SPECS if name.endswith(".weight") and "embedding" not in name]

Weights = namedtuple("Weights", [name.replace(".", "_") for name in _SPECS])
"""The arrays of an `ExactLM` by their names, dots as underscores. Arrays that a model does not have are empty, so that
one compilation serves all: no ``rotation_cosine`` means biases, no ``project_weight`` heads without conditioning."""


class KernelState(NamedTuple):
    """What streams remember, and room to compute in. ``S`` streams; ``N`` rows (frames) can be read in one call.

    ``keys`` and ``values`` are rings over the window: the frame at position ``p`` is in place ``p mod W``. Their
    matrices are kept as `multiply` takes them.
    """

    keys: np.ndarray  # int8 [L, S, H], and matrices [W, d]
    values: np.ndarray  # int8 [L, S, H], and matrices [d, W]
    window: np.ndarray  # int64 [1], W
    positions: np.ndarray  # int64 [S], frames read, BOS included
    row_positions: np.ndarray  # int64 [N]
    hidden: np.ndarray  # int16 [N, D], what heads read
    projected: np.ndarray  # int32 [N, K P]
    known: np.ndarray  # int32 [N, P], sum of the rows of a frame's known codes
    residual: np.ndarray  # int32 [N, max(D, P)]
    activations: np.ndarray  # int16 [N, widest input]
    bytes: np.ndarray  # uint8, as activations
    sums: np.ndarray  # int32 [N, widest output]
    factors: np.ndarray  # int16 [3, max(d, W)], of the products of a head
    factor_bytes: np.ndarray  # uint8, as factors
    products: np.ndarray  # int32 [3, max(d, W)]


_PREPARED: "weakref.WeakKeyDictionary[ExactLM, Weights]" = weakref.WeakKeyDictionary()


def product_kind(model: ExactLM) -> str:
    """Return what the kernels multiply a model's matrices with here: see `codecbook.lm.exact.products`."""
    return proved_kind(frozenset(model.arrays[name].shape[-1] for name in _MATRICES if name in model.arrays))


def kernel_weights(model: ExactLM) -> Weights:
    """Return a model's arrays for the kernels; of its matrices packed copies are kept as long as it lives."""
    if model not in _PREPARED:
        is_packed = product_kind(model) != PLAIN
        arrays = {}
        for name, (kind, shape) in _SPECS.items():
            is_matrix = is_packed and name in _MATRICES
            array = model.arrays.get(name, np.zeros((0,) * (len(shape) + is_matrix), dtype=kind))
            if name == "layers.position_bias":  # by place in the ring, from any place on
                array = np.tile(array[..., ::-1], 2)
            arrays[name] = pack(array) if is_matrix and array.size else array
            arrays[name].flags.writeable = False  # numba takes read-only arrays for another type
        _PREPARED[model] = Weights(*arrays.values())
    return _PREPARED[model]


def kernel_state(model: ExactLM, streams: int, rows: int) -> KernelState:
    """Return the state of streams that have read nothing, not even BOS."""
    c, is_packed = model.config, product_kind(model) != PLAIN
    d, W = c.dim // c.heads, c.window_frames
    heads = (c.layers, streams, c.heads)
    keys, values = (packed_shape(*shape) if is_packed else shape for shape in ((W, d), (d, W)))
    outputs = max(3 * c.dim, c.hidden, c.num_codebooks * c.head_dim, c.head_hidden, c.codebook_size)
    rows, inputs, outputs = padded(rows, max(c.dim, c.hidden, c.head_dim, c.head_hidden), outputs)
    parts, factors, products = padded(3, max(d, W), max(d, W) + 3)  # products are at least as wide as factors
    return KernelState(
        keys=np.zeros((*heads, *keys), dtype=np.int8), values=np.zeros((*heads, *values), dtype=np.int8),
        window=np.array([W]),
        positions=np.zeros(streams, dtype=np.int64), row_positions=np.zeros(rows, dtype=np.int64),
        hidden=np.zeros((rows, inputs), dtype=np.int16),
        projected=np.zeros((rows, c.num_codebooks * c.head_dim), dtype=np.int32),
        known=np.zeros((rows, c.head_dim), dtype=np.int32),
        residual=np.zeros((rows, max(c.dim, c.head_dim)), dtype=np.int32),
        activations=np.zeros((rows, inputs), dtype=np.int16), bytes=np.zeros((rows, inputs), dtype=np.uint8),
        sums=np.zeros((rows, outputs), dtype=np.int32),
        factors=np.zeros((parts, factors), dtype=np.int16), factor_bytes=np.zeros((parts, factors), dtype=np.uint8),
        products=np.zeros((parts, products), dtype=np.int32),
    )  # fmt: skip


class ExactStepper:
    """Reads streams side by side, frame by frame; `logits` are those of the frame that comes next.

    For each frame, int64 ``[B, K]``, `logits` is called with its first ``k`` codes, for ``k`` from 0 to ``K - 1``, and
    `push` with all of them. A call costs some microseconds of Python; loops that have no time for that call
    `codecbook.lm.exact.kernels` from a kernel of their own.
    """

    def __init__(self, model: ExactLM, batch: int = 1) -> None:
        self.model, self._weights = model, kernel_weights(model)
        self.start(batch)

    def start(self, batch: int = 1) -> None:
        """Forget everything; the next frame is the first of `batch` streams."""
        c = self.model.config
        self._state = kernel_state(self.model, batch, batch)
        self._logits = np.empty((batch, c.codebook_size), dtype=np.int32)
        self._read(np.full((batch, c.num_codebooks), c.codebook_size, dtype=np.int64))

    def fork(self, batch: int) -> None:
        """Go on with `batch` streams that have read what the only one has."""
        state = kernel_state(self.model, batch, batch)
        for name in ("keys", "values", "positions"):
            getattr(state, name)[:] = getattr(self._state, name)
        for name in ("row_positions", "hidden", "projected"):  # of rows, which are padded
            getattr(state, name)[:] = getattr(self._state, name)[:1]
        self._state = state
        self._logits = np.empty((batch, self.model.config.codebook_size), dtype=np.int32)

    def logits(self, before: np.ndarray) -> np.ndarray:
        """Return int32 logits ``[B, V]`` of codebook ``k``, in 2^-8 bit, given the codes ``[B, k]`` before it."""
        before = self._checked(before, before.shape[1])
        k = before.shape[1]
        if k == self.model.num_codebooks:
            raise UnsupportedInput(f"{k} codes were given, and the frame has {k}; none is left.")
        self._state.known[:] = 0
        for j in range(k):
            push_rows(self._weights, self._state, j, before[:, j].copy())
        head_rows(self._weights, self._state, k, len(before), self._logits)
        return self._logits.copy()

    def push(self, frame: np.ndarray) -> None:
        """Read the codes ``[B, K]`` of the next frame; errors as for `kernel_logits`."""
        self._read(self._checked(frame, self.model.num_codebooks).copy())

    def _read(self, frame: np.ndarray) -> None:
        c = self.model.config
        if c.rotary and self._state.positions[0] >= c.window_frames:
            raise UnsupportedInput(f"A sequence is longer than this model's {c.window_frames} tokens; start again.")
        read_rows(self._weights, self._state, frame, np.arange(len(frame)), exp2_table())

    def _checked(self, codes: np.ndarray, num_codebooks: int) -> np.ndarray:
        codes = checked_codes(codes, self.model.codebook_sizes[:num_codebooks], "The frame")
        if codes.ndim != 2 or len(codes) != len(self._logits):
            raise UnsupportedInput(f"Codes are {list(codes.shape)}, and {len(self._logits)} streams step together.")
        return codes


def kernel_logits(model: ExactLM, codes: np.ndarray, rows: int = 16) -> np.ndarray:
    """Return what `reference_logits` does, as int32, and raise what it raises, by the compiled evaluator.

    `rows` frames go through the model at a time; no result depends on how many.
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
