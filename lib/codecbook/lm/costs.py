"""What clips cost under a language model, in the form that the baselines have: bits by clip and codebook."""

from collections.abc import Sequence

import numpy as np
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.compressors import compressor_costs
from codecbook.lm.baselines.mixing import mixing_model
from codecbook.lm.baselines.ngrams import TokenCost, check_corpora, count_model, uniform
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.score import clip_bits, evaluating
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import NATS_TO_BITS, cross_entropy_nats
from codecbook.tokens.tokens import checked_codes


def lm_cost(name: str, model: TokenLM, held_out: Corpus) -> TokenCost:
    """Charge each clip by a language model, named for tables, from its own BOS; errors as for `token_bits`."""
    check_corpora(None, held_out)
    return TokenCost(name, clip_bits(model, held_out), held_out.clip_rows * len(held_out.codebook_sizes))


def bits_by_position(
    model: TokenLM, held_out: Corpus, num_frames: int, stride_frames: int, batch_size: int = 16
) -> np.ndarray:
    """Measure what a frame costs by how many frames of its past are known: bits per token, float64 ``[clips, T]``.

    Windows of `num_frames` frames, ``T``, begin every `stride_frames` all over the clips and are read from BOS, as in
    training. The frame at position ``n`` of a window is then predicted from the ``n`` before it, and positions differ
    in nothing else. The first window of a clip is left out: many clips begin with silence, which is cheap at whatever
    position. Of each clip that has such a window, the mean over its windows is returned. Raises UnsupportedInput: no
    clip is long enough; or as `Windows` and `token_bits`.
    """
    windows = Windows(held_out, num_frames, stride_frames)
    whole = np.flatnonzero((windows.lengths == num_frames) & (windows.starts > 0))
    if len(whole) == 0:
        raise UnsupportedInput(f"No clip has {num_frames + stride_frames} rows; lower num_frames or stride_frames.")
    bits = np.empty((len(whole), num_frames))
    for start in range(0, len(whole), batch_size):
        batch = slice(start, start + batch_size)
        codes = checked_codes(windows.batch(whole[batch]), model.codebook_sizes, "A held-out window")
        frames = torch.from_numpy(codes).to(model.device)
        with evaluating(model):
            _, nats = cross_entropy_nats(model(frames), frames)
        bits[batch] = nats.mean(dim=-1).cpu().double().numpy() * NATS_TO_BITS
    clips, members = np.unique(windows.clip_indices[whole], return_inverse=True)
    sums = np.zeros((len(clips), num_frames))
    np.add.at(sums, members, bits)
    return sums / np.bincount(members)[:, None]


def baseline_costs(
    train: Corpus, held_out: Corpus, compressors: Sequence[str], mix_train: bool = False
) -> dict[str, TokenCost]:
    """Charge held-out tokens by everything that is no language model, the raw rate first; return costs by name.

    Counts are learned from `train`. Compressors, of `compressors.COMPRESSORS`, get the held-out tokens alone, in the
    best of the layouts that `compressors.serialisations` makes: they look back too little to use an hour of tokens.
    Mixing learns as it goes, with `mix_train` from `train` first, which takes minutes for millions of tokens. Errors
    are those of `count_model` and `compressor_costs`.
    """
    costs = [
        uniform(held_out),
        count_model(train, held_out, "unigram", "witten_bell"),
        count_model(train, held_out, "bigram", "witten_bell"),
        count_model(train, held_out, "bigram", "kneser_ney"),
        count_model(train, held_out, "in_frame", "kneser_ney"),
    ]
    named = {cost.name: cost for cost in costs}
    named |= {compressor: compressor_costs(held_out, compressor)[0] for compressor in compressors}
    name = "context mixing" if mix_train else "context mixing, held-out clips alone"
    return named | {name: mixing_model(held_out, train if mix_train else None)}
