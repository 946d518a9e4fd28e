"""What a second of speech carries in one stream of tokens, and what it takes to find out.

Definitions after TrelisResearch/audio-bits; those that are this project's own say so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.measure.rates.study import Learned
from codecbook.measure.statistics import ratio_interval

TRAINING_FLOPS = 6
"""Floating-point operations per trunk parameter and row in training (Kaplan et al. 2020, section 2.1)."""
INFERENCE_FLOPS = 2
"""The same without a backward pass."""


def rate_of(learned: Learned, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a second of the test clips carries in a stream; `texts`, by clip name, are for bits per byte.

    Returns:
        - ``bits_per_token``: held-out cross-entropy, without label smoothing
        - ``tokens_per_s``: measured on the same clips
        - ``vocabulary_size``: ``V``, values that a token can have
        - ``bits_per_s``: ``bits_per_token * tokens_per_s``; with ``_low`` and ``_high``, the ends of its 95 %
          interval over clips, NaN with fewer than two clips
        - ``capacity_bits_per_s``: ``tokens_per_s * log2 V``
        - ``utilisation``: ``bits_per_token / log2 V``; above 1 where the model is worse than guessing
        - ``bits_per_byte``: all bits over the UTF-8 bytes of the transcripts (our definition); NaN without transcripts
        - ``container_bits``: smallest of 8, 16 and 32 bits that holds a token
        - ``information_per_storage``: ``bits_per_token / container_bits`` (our definition)
        - ``trunk_parameters``: ``N``, parameters of the layers, tables of codes left out
        - ``inference_flops_per_bit``: ``2 N`` per row over the bits of a row (our definition)
        - ``training_flops``: ``6 N`` per row that training saw
        - ``duration_s`` and ``clips`` that it was measured on

    Raises:
        UnsupportedInput: A test clip without a text, or clips without any information.
    """
    clip_bits, num_tokens = learned.level_bits.sum(axis=1), int(learned.level_tokens.sum())
    total_bits, duration_s = float(clip_bits.sum()), float(learned.durations_s.sum())
    if total_bits <= 0:
        raise UnsupportedInput(f"{len(clip_bits)} clips hold {total_bits:g} bits; give clips with some information.")
    per_token, tokens_per_s = total_bits / num_tokens, num_tokens / duration_s
    bits_per_byte = float("nan")
    if texts is not None:
        missing = [clip for clip in learned.clips if clip not in texts]
        if missing:
            raise UnsupportedInput(
                f"{len(missing)} test clips have no text, such as {missing[0]}; leave the texts out, or those clips."
            )
        num_bytes = sum(len(texts[clip].encode()) for clip in learned.clips)
        bits_per_byte = per_token * num_tokens / num_bytes if num_bytes else float("nan")
    columns, vocabulary_size = len(learned.stream.corpus.codebook_sizes), learned.stream.vocabulary_size
    capacity_bits = float(np.log2(vocabulary_size))
    container_bits = 8 * np.min_scalar_type(vocabulary_size - 1).itemsize
    return {
        "bits_per_token": per_token,
        "tokens_per_s": tokens_per_s,
        "vocabulary_size": vocabulary_size,
        **ratio_interval(clip_bits, learned.durations_s).columns("bits_per_s"),
        "capacity_bits_per_s": tokens_per_s * capacity_bits,
        "utilisation": per_token / capacity_bits,
        "bits_per_byte": bits_per_byte,
        "container_bits": container_bits,
        "information_per_storage": per_token / container_bits,
        "trunk_parameters": learned.trunk_parameters,
        "inference_flops_per_bit": INFERENCE_FLOPS * learned.trunk_parameters / (per_token * columns),
        "training_flops": TRAINING_FLOPS * float(learned.trunk_parameters) * (learned.tokens_seen / columns),
        "duration_s": duration_s,
        "clips": len(clip_bits),
    }


def apart(lower: Sequence[Mapping[str, Any]], upper: Sequence[Mapping[str, Any]]) -> tuple[bool | None, str]:
    """Say whether every stream of one kind carries fewer bits a second than every stream of another, by the intervals.

    None where a stream has no interval. The ends that decided are returned in words.
    """
    clips = min(rate["clips"] for rate in (*lower, *upper))
    if clips < 2:
        highest, lowest = max(rate["bits_per_s"] for rate in lower), min(rate["bits_per_s"] for rate in upper)
        return None, f"{highest:.0f} and {lowest:.0f} bits/s; one clip has no interval"
    top, bottom = max(rate["bits_per_s_high"] for rate in lower), min(rate["bits_per_s_low"] for rate in upper)
    return top < bottom, f"at most {top:.0f} and at least {bottom:.0f} bits/s, {clips} clips"
