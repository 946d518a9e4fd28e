"""The evaluator for CPUs, compiled: reads frames of one or more streams, and puts out logits head by head.

`read_rows`, `head_rows` and `push_rows` work on the first ``N`` rows of a `KernelState`. A row is a frame; rows
may belong to different streams, which then share each matrix while it is in the cache, or follow one another in one
stream, as when tokens that are known already are encoded. What is computed does not depend on it.

Sums of integers have no order, so how wide a processor adds and in which order changes nothing. The kernels check
nothing.
"""

import numpy as np

from codecbook.compiled import kernel
from codecbook.lm.exact.products import added_offset, multiply, put_column, put_row
from codecbook.lm.exact.spec import (
    ACTIVATION_MAX,
    EXP2_SIZE,
    GELU_SIZE,
    RECIPROCAL_BITS,
    ROTATION_INPUT_MAX,
    ROTATION_SHIFT,
    SHARE_BITS,
    SHARE_SHIFT,
    STREAM_MAX,
    UNIT_BITS,
)


@kernel
def _requantise(value, multiplier, shift):
    shift = np.int64(shift)
    return (np.int64(value) * np.int64(multiplier) + (np.int64(1) << (shift - 1))) >> shift


@kernel
def _clip(value, limit):
    return min(max(value, -limit), limit)


@kernel
def _norms(residual, gain, shift, epsilon, num_rows, out):
    half = np.int64(1) << (UNIT_BITS - 1)
    for n in range(num_rows):
        squares = epsilon
        for i in range(gain.shape[0]):
            squares += np.int64(residual[n, i]) * np.int64(residual[n, i])
        root = np.int64(np.sqrt(np.float64(squares)))  # then made exact, whatever its rounding
        if root * root > squares:
            root -= 1
        if (root + 1) * (root + 1) <= squares:
            root += 1
        reciprocal = (np.int64(1) << RECIPROCAL_BITS) // root
        for i in range(gain.shape[0]):
            unit = (np.int64(residual[n, i]) * reciprocal + half) >> UNIT_BITS
            out[n, i] = _clip(_requantise(unit, gain[i], shift), ACTIVATION_MAX)


@kernel
def _add_products(weight, multiplier, shift, state, num_rows):
    """Add to the rows' residuals what a matrix makes of their activations."""
    multiply(weight, state.activations, num_rows, state.sums, state.bytes)
    for n in range(num_rows):
        for i in range(multiplier.shape[0]):
            added = _requantise(state.sums[n, i], multiplier[i], shift)
            state.residual[n, i] = _clip(state.residual[n, i] + added, STREAM_MAX)


@kernel
def _feed_forward(norm, inner, gelu, outer, epsilon, state, num_rows):
    """Add to the rows' residuals what a network of two matrices makes of them; a matrix is its three arrays."""
    weight, multiplier, shift = inner
    _norms(state.residual, norm[0], norm[1], epsilon, num_rows, state.activations)
    multiply(weight, state.activations, num_rows, state.sums, state.bytes)
    for n in range(num_rows):
        for i in range(multiplier.shape[0]):
            place = _requantise(state.sums[n, i], multiplier[i], shift) + GELU_SIZE // 2
            state.activations[n, i] = gelu[min(max(place, 0), GELU_SIZE - 1)]
    _add_products(outer[0], outer[1], outer[2], state, num_rows)


@kernel
def _rotate(sums, multiplier, shift, cosine, sine):
    """Turn a query or key ``[d]`` in place, by its position's tables ``[d / 2]``."""
    half = cosine.shape[0]
    for i in range(half):
        first = _clip(_requantise(sums[i], multiplier[i], shift), ROTATION_INPUT_MAX)
        second = _clip(_requantise(sums[half + i], multiplier[half + i], shift), ROTATION_INPUT_MAX)
        x = first * np.int64(cosine[i]) - second * np.int64(sine[i])
        y = second * np.int64(cosine[i]) + first * np.int64(sine[i])
        sums[i] = _clip((x + (1 << (ROTATION_SHIFT - 1))) >> ROTATION_SHIFT, ACTIVATION_MAX)
        sums[half + i] = _clip((y + (1 << (ROTATION_SHIFT - 1))) >> ROTATION_SHIFT, ACTIVATION_MAX)


@kernel
def _plain(sums, multiplier, shift, out):
    for i in range(multiplier.shape[0]):
        out[i] = _clip(_requantise(sums[i], multiplier[i], shift), ACTIVATION_MAX)


@kernel
def _shares(scores, count, exp2):
    """Turn scores into attention weights in place."""
    top = scores[0]
    for j in range(1, count):
        top = max(top, scores[j])
    total = np.int64(0)
    for j in range(count):
        power = exp2[np.uint64(min(top - scores[j], EXP2_SIZE - 1))]
        scores[j] = power
        total += power
    reciprocal = (np.int64(1) << RECIPROCAL_BITS) // total
    for j in range(count):
        scores[j] = (np.int64(scores[j]) * reciprocal + (1 << (SHARE_SHIFT - 1))) >> SHARE_SHIFT


@kernel
def _attend_head(keys, values, count, multiplier, shift, bias, exp2, factors, room, products, mixed):
    """Write the weighted sum of values ``[d]`` of one head, whose query is in ``factors[0]``, into `mixed`.

    `bias` is by place in the ring, or empty; `factors`, `room` and `products` are those of `KernelState`.
    """
    multiply(keys, factors, 1, products, room)
    scores = products[0]
    for j in range(count):
        scores[j] = _requantise(scores[j], multiplier, shift)
    for j in range(min(count, bias.shape[0])):
        scores[j] += bias[j]
    _shares(scores, count, exp2)
    for j in range(count, factors.shape[1]):
        scores[j] = 0
    offset = added_offset(values)
    for j in range(factors.shape[1]):  # 0 to 2^16, in three unsigned bytes
        top = scores[j] >> SHARE_BITS
        rest = scores[j] - top
        factors[0, j] = (rest >> 8) - offset
        factors[1, j] = (rest & 255) - offset
        factors[2, j] = top - offset
    multiply(values, factors, 3, products, room)
    for i in range(mixed.shape[0]):
        mixed[i] = (products[0, i] << 8) + products[1, i] + products[2, i]


@kernel
def _attend(weights, state, layer, stream, n, exp2):
    """Turn a row's query, key and value (sums of products) into what the attention's output matrix reads."""
    H, W, D = state.keys.shape[2], state.window[0], weights.layers_mix_multiplier.shape[1]
    d, position, sums = D // H, state.row_positions[n], state.sums[n]
    place, count = position % W, min(position + 1, W)
    multiplier = weights.layers_query_key_value_multiplier[layer]
    shift = weights.layers_query_key_value_shift[layer]
    is_rotary = weights.rotation_cosine.shape[0] > 0
    if is_rotary:
        for a in range(0, 2 * D, d):
            tables = weights.rotation_cosine[position], weights.rotation_sine[position]
            _rotate(sums[a : a + d], multiplier[a : a + d], shift, tables[0], tables[1])
        _plain(sums[2 * D :], multiplier[2 * D :], shift, sums[2 * D :])
    else:
        _plain(sums, multiplier, shift, sums)
    for h in range(H):
        a, b, c = h * d, D + h * d, 2 * D + h * d
        keys, values = state.keys[layer, stream, h], state.values[layer, stream, h]
        put_row(keys, place, sums[b : b + d])
        put_column(values, place, sums[c : c + d])
        state.factors[0, :d] = sums[a : a + d]
        bias = weights.layers_position_bias[layer, h, W - 1 - place :] if not is_rotary else sums[:0]
        _attend_head(
            keys, values, count, weights.layers_score_multiplier[layer, h], weights.layers_score_shift[layer], bias,
            exp2, state.factors, state.factor_bytes, state.products, sums[a : a + d],
        )  # fmt: skip
    _plain(sums, weights.layers_mix_multiplier[layer], weights.layers_mix_shift[layer], state.activations[n])


@kernel
def _add_row(weight, multiplier, shift, row, out):
    """Add a row of a table of codes."""
    for i in range(weight.shape[1]):
        out[i] += _requantise(weight[row, i], multiplier[row], shift)


@kernel
def _embed(weights, codes, V, residual):
    """Write the sum of the rows of a frame's codes ``[K]``; code V is BOS."""
    w = weights
    residual[:] = 0
    for k in range(codes.shape[0]):
        row = k * (V + 1) + codes[k]
        _add_row(w.embedding_weight, w.embedding_multiplier, w.embedding_shift[0], row, residual)
    for i in range(residual.shape[0]):
        residual[i] = _clip(residual[i], STREAM_MAX)


@kernel
def _layer(weights, state, streams, layer, exp2):
    w, N, epsilon = weights, streams.shape[0], weights.epsilon[0]
    gain, shift = w.layers_attention_norm_gain[layer], w.layers_attention_norm_shift[layer]
    _norms(state.residual, gain, shift, epsilon, N, state.activations)
    multiply(w.layers_query_key_value_weight[layer], state.activations, N, state.sums, state.bytes)
    for n in range(N):
        _attend(weights, state, layer, streams[n], n, exp2)
    weight, multiplier = w.layers_output_weight[layer], w.layers_output_multiplier[layer]
    _add_products(weight, multiplier, w.layers_output_shift[layer], state, N)
    norm = (w.layers_feed_forward_norm_gain[layer], w.layers_feed_forward_norm_shift[layer])
    inner = (w.layers_inner_weight[layer], w.layers_inner_multiplier[layer], w.layers_inner_shift[layer])
    outer = (w.layers_outer_weight[layer], w.layers_outer_multiplier[layer], w.layers_outer_shift[layer])
    _feed_forward(norm, inner, w.layers_gelu[layer], outer, epsilon, state, N)


@kernel
def read_rows(weights, state, codes, streams, exp2):
    """Read frames: afterwards the heads of row ``n`` predict the frame after it.

    `codes` are int64 ``[N, K]``, one frame per row; code V, in all codebooks at once, is BOS and begins a sequence.
    `streams` int64 ``[N]`` says whose frame each row is, rows of one stream in their order; `exp2` is `exp2_table`.
    """
    N, V = codes.shape[0], weights.logits_multiplier.shape[1]
    for n in range(N):
        stream = streams[n]
        if codes[n, 0] == V:
            state.positions[stream] = 0  # what the rings hold is then out of sight
        state.row_positions[n] = state.positions[stream]
        state.positions[stream] += 1
        _embed(weights, codes[n], V, state.residual[n])
    for layer in range(state.keys.shape[0]):
        _layer(weights, state, streams, layer, exp2)
    _norms(state.residual, weights.norm_gain, weights.norm_shift[0], weights.epsilon[0], N, state.hidden)
    _project(weights, state, N)


@kernel
def _project(weights, state, N):
    """Prepare the heads of all codebooks, where codes are conditioned on one another."""
    size = weights.project_multiplier.shape[0]
    if size == 0:
        return
    multiply(weights.project_weight, state.hidden, N, state.sums, state.bytes)
    state.known[:N] = 0
    for n in range(N):
        for i in range(size):
            state.projected[n, i] = _requantise(
                state.sums[n, i], weights.project_multiplier[i], weights.project_shift[0]
            )


@kernel
def _refine(weights, state, k, N):
    """Write what the logits of codebook k are read from into the rows of ``activations``."""
    w, P, epsilon = weights, weights.head_norm_gain.shape[0], weights.head_epsilon[0]
    for n in range(N):
        for i in range(P):
            state.residual[n, i] = _clip(np.int64(state.projected[n, k * P + i]) + state.known[n, i], STREAM_MAX)
    inner = (w.head_inner_weight, w.head_inner_multiplier, w.head_inner_shift[0])
    outer = (w.head_outer_weight, w.head_outer_multiplier, w.head_outer_shift[0])
    _feed_forward((w.head_norm_gain, w.head_norm_shift[0]), inner, w.head_gelu, outer, epsilon, state, N)
    _norms(state.residual, w.logits_norm_gain, w.logits_norm_shift[0], epsilon, N, state.activations)


@kernel
def head_rows(weights, state, k, N, logits):
    """Write the logits of codebook k of the first N rows into `logits`, int32 ``[N, V]``, in 2^-8 bit.

    With conditioning, codes of codebooks below k must have been pushed.
    """
    inputs = state.hidden
    if weights.project_multiplier.shape[0]:
        _refine(weights, state, k, N)
        inputs = state.activations
    multiply(weights.logits_weight[k], inputs, N, state.sums, state.bytes)
    multiplier, shift = weights.logits_multiplier[k], weights.logits_shift[0]
    for n in range(N):
        for v in range(multiplier.shape[0]):
            logits[n, v] = _requantise(state.sums[n, v], multiplier[v], shift)


@kernel
def push_rows(weights, state, k, codes):
    """Tell each row the code of codebook k of its frame, int64 ``[N]``."""
    w, (K, V) = weights, weights.logits_multiplier.shape
    if w.project_multiplier.shape[0] == 0 or k == K - 1:
        return
    for n in range(codes.shape[0]):
        row = k * V + codes[n]
        _add_row(
            w.frame_embedding_weight, w.frame_embedding_multiplier, w.frame_embedding_shift[0], row, state.known[n]
        )
