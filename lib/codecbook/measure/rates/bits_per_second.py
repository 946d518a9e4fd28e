"""`StreamRate`: what a second of speech carries in one stream of tokens, and what it takes to find out.

Definitions after TrelisResearch/audio-bits; those that are this project's own say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import ratio_interval

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
    per_token, tokens_per_s = float(bits.sum() / tokens.sum()), int(tokens.sum()) / float(durations.sum())
    capacity_bits = float(np.log2(vocabulary_size))
    interval = ratio_interval(bits, durations, seed=seed)
    container = container_bits(vocabulary_size)
    return StreamRate(
        bits_per_token=per_token,
        tokens_per_s=tokens_per_s,
        vocabulary_size=vocabulary_size,
        bits_per_s=per_token * tokens_per_s,
        bits_per_s_low=interval.low,
        bits_per_s_high=interval.high,
        capacity_bits_per_s=tokens_per_s * capacity_bits,
        utilisation=per_token / capacity_bits,
        bits_per_byte=per_token * int(tokens.sum()) / transcript_bytes if transcript_bytes else float("nan"),
        container_bits=container,
        information_per_storage=per_token / container,
        trunk_parameters=trunk_parameters,
        inference_flops_per_bit=INFERENCE_FLOPS * trunk_parameters / (per_token * tokens_per_row),
        training_flops=TRAINING_FLOPS * float(trunk_parameters) * rows_seen,
        duration_s=float(durations.sum()),
        clips=len(bits),
    )


def apart(lower: Sequence[StreamRate], upper: Sequence[StreamRate]) -> tuple[bool | None, str]:
    """Say whether every stream of one kind carries fewer bits a second than every stream of another, by the intervals.

    Args:
        lower: Of the kind that should carry fewer, one at least.
        upper: Of the other, one at least.

    Returns:
        Whether no interval of the first reaches one of the second, None where a stream has no interval; and the ends
        that decided, in words.
    """
    highest = max(lower, key=lambda rate: rate.bits_per_s)
    lowest = min(upper, key=lambda rate: rate.bits_per_s)
    clips = min(rate.clips for rate in (*lower, *upper))
    if clips < 2:
        return None, f"{highest.bits_per_s:.0f} and {lowest.bits_per_s:.0f} bits/s; one clip has no interval"
    top, bottom = max(rate.bits_per_s_high for rate in lower), min(rate.bits_per_s_low for rate in upper)
    return top < bottom, f"at most {top:.0f} and at least {bottom:.0f} bits/s, {clips} clips"


def container_bits(vocabulary_size: int) -> int:
    """Return the width of the smallest unsigned integer that holds a token: 8, 16 or 32 bits.

    Example:
        >>> container_bits(256), container_bits(1024), container_bits(65_537)
        (8, 16, 32)
    """
    return next(width for width in (8, 16, 32, 64) if vocabulary_size <= 1 << width)
