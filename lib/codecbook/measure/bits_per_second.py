"""`StreamRate`: what a second of speech carries in one stream of tokens, and what it takes to find out.

Definitions after TrelisResearch/audio-bits; those that are this project's own say so. `published` gives the figures
of that study, for comparison with ours and never among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.measure.information import information_rate
from codecbook.measure.statistics import Interval, bootstrap_interval

TRAINING_FLOPS = 6
"""Floating-point operations per trunk parameter and row in training (Kaplan et al. 2020, section 2.1)."""
INFERENCE_FLOPS = 2
"""The same without a backward pass."""


@dataclass(frozen=True)
class StreamRate:
    """One stream, by one model.

    Attributes:
        bits_per_token: Held-out cross-entropy, without label smoothing.
        tokens_per_s: Measured on the same clips.
        vocabulary_size: ``V``: values that a token can have.
        bits_per_s: ``bits_per_token * tokens_per_s``.
        bits_per_s_low: Lower end of its 95 % bootstrap interval over clips; NaN with fewer than two clips.
        bits_per_s_high: Upper end.
        capacity_bits_per_s: ``tokens_per_s * log2 V``.
        utilisation: ``bits_per_token / log2 V``.
        bits_per_byte: All bits over the UTF-8 bytes of the transcripts (our definition); NaN without transcripts.
        container_bits: Smallest of 8, 16 and 32 bits that holds a token.
        information_per_storage: ``bits_per_token / container_bits`` (our definition).
        trunk_parameters: ``N``: parameters of the layers, tables of codes left out.
        inference_flops_per_bit: ``2 N`` per row over the bits of a row (our definition).
        training_flops: ``6 N`` per row that training saw.
        duration_s: Speech that this was measured on.
        clips: Clips that it was measured on.
    """

    bits_per_token: float  # bit/token
    tokens_per_s: float  # token/s
    vocabulary_size: int  # values
    bits_per_s: float  # bit/s
    bits_per_s_low: float  # bit/s
    bits_per_s_high: float  # bit/s
    capacity_bits_per_s: float  # bit/s
    utilisation: float  # 0 to 1; above 1 where the model is worse than guessing
    bits_per_byte: float  # bit/byte
    container_bits: int  # bit
    information_per_storage: float  # 0 to 1
    trunk_parameters: int  # numbers
    inference_flops_per_bit: float  # FLOP/bit
    training_flops: float  # FLOP
    duration_s: float  # s
    clips: int  # clips


def stream_rate(
    clip_bits: Sequence[float] | np.ndarray,
    clip_tokens: Sequence[int] | np.ndarray,
    clip_durations_s: Sequence[float] | np.ndarray,
    vocabulary_size: int,
    trunk_parameters: int,
    rows_seen: float,
    tokens_per_row: int = 1,
    transcript_bytes: int | None = None,
    seed: int = 0,
) -> StreamRate:
    """Turn the bits that held-out clips cost into the quantities of `StreamRate`.

    Args:
        clip_bits: Bits of each clip under the model.
        clip_tokens: Tokens of each clip.
        clip_durations_s: Duration of each clip.
        vocabulary_size: ``V``.
        trunk_parameters: ``N``.
        rows_seen: Rows that training saw, repetitions counted.
        tokens_per_row: Tokens that the trunk reads at once.
        transcript_bytes: UTF-8 bytes of what is said in these clips; None without transcripts.
        seed: Of the bootstrap.

    Raises:
        UnsupportedInput: Lengths that differ, no clips, or a value outside its range.
    """
    bits, tokens = np.asarray(clip_bits, dtype=np.float64), np.asarray(clip_tokens)
    durations = np.asarray(clip_durations_s, dtype=np.float64)
    if not len(bits) == len(tokens) == len(durations) or bits.sum() <= 0:
        raise UnsupportedInput(
            f"{len(bits)} clips' bits (in all {bits.sum():g}), {len(tokens)} token counts and {len(durations)} "
            "durations; give one of each per clip, with some information in them."
        )
    per_token = float(bits.sum() / tokens.sum())
    rate = information_rate(
        per_token, int(tokens.sum()), float(durations.sum()), vocabulary_size, transcript_bytes
    )
    interval = ratio_interval(bits, durations, seed=seed)
    container = container_bits(vocabulary_size)
    return StreamRate(
        bits_per_token=per_token,
        tokens_per_s=rate.tokens_per_s,
        vocabulary_size=vocabulary_size,
        bits_per_s=rate.bits_per_s,
        bits_per_s_low=interval.low,
        bits_per_s_high=interval.high,
        capacity_bits_per_s=rate.capacity_bits_per_s,
        utilisation=rate.utilisation,
        bits_per_byte=float("nan") if rate.bits_per_byte is None else rate.bits_per_byte,
        container_bits=container,
        information_per_storage=per_token / container,
        trunk_parameters=trunk_parameters,
        inference_flops_per_bit=INFERENCE_FLOPS * trunk_parameters / (per_token * tokens_per_row),
        training_flops=TRAINING_FLOPS * float(trunk_parameters) * rows_seen,
        duration_s=float(durations.sum()),
        clips=len(bits),
    )


def ratio_interval(
    numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray, seed: int = 0
) -> Interval:
    """Return the ratio of two sums over clips, with a bootstrap interval over clips.

    A ratio of sums weighs long clips by their length, as a rate over all speech has to; the mean of the clips' own
    ratios would not. Its linearisation is a mean, ``R + (a_i - R b_i) / mean(b)``, and that is what is resampled
    (Cochran, Sampling Techniques, 1977, section 2.11; the error is of the order 1/n).

    Raises:
        UnsupportedInput: Lengths that differ, or denominators that are not positive.
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(a) != len(b) or len(b) == 0 or not (b > 0).all():
        raise UnsupportedInput(
            f"{len(a)} numerators and {len(b)} denominators; give one positive denominator for each."
        )
    ratio = a.sum() / b.sum()
    return bootstrap_interval(ratio + (a - ratio * b) / b.mean(), seed=seed)


def container_bits(vocabulary_size: int) -> int:
    """Return the width of the smallest unsigned integer that holds a token: 8, 16 or 32 bits.

    Example:
        >>> container_bits(256), container_bits(1024), container_bits(65_537)
        (8, 16, 32)
    """
    return next(width for width in (8, 16, 32, 64) if vocabulary_size <= 1 << width)


@dataclass(frozen=True)
class PublishedRate:
    """A row of a published study; numbers as they were printed there, rounded.

    Attributes:
        source: Which study, and what it was trained on.
        stream: What the tokens are.
        vocabulary_size: ``V``.
        bits_per_token: Held-out cross-entropy.
        tokens_per_s: Measured.
        bits_per_s: Information.
        capacity_bits_per_s: Capacity.
        utilisation: Their ratio.
        train_tokens: Tokens seen in training.
        training_flops: ``6 N`` per token.
    """

    source: str
    stream: str
    vocabulary_size: int  # values
    bits_per_token: float  # bit/token
    tokens_per_s: float  # token/s
    bits_per_s: float  # bit/s
    capacity_bits_per_s: float  # bit/s
    utilisation: float  # 0 to 1
    train_tokens: float  # tokens
    training_flops: float  # FLOP


_V1 = "audio-bits v1, Emilia-YODAS, 20,000 h"
_V2 = "audio-bits v2, LibriTTS-R, 538 h"
_PUBLISHED = (
    PublishedRate(_V1, "text BPE (GPT-2)", 50_257, 6.14, 3.58, 22, 56, 0.39, 257e6, 29e15),
    PublishedRate(_V1, "NeuCodec", 65_536, 10.17, 50.0, 508, 800, 0.64, 3_591e6, 407e15),
    PublishedRate(_V2, "text BPE (GPT-2)", 50_257, 7.55, 4.02, 30, 63, 0.48, 7.8e6, 0.9e15),
    PublishedRate(_V2, "Mimi, semantic codebook", 2_048, 4.93, 12.5, 62, 138, 0.45, 24e6, 2.7e15),
    PublishedRate(_V2, "Mimi x8, flat", 16_384, 6.45, 100.0, 645, 1_400, 0.46, 194e6, 22e15),
    PublishedRate(_V2, "SNAC, Orpheus flat", 12_288, 7.80, 84.0, 653, 1_138, 0.57, 162e6, 18e15),
)


def published() -> tuple[PublishedRate, ...]:
    """Return the rows of TrelisResearch/audio-bits, versions 1 and 2: a GPT of 18,881,024 trunk parameters each."""
    return _PUBLISHED
