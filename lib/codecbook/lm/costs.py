"""What clips cost under a language model, in the form that the baselines have: bits by clip and codebook."""

from collections.abc import Sequence

import numpy as np
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.compressors import COMPRESSORS, compressor_costs
from codecbook.lm.baselines.mixing import mixing_model
from codecbook.lm.baselines.ngrams import TokenCost, check_corpora, count_model, uniform
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.score import evaluating, token_bits
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.objective import NATS_TO_BITS, cross_entropy_nats
from codecbook.tokens.checks import checked_codes


def lm_cost(name: str, model: TokenLM, held_out: Corpus) -> TokenCost:
    """Charge each clip by a language model, from its own BOS.

    Args:
        name: Of the model, for tables.
        model: The model; evaluated without dropout.
        held_out: What is charged.

    Returns:
        Bits by clip and codebook.

    Raises:
        UnsupportedInput: Another number of codebooks, or no tokens to charge.
        CorruptInput: A code outside its codebook.
    """
    check_corpora(None, held_out)
    K = len(held_out.codebook_sizes)
    bits = [
        token_bits(model, held_out.clip(i)).sum(axis=0) if held_out.clip_rows[i] else np.zeros(K)
        for i in range(len(held_out))
    ]
    return TokenCost(name, np.stack(bits), held_out.clip_rows * K)


def bits_by_position(
    model: TokenLM, held_out: Corpus, num_frames: int, stride_frames: int, batch_size: int = 16
) -> np.ndarray:
    """Measure what a frame costs by how many frames of its past are known.

    Windows are cut from all over the clips and read from BOS, as in training. The frame at position ``n`` of a window
    is then predicted from the ``n`` before it, and since windows begin anywhere, positions differ in nothing else. The
    first window of a clip is left out: many clips begin with silence, which is cheap at whatever position.

    Args:
        model: The model; evaluated without dropout.
        held_out: Where windows are cut from; clips shorter than a window and a stride are left out.
        num_frames: Frames of a window, ``T``.
        stride_frames: Frames from one window to the next in a clip.
        batch_size: Windows at a time.

    Returns:
        Bits per token, float64 ``[clips, T]``, one row per clip that has a window, the mean over its windows.

    Raises:
        UnsupportedInput: No clip is long enough, or settings out of range.
        CorruptInput: A code outside its codebook.
    """
    windows = Windows(held_out, num_frames, stride_frames)
    clip_starts = np.cumsum(held_out.clip_rows) - held_out.clip_rows
    is_first = windows.starts == clip_starts[windows.clip_indices]
    whole = np.flatnonzero((windows.lengths == num_frames) & ~is_first)
    if len(whole) == 0:
        raise UnsupportedInput(
            f"No held-out clip has {num_frames + stride_frames} rows (the longest has "
            f"{held_out.clip_rows.max(initial=0)}); lower num_frames or stride_frames."
        )
    bits = np.concatenate(
        [
            _window_bits(model, windows.batch(whole[start : start + batch_size]))
            for start in range(0, len(whole), batch_size)
        ]
    )
    clips, members = np.unique(windows.clip_indices[whole], return_inverse=True)
    sums = np.zeros((len(clips), num_frames))
    np.add.at(sums, members, bits)
    return sums / np.bincount(members)[:, None]


def _window_bits(model: TokenLM, windows: np.ndarray) -> np.ndarray:
    """Return the mean bits per token of each frame, float64 ``[B, T]``, for windows ``[B, T, K]``."""
    codes = torch.from_numpy(checked_codes(windows, model.codebook_sizes, "A held-out window"))
    codes = codes.to(model.device)
    with evaluating(model):
        _, nats = cross_entropy_nats(model(codes), codes)
    return nats.mean(dim=-1).cpu().double().numpy() * NATS_TO_BITS


def baseline_costs(
    train: Corpus, held_out: Corpus, compressors: Sequence[str] = tuple(COMPRESSORS), mix_train: bool = False
) -> dict[str, TokenCost]:
    """Charge held-out tokens by everything that is no language model, the raw rate first.

    Counts are learned from `train`. Compressors get the held-out tokens alone, in the best of the layouts that
    `compressors.SERIALISATIONS` lists: they look back too little to use an hour of tokens. Mixing learns as it goes.

    Args:
        train: What counts are made of.
        held_out: What is charged.
        compressors: Of `codecbook.lm.baselines.compressors.COMPRESSORS`.
        mix_train: Let mixing learn from `train` first, which takes minutes for millions of tokens.

    Returns:
        By name.

    Raises:
        UnsupportedInput: Corpora of different codebooks, an unknown compressor, or nothing to charge.
    """
    costs = {"uniform": uniform(held_out)}
    for kind, smoothing in (
        ("unigram", "witten_bell"),
        ("bigram", "witten_bell"),
        ("bigram", "kneser_ney"),
        ("in_frame", "kneser_ney"),
    ):
        costs[f"{kind}, {smoothing}"] = count_model(train, held_out, kind, smoothing)
    for compressor in compressors:
        costs[compressor] = compressor_costs(held_out, compressor)[0]
    name = "context mixing" if mix_train else "context mixing, held-out clips alone"
    costs[name] = mixing_model(held_out, train if mix_train else None)
    return costs
