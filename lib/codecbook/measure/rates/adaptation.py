"""What a bias that learns within each segment (`codecbook.coding.exact.adapt`) saves, and what it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np

from codecbook.coding.exact.adapt import DEFAULT_STEP
from codecbook.coding.exact.frames import decode_many, encode_many
from codecbook.errors import CorruptInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure.statistics import Interval, ratio_interval


@dataclass(frozen=True)
class Adaptation:
    """Segments that were coded with the bias and without it.

    Attributes:
        bits_per_token: Of the payloads without it.
        saved_percent: What payloads are smaller with it, over units.
        of_units_percent: The same of each unit.
        relabelled_percent: The same where the codes have been given other labels, of which the model knows nothing and
            the bias can learn: a control.
        tokens: How many were decoded again, those with other labels included.
        mismatches: How many of these came out otherwise, or not at all.
        times: ``encode`` and ``decode``, with the bias over without, in processor time of one thread here.
    """

    bits_per_token: float
    saved_percent: Interval
    of_units_percent: dict[str, float]
    relabelled_percent: Interval
    tokens: int
    mismatches: int
    times: dict[str, float]


def adaptation(
    clips: Corpus, model: ExactLM, segment_s: float, labels: Mapping[str, tuple[str, str]], seed: int = 0
) -> Adaptation:
    """Code every segment of `segment_s` seconds with and without the bias, as it is and with other labels.

    `labels` are group and unit by clip, of `stream_costs.groups_and_units`; a clip without any is its own unit. `seed`
    draws the other labels. A corpus of codebooks that the model was not made for raises UnsupportedInput.
    """
    T = max(1, round(segment_s * clips.frame_rate_hz))
    segments, units = [], []
    for name, codes in ((name, clips.clip(i)) for i, name in enumerate(clips.clips)):
        parts = [codes[start : start + T] for start in range(0, len(codes), T)]
        segments += parts
        units += [labels.get(name, ("", name))[1]] * len(parts)
    rng = np.random.default_rng(seed)
    tables = [rng.permutation(size) for size in clips.codebook_sizes]
    relabelled = [np.stack([table[codes[:, k]] for k, table in enumerate(tables)], axis=1) for codes in segments]
    for step in (0, DEFAULT_STEP):
        _bits(model, segments[:1], step)  # compiled before anything is timed
    plain, known = _bits(model, segments, 0), _bits(model, segments, DEFAULT_STEP)
    others, learned = _bits(model, relabelled, 0), _bits(model, relabelled, DEFAULT_STEP)
    names, of = np.unique(units, return_inverse=True)
    sums = [np.bincount(of, weights=coded.bits) for coded in (plain, known, others, learned)]
    without, with_it, without_control, with_control = sums
    saved = 100 * (without - with_it)
    num_tokens = sum(codes.size for codes in segments)
    return Adaptation(
        bits_per_token=float(without.sum() / num_tokens), saved_percent=ratio_interval(saved, without),
        of_units_percent=dict(zip(names.tolist(), (saved / without).tolist(), strict=True)),
        relabelled_percent=ratio_interval(100 * (without_control - with_control), without_control),
        tokens=2 * num_tokens, mismatches=known.mismatches + learned.mismatches,
        times={"encode": known.encode_s / plain.encode_s, "decode": known.decode_s / plain.decode_s},
    )  # fmt: skip


@dataclass(frozen=True)
class _Coded:
    bits: np.ndarray  # of each payload, float64 [segments]
    mismatches: int
    encode_s: float
    decode_s: float


def _bits(model: ExactLM, segments: Sequence[np.ndarray], step: int) -> _Coded:
    began = process_time()
    payloads = [coded.payload for coded in encode_many(model, segments, step, threads=1)]
    encoded = process_time()
    decoded = decode_many(model, payloads, [len(codes) for codes in segments], step, threads=1)
    ended = process_time()
    wrong = [
        codes.size if isinstance(found, CorruptInput) else int(np.count_nonzero(found[0] != codes))
        for codes, found in zip(segments, decoded, strict=True)
    ]
    bits = np.array([8.0 * len(payload) for payload in payloads])
    return _Coded(bits, sum(wrong), encoded - began, ended - encoded)
