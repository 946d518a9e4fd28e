"""What a second of speech carries in one stream of tokens, what it takes to find out, and what may be claimed of it.

Definitions after TrelisResearch/audio-bits; those that are this project's own say so.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from codecbook.errors import UnsupportedInput
from codecbook.lm.training.options import Evaluation
from codecbook.measure.rates.study import COUNTS, MODEL, Learned
from codecbook.measure.statistics import LEVEL, Interval, ratio_interval

TRAINING_FLOPS = 6
"""Floating-point operations per parameter and row in training (Kaplan et al. 2020, section 2.1)."""
INFERENCE_FLOPS = 2
"""The same without a backward pass."""


def rate_of(learned: Learned, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a second of the test clips carries in a stream; `texts`, by clip name, are for bits per byte.

    Returns:
        - ``code``: what takes the fewest bits, level by level (`Learned.shortest`)
        - ``bits_per_token``: by that code; ``model_bits_per_token``: held-out cross-entropy of the model
        - ``tokens_per_s``: measured on the same clips
        - ``bits_per_s``: ``bits_per_token * tokens_per_s``; with ``_low`` and ``_high``, the ends of its 95 % bootstrap
          interval over clips, NaN with fewer than two clips
        - ``capacity_bits_per_s``: the same of the raw codes, ``log2 V`` of each token's own level
        - ``utilisation``: ``bits_per_s / capacity_bits_per_s``, never above 1
        - ``bits_per_byte``: all bits over the UTF-8 bytes of the transcripts (our definition); NaN without transcripts
        - ``container_bits``: smallest of 8, 16 and 32 bits that holds a token
        - ``information_per_storage``: ``bits_per_token / container_bits`` (our definition)
        - ``trunk_parameters``: ``N``, parameters of the layers, tables of codes left out
        - ``inference_flops_per_bit``: 2 per row and parameter, those of networks that run once a code as often as they
          run (`study.row_parameters`), over the model's bits of a row (our definition)
        - ``training_flops``: 6 per row that training saw and parameter, likewise
        - ``duration_s`` and ``clips`` that it was measured on

    Raises:
        UnsupportedInput: A test clip without a text, or clips without any information.
    """
    bits, num_tokens = learned.shortest_bits, int(learned.level_tokens.sum())
    total_bits, duration_s = float(bits.sum()), float(learned.durations_s.sum())
    if total_bits <= 0:
        raise UnsupportedInput(f"{len(bits)} clips hold {total_bits:g} bits; give clips with some information.")
    bits_per_byte = float("nan")
    if texts is not None:
        missing = [clip for clip in learned.clips if clip not in texts]
        if missing:
            raise UnsupportedInput(f"{len(missing)} test clips have no text, as {missing[0]}; leave these clips out.")
        num_bytes = sum(len(texts[clip].encode()) for clip in learned.clips)
        bits_per_byte = total_bits / num_bytes if num_bytes else float("nan")
    columns = len(learned.stream.corpus.codebook_sizes)
    container_bits = 8 * np.min_scalar_type(max(learned.stream.level_sizes) - 1).itemsize
    per_token, raw_bits = total_bits / num_tokens, learned.raw_level_bits.sum()
    model_bits_per_row = learned.bits_per_token(MODEL) * columns
    return {
        "code": ", ".join(dict.fromkeys(learned.shortest)),
        "bits_per_token": per_token,
        "model_bits_per_token": learned.bits_per_token(MODEL),
        "tokens_per_s": num_tokens / duration_s,
        **ratio_interval(bits.sum(axis=1), learned.durations_s).columns("bits_per_s"),
        "capacity_bits_per_s": float(raw_bits / duration_s),
        "utilisation": float(total_bits / raw_bits),
        "bits_per_byte": bits_per_byte,
        "container_bits": container_bits,
        "information_per_storage": per_token / container_bits,
        "trunk_parameters": learned.trunk_parameters,
        "inference_flops_per_bit": INFERENCE_FLOPS * learned.row_parameters / model_bits_per_row,
        "training_flops": TRAINING_FLOPS * float(learned.row_parameters) * (learned.tokens_seen / columns),
        "duration_s": duration_s,
        "clips": len(bits),
    }


def utilisation(learned: Learned) -> Interval:
    """Return the share of the raw bits that the shortest code takes, over the test clips."""
    return ratio_interval(learned.shortest_bits.sum(axis=1), learned.raw_level_bits.sum(axis=1))


def saved(shorter: Learned, longer: Learned, codes: tuple[str, str] = (MODEL, MODEL)) -> Interval:
    """Return how many bits per token one code saves over another (1 - ratio would be a share), clip by clip.

    Raises:
        UnsupportedInput: Readings of other clips, or of other tokens of them.
    """
    if shorter.clips != longer.clips or not np.array_equal(shorter.level_tokens, longer.level_tokens):
        raise UnsupportedInput(f"{shorter.stream.key} and {longer.stream.key} are of other clips; compare the same.")
    bits = [found.level_bits[code].sum(axis=1) for found, code in zip((shorter, longer), codes, strict=True)]
    return ratio_interval(bits[1] - bits[0], shorter.level_tokens.sum(axis=1))


def model_over_counts(learned: Learned) -> Interval:
    """Return how many bits per token the model saves over Kneser-Ney pairs."""
    return saved(learned, learned, (MODEL, COUNTS))


def least_below_raw(learned: Learned) -> Interval:
    """Return how many bits per token the shortest code saves over the raw ones, of the level where it saves least.

    A level's raw code is ``log2 V`` of its own size, whatever the vocabulary of the stream.
    """
    raw, bits, tokens = learned.raw_level_bits, learned.shortest_bits, learned.level_tokens
    levels = [ratio_interval(raw[:, k] - bits[:, k], tokens[:, k]) for k in range(bits.shape[1])]
    return min(levels, key=lambda interval: interval.mean)


def level_rise(learned: Learned) -> Interval:
    """Return by how many bits per token a level costs more than the one before, at the step where it rises least."""
    per_token = [
        learned.shortest_bits[:, k] / np.maximum(learned.level_tokens[:, k], 1) for k in range(learned.num_levels)
    ]
    weights = learned.durations_s
    steps = [ratio_interval((b - a) * weights, weights) for a, b in itertools.pairwise(per_token)]
    if not steps:
        raise UnsupportedInput(f"{learned.stream.key} has one level; give a stream with several.")
    return min(steps, key=lambda interval: interval.mean)


def orders_differ(readings: Sequence[Learned]) -> Interval:
    """Return the largest difference of two models of the same codes in different orders, as a share of the smaller."""
    shortest = min(readings, key=lambda found: found.bits_per_token(MODEL))
    base = shortest.level_bits[MODEL].sum(axis=1)
    differences = [
        ratio_interval(found.level_bits[MODEL].sum(axis=1) - base, base) for found in readings if found is not shortest
    ]
    return max(differences, key=lambda interval: interval.mean)


def still_falling(evaluations: Sequence[Evaluation], last: float = 0.2) -> float:
    """Return by what share the validation clips' bits fell over the last part of training; 0 where they rose."""
    lowest = min(look.bits_per_token for look in evaluations)
    before = [look.bits_per_token for look in evaluations if look.progress <= 1 - last + 1e-9]
    return max(0.0, 1 - lowest / min(before)) if before else float("nan")


def floor_of(shares: Sequence[float], clip_bits: np.ndarray, durations_s: np.ndarray) -> Interval:
    """Extrapolate bits per second to unlimited training data: F of ``F + A d^-b``, fitted to shares d of the data.

    Args:
        shares: Of the training data, one per model, at least four.
        clip_bits: float64 ``[models, clips]``.
        durations_s: float64 ``[clips]``.

    The interval is from resampled clips alone, and does not cover another form of the curve.
    """
    if len(shares) < 4:
        raise UnsupportedInput(f"{len(shares)} models do not fix a curve of three numbers; give four or more.")
    logs = np.log(np.asarray(shares))
    exponents = np.linspace(0.05, 1.5, 60)

    def fit(bits_per_s: np.ndarray) -> float:
        def of(exponent: float) -> tuple[float, float]:
            design = np.stack([np.ones(len(logs)), np.exp(-exponent * logs)], axis=1)
            found, rest = scipy.optimize.nnls(design, bits_per_s)
            return float(rest), float(found[0])

        return min(map(of, exponents))[1]

    counts = np.random.default_rng(0).multinomial(
        len(durations_s), np.full(len(durations_s), 1 / len(durations_s)), 200
    )
    floors = [fit(clip_bits @ count / (durations_s @ count)) for count in counts]
    low, high = np.quantile(floors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(fit(clip_bits.sum(axis=1) / durations_s.sum()), float(low), float(high), len(durations_s))


def fuller(lower: Sequence[Learned], upper: Sequence[Learned]) -> tuple[bool | None, str]:
    """Say whether all of some streams take a smaller share of their raw bits than all of others, by the intervals.

    None where a stream has no interval. The ends that decided are returned in words.
    """
    below, above = ([utilisation(found) for found in side] for side in (lower, upper))
    top, bottom = max(each.high for each in below), min(each.low for each in above)
    if not all(each.defined for each in (*below, *above)):
        return None, "one clip has no interval"
    return top < bottom, f"at most {100 * top:.1f} and at least {100 * bottom:.1f} %"
