"""Bits per token of clips, by any model, in memory that does not grow with their length."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.models import TinyGPT
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.objective import NATS_TO_BITS, cross_entropy_nats
from codecbook.tokens.checks import checked_codes

_CHUNK_FRAMES = 512


@dataclass(frozen=True)
class Score:
    """What held-out tokens cost.

    Attributes:
        bits_per_token: Mean over all tokens.
        bits_per_codebook: Mean per codebook, ``K`` numbers.
        num_tokens: Tokens scored.
    """

    bits_per_token: float
    bits_per_codebook: tuple[float, ...]
    num_tokens: int


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


def token_bits(model: TokenLM, codes: np.ndarray, chunk_frames: int = _CHUNK_FRAMES) -> np.ndarray:
    """Return the information of every token of a clip under a model, without label smoothing.

    An `RVQTransformer` reads a clip of any length in chunks, which changes nothing (its window moves along). A
    `TinyGPT` has a fixed context: longer streams are cut into sequences of that many tokens, each from BOS.

    Args:
        model: The model; evaluated without dropout.
        codes: Integers ``[T, K]``.
        chunk_frames: Frames at a time.

    Returns:
        float64 ``[T, K]``, bits.

    Raises:
        UnsupportedInput: Another number of codebooks, or no frames.
        CorruptInput: A code outside its codebook.
    """
    codes = checked_codes(codes, model.codebook_sizes, "The clip")
    if codes.ndim != 2 or len(codes) == 0:
        raise UnsupportedInput(f"A clip's codes have the axes [T, K], T >= 1; received {list(codes.shape)}.")
    stretch = model.config.context if isinstance(model, TinyGPT) else len(codes)
    with evaluating(model):
        parts = [
            _stretch_bits(model, codes[start : start + stretch], chunk_frames)
            for start in range(0, len(codes), stretch)
        ]
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


def clip_bits(model: TokenLM, clips: Corpus, indices: Iterable[int]) -> tuple[np.ndarray, int]:
    """Return (bits of all tokens per codebook, float64 ``[K]``; number of frames) of some of the clips."""
    total, num_frames = np.zeros(model.num_codebooks), 0
    for index in indices:
        bits = token_bits(model, clips.clip(index))
        total += bits.sum(axis=0)
        num_frames += len(bits)
    return total, num_frames


def score_from(total_bits: np.ndarray, num_frames: int) -> Score:
    """Return the score that sums of bits per codebook, ``[K]``, over a number of frames come to."""
    per_codebook = total_bits / num_frames
    return Score(
        float(per_codebook.mean()), tuple(float(bits) for bits in per_codebook), num_frames * len(per_codebook)
    )
