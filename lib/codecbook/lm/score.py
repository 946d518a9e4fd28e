"""Bits per token of clips, by any model, in memory that does not grow with their length."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import TinyGPT
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import NATS_TO_BITS, cross_entropy_nats
from codecbook.tokens.tokens import checked_codes


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradients inside the block, and back to the mode before."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def token_bits(model: TokenLM, codes: np.ndarray, chunk_frames: int = 512) -> np.ndarray:
    """Return the information of every token of a clip, integers ``[T, K]``, in bits, float64 ``[T, K]``.

    The model is evaluated without dropout, and without label smoothing. An `RVQTransformer` reads a clip of any length
    in chunks, which changes nothing (its window moves along). A `TinyGPT` has a fixed context, and reads a longer
    stream in sequences of that many tokens, each from BOS: all but the first begin with half a context of tokens
    that the sequence before has charged. Another number of codebooks, or no frames, raises UnsupportedInput, a code
    outside its codebook CorruptInput.
    """
    codes = checked_codes(codes, model.codebook_sizes, "The clip")
    if codes.ndim != 2 or len(codes) == 0:
        raise UnsupportedInput(f"A clip's codes have the axes [T, K], T >= 1; received {list(codes.shape)}.")
    with evaluating(model):
        if not isinstance(model, TinyGPT):
            return _stretch_bits(model, codes, chunk_frames)
        P = len(model.config.places)
        context = model.config.context // P * P  # sequences begin at the first place of a frame
        known = context // 2 // P * P
        parts = [_stretch_bits(model, codes[:context], chunk_frames)]
        for start in range(context - known, len(codes) - known, context - known):
            parts.append(_stretch_bits(model, codes[start : start + context], chunk_frames)[known:])
    return np.concatenate(parts)


def _stretch_bits(model: TokenLM, codes: np.ndarray, chunk_frames: int) -> np.ndarray:
    frames = torch.from_numpy(np.array(codes)).to(model.device)[None]
    hidden, state = model.begin()
    bits = []
    for start in range(0, len(codes), chunk_frames):
        chunk = frames[:, start : start + chunk_frames]
        # the last frame of all predicts nothing here, and would lie beyond a full context
        is_last = start + chunk_frames >= len(codes)
        inputs = chunk[:, :-1] if is_last else chunk
        if inputs.shape[1]:
            after, state = model.read(inputs, state)
            hidden = torch.cat((hidden, after), dim=1)
        _, nats = cross_entropy_nats(model.heads(hidden[:, : chunk.shape[1]], chunk), chunk)
        bits.append(nats[0].cpu().double().numpy() * NATS_TO_BITS)
        hidden = hidden[:, chunk.shape[1] :]
    return np.concatenate(bits)


def clip_bits(model: TokenLM, clips: Corpus, indices: Sequence[int] | None = None) -> np.ndarray:
    """Return the bits by codebook of some of the clips, or of all, float64 ``[clips, K]``."""
    indices = range(len(clips)) if indices is None else indices
    bits = np.zeros((len(indices), model.num_codebooks))
    for place, index in enumerate(indices):
        if clips.clip_rows[index]:
            bits[place] = token_bits(model, clips.clip(index)).sum(axis=0)
    return bits
