"""An adaptive context-mixing model of tokens: what compressors of the PAQ family reach, without training in advance.

Each code is sent as ``ceil(log2 V)`` binary decisions, most significant bit first. For each decision, several contexts
(the code one frame before, the one above it in the frame, both, ...) have an adaptive probability; a small online
logistic regression per codebook and bit mixes them, and learns after each bit which to trust. Nothing is stored in
advance, so this is what a file says of itself; with a training set in front, all of it carries over.

Source: Mahoney, Adaptive weighing of context models for lossless data compression, 2005 (logistic mixing as of PAQ7);
Mattern, Mixing strategies in data compression, DCC 2012, which shows it to be gradient descent on the code length.
"""

import numpy as np

from codecbook.compiled import kernel
from codecbook.lm.baselines.ngrams import TokenCost, check_corpora
from codecbook.lm.data.corpus import Corpus

_NUM_CONTEXTS = 9
_INPUTS = 2 * _NUM_CONTEXTS + 1  # of each context its log-odds and its sureness, and a constant
_SLOT_BITS = 22  # slots per context at most; codes that share one disturb each other a little
_LOW = (1 << 31) - 1  # a product of this and a number of 30 bits stays below 2^61
_RATE_LIMIT = 250  # observations after which a probability goes on following changes


def mixing_model(held_out: Corpus, train: Corpus | None = None) -> TokenCost:
    """Charge clips as `mixing_bits` does, which says all else."""
    running = np.cumsum(np.pad(mixing_bits(held_out, train), ((1, 0), (0, 0))), axis=0)
    ends = np.cumsum(held_out.clip_rows)
    clip_bits = running[ends] - running[ends - held_out.clip_rows]
    return TokenCost("context mixing", clip_bits, held_out.clip_rows * len(held_out.codebook_sizes))


def mixing_bits(held_out: Corpus, train: Corpus | None = None) -> np.ndarray:
    """Charge tokens by an adaptive model that mixes contexts; clip after clip, learning goes on.

    Floats decide, so these are costs and no codec: another machine may round otherwise. Tokens of `train` are learned
    from first, and not charged. Errors as `check_corpora`.

    Returns:
        Bits of every token, float64 ``[rows, K]``, clip after clip.
    """
    sizes = held_out.codebook_sizes
    check_corpora(train, held_out)
    corpora = [train, held_out] if train is not None else [held_out]
    rows = np.concatenate([corpus.rows() for corpus in corpora])
    lengths = np.concatenate([corpus.clip_rows for corpus in corpora])
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)  # of the clip of each row, which sees none before it
    widths = np.array([max(1, (size - 1).bit_length()) for size in sizes], dtype=np.int64)
    decisions = len(rows) * int(widths.sum())
    slot_bits = min(_SLOT_BITS, max(8, decisions.bit_length()))
    return _code_lengths(rows, starts, widths, slot_bits)[len(rows) - held_out.num_rows :]


@kernel
def _contexts_of(rows, t, k, start, out):
    """Fill `out` with a number per context; -1 stands for a code before the clip's beginning."""
    previous = rows[t - 1, k] if t - 1 >= start else -1
    before = rows[t - 2, k] if t - 2 >= start else -1
    above = rows[t, k - 1] if k > 0 else before
    above_2 = rows[t, k - 2] if k > 1 else previous
    below = rows[t - 1, k + 1] if t - 1 >= start and k + 1 < rows.shape[1] else -1
    first = rows[t, 0] if k > 0 else -1
    earliest = rows[t - 3, k] if t - 3 >= start else -1
    wide = 1 << 21
    out[0] = 0
    out[1] = previous + 1
    out[2] = above + 1
    out[3] = (previous + 1) * wide + above + 1
    out[4] = (above + 1) * wide + above_2 + 1
    out[5] = before + 1
    out[6] = (previous + 1) * wide + before + 1
    out[7] = below + 1
    out[8] = (first + 1) * wide + earliest + 1


@kernel
def _slot(context, node, which, k, mask):
    """Hash a context, a node of the code's tree of bits and a codebook to a slot: products of 31 and 30 bits."""
    low, high = context & _LOW, context >> 31
    key = low * 0x1E3779B9 + high * 0x2545F491 + (node * 64 + k) * 0x06D4E6A7
    key = ((key ^ (key >> 29)) & _LOW) * 0x27D4EB2F + (key >> 31)
    return ((key ^ (key >> 31)) & mask) + which * (mask + 1)


@kernel
def _code_lengths(rows, starts, widths, slot_bits):
    """Return the cost of each code in bits, float64 ``[T, K]``, learning along the way."""
    T, K = rows.shape
    mask = (1 << slot_bits) - 1
    chance = np.full(_NUM_CONTEXTS << slot_bits, 0.5, dtype=np.float32)
    seen = np.zeros(_NUM_CONTEXTS << slot_bits, dtype=np.uint8)
    # starting weights: trust the sum a little, as in lpaq; all else is learned
    weights = np.full((K, widths.max(), 4, _INPUTS), 0.0)
    weights[:, :, :, :_NUM_CONTEXTS] = 0.3
    contexts = np.zeros(_NUM_CONTEXTS, dtype=np.int64)
    slots = np.zeros(_NUM_CONTEXTS, dtype=np.int64)
    inputs = np.zeros(_INPUTS)
    inputs[_INPUTS - 1] = 0.3
    costs = np.zeros((T, K))
    for t in range(T):
        for k in range(K):
            _contexts_of(rows, t, k, starts[t], contexts)
            node = 1
            for depth in range(widths[k]):
                bit = (rows[t, k] >> (widths[k] - 1 - depth)) & 1
                sure = 0
                for i in range(_NUM_CONTEXTS):
                    slot = _slot(contexts[i], node, i, k, mask)
                    slots[i] = slot
                    p = np.float64(chance[slot])
                    inputs[i] = np.log(p / (1 - p))
                    inputs[_NUM_CONTEXTS + i] = (p - 0.5) * 4 * min(1.0, seen[slot] / 8)
                    if 0 < i < 5 and seen[slot] > 0:
                        sure += 1
                chosen = weights[k, depth, min(3, sure)]
                dot = 0.0
                for i in range(_INPUTS):
                    dot += chosen[i] * inputs[i]
                p = min(max(1 / (1 + np.exp(-dot)), 1e-5), 1 - 1e-5)
                costs[t, k] -= np.log2(p if bit else 1 - p)
                step = 0.015 * (bit - p)
                for i in range(_INPUTS):
                    chosen[i] += step * inputs[i]
                for i in range(_NUM_CONTEXTS):
                    slot = slots[i]
                    rate = 1 / (seen[slot] + 1.6)
                    chance[slot] += np.float32((bit - chance[slot]) * rate)
                    chance[slot] = min(max(chance[slot], np.float32(1e-3)), np.float32(1 - 1e-3))
                    if seen[slot] < _RATE_LIMIT:
                        seen[slot] += 1
                node = 2 * node + bit
    return costs
