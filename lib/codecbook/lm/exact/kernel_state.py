"""What the compiled evaluator works on: a model's arrays and preallocated state, as tuples that numba takes."""

from typing import NamedTuple

import numpy as np

from codecbook.lm.exact.model import ExactLM

Array = np.ndarray


class Weights(NamedTuple):
    """The arrays of an `ExactLM` by the names of `codecbook.lm.exact.model.array_specs`, dots as underscores.

    Arrays that a model does not have are empty, so that one compilation serves all models: no ``rotation_cosine``
    means biases, no ``project_weight`` means heads without conditioning.
    """

    embedding_weight: Array
    embedding_multiplier: Array
    embedding_shift: Array
    epsilon: Array
    layers_attention_norm_gain: Array
    layers_attention_norm_shift: Array
    layers_query_key_value_weight: Array
    layers_query_key_value_multiplier: Array
    layers_query_key_value_shift: Array
    layers_score_multiplier: Array
    layers_score_shift: Array
    layers_position_bias: Array
    layers_mix_multiplier: Array
    layers_mix_shift: Array
    layers_output_weight: Array
    layers_output_multiplier: Array
    layers_output_shift: Array
    layers_feed_forward_norm_gain: Array
    layers_feed_forward_norm_shift: Array
    layers_inner_weight: Array
    layers_inner_multiplier: Array
    layers_inner_shift: Array
    layers_gelu: Array
    layers_outer_weight: Array
    layers_outer_multiplier: Array
    layers_outer_shift: Array
    norm_gain: Array
    norm_shift: Array
    logits_weight: Array
    logits_multiplier: Array
    logits_shift: Array
    rotation_cosine: Array
    rotation_sine: Array
    project_weight: Array
    project_multiplier: Array
    project_shift: Array
    frame_embedding_weight: Array
    frame_embedding_multiplier: Array
    frame_embedding_shift: Array
    head_epsilon: Array
    head_norm_gain: Array
    head_norm_shift: Array
    head_inner_weight: Array
    head_inner_multiplier: Array
    head_inner_shift: Array
    head_gelu: Array
    head_outer_weight: Array
    head_outer_multiplier: Array
    head_outer_shift: Array
    logits_norm_gain: Array
    logits_norm_shift: Array


class KernelState(NamedTuple):
    """What streams remember, and room to compute in. ``S`` streams; ``N`` rows (frames) can be read in one call.

    ``keys`` and ``values`` are rings over the window: the frame at position ``p`` is in place ``p mod W``.
    """

    keys: Array  # int8 [L, S, H, W, d]
    values: Array  # int8 [L, S, H, W, d]
    positions: Array  # int64 [S], frames read, BOS included
    row_positions: Array  # int64 [N]
    hidden: Array  # int16 [N, D], what heads read
    projected: Array  # int32 [N, K P]
    known: Array  # int32 [N, P], sum of the rows of a frame's known codes
    stream: Array  # int32 [N, max(D, P)]
    activations: Array  # int16 [N, widest input]
    sums: Array  # int32 [N, widest output]
    shares: Array  # int32 [W]


def kernel_weights(model: ExactLM) -> Weights:
    """Return a model's arrays for the kernels, without copies."""
    return Weights(**{name: _array(model, name) for name in Weights._fields})


def _array(model: ExactLM, field: str) -> Array:
    for name, array in model.arrays.items():
        if name.replace(".", "_") == field:
            return array
    kinds = {"layers_position_bias": ("int32", 3), "head_epsilon": ("int64", 1), "head_gelu": ("int8", 1)}
    if field.startswith("rotation_"):
        kind, axes = "int16", 2
    elif field.endswith("_weight"):
        kind, axes = "int8", 2
    else:
        kind, axes = kinds.get(field, ("int32", 1))
    empty = np.zeros((0,) * axes, dtype=kind)
    empty.flags.writeable = False  # numba takes read-only arrays for another type
    return empty


def kernel_state(model: ExactLM, streams: int = 1, rows: int = 1) -> KernelState:
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
        stream=np.zeros((N, max(c.dim, c.head_dim)), dtype=np.int32),
        activations=np.zeros((N, inputs), dtype=np.int16),
        sums=np.zeros((N, outputs), dtype=np.int32),
        shares=np.zeros(c.window_frames, dtype=np.int32),
    )
