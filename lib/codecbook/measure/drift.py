"""How far tokens and audio drift: coded again, moved by a sample, under faint noise, in chunks and batches; delay.

What a codec's users find out late: tokens of a decoded clip are not those that it was decoded from, and a change that
nobody hears changes many of them. All shares are of codes, over all codebooks unless said otherwise, at the codec's
default bandwidth. Beside them two yardsticks: PCM of a few bits, and the Bjøntegaard difference of rates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy

from codecbook.audio import Clip, rms
from codecbook.codecs.base import Codec
from codecbook.codecs.networks import NetworkCodec
from codecbook.errors import UnsupportedInput
from codecbook.measure.quality import check_pair, log_mel_8khz_distance_db, misalignment_note, si_sdr_db
from codecbook.measure.statistics import Interval, mean_interval
from codecbook.measure.survey import typical
from codecbook.tokens.tokens import Tokens

_LEAST_POINTS = 3


def changed_share(first: Tokens, second: Tokens, codebooks: slice = slice(None)) -> float:
    """Return the share of codes that differ between two clips' tokens, over what both have of each codebook."""
    pairs = list(zip(first.codes[codebooks], second.codes[codebooks], strict=True))
    lengths = [min(len(a), len(b)) for a, b in pairs]
    changed = sum(int(np.count_nonzero(a[:n] != b[:n])) for (a, b), n in zip(pairs, lengths, strict=True))
    return changed / sum(lengths)


def recoded(codec: Codec, clip: Clip, times: Sequence[int]) -> list[dict[str, Any]]:
    """Decode a clip, encode that, decode it again, and so on; return a row after each of several numbers of times.

    A perfectly idempotent codec keeps all its tokens. 0 times is the first encoding. Columns: ``times``,
    ``kept_share`` and ``first_codebook_kept_share`` (codes equal to those of the original), ``si_sdr_db`` and
    ``log_mel_distance_db`` (below 8 kHz) of the audio against the original.

    Source: O'Reilly et al., Code drift: towards idempotent neural audio codecs, 2024 (arXiv 2410.11025).
    """
    kbps, rows = codec.default_bandwidth_kbps, []
    first, heard = None, clip
    for number in range(max(times) + 1):
        tokens = codec.encode(heard, kbps)
        first, heard = first or tokens, codec.decode(tokens)
        if number in times:
            rows.append(
                {"times": number, "kept_share": 1 - changed_share(first, tokens),
                 "first_codebook_kept_share": 1 - changed_share(first, tokens, slice(1)),
                 "si_sdr_db": si_sdr_db(clip, heard), "log_mel_distance_db": log_mel_8khz_distance_db(clip, heard)}
            )  # fmt: skip
    return rows


def stability(codec: Codec, clip: Clip, noise_db: float = -60.0, seed: int = 0) -> dict[str, float]:
    """Return what share of codes changes with changes of a clip that nobody hears.

    ``shift_changed_share``: the clip comes one sample later. ``noise_changed_share``: white noise of `noise_db`,
    relative to the clip's own level, is added. ``chunk_changed_share``: chunks of a second against the whole clip at
    once; NaN for a codec without chunks.
    """
    kbps = codec.default_bandwidth_kbps
    tokens = codec.encode(clip, kbps)
    late = np.pad(clip.samples, ((0, 0), (1, 0)))[:, :-1]
    noise = np.random.default_rng(seed).standard_normal(clip.samples.shape) * rms(clip) * 10 ** (noise_db / 20)
    changed = {
        "shift": codec.encode(replace(clip, samples=late), kbps),
        "noise": codec.encode(replace(clip, samples=clip.samples + noise.astype(np.float32)), kbps),
    }
    shares = {f"{name}_changed_share": changed_share(tokens, other) for name, other in changed.items()}
    if not np.isfinite(codec.chunk_s):
        return {**shares, "chunk_changed_share": float("nan")}
    pieces, whole = (codec.encode(clip, kbps, chunk_s=s) for s in (1.0, clip.duration_s + 1))
    return {**shares, "chunk_changed_share": changed_share(pieces, whole)}


def batch_changes(codec: Codec, clips: Sequence[Clip], duration_s: float = 1.0) -> list[float]:
    """Return for each clip what share of its codes changes if the network encodes it in a batch with all the others.

    Of clips of `duration_s` and more, their first so many seconds, with all codebooks; empty where there are not two
    of these, or the codec has no network.
    """
    length = round(duration_s * codec.sample_rate_hz)
    waves = [clip.samples[:, :length] for clip in clips if clip.num_samples >= length]
    if len(waves) < 2 or not isinstance(codec, NetworkCodec):
        return []
    shares = []
    for number, wave in enumerate(waves):
        alone = codec.encode_beside(wave[None])
        beside = codec.encode_beside(np.stack([wave, *waves[:number], *waves[number + 1 :]]))
        changed = sum(int(np.count_nonzero(a != b)) for a, b in zip(alone, beside, strict=True))
        shares.append(changed / sum(map(len, alone)))
    return shares


def delay(reference: Clip, estimate: Clip) -> dict[str, float]:
    """Return ``lag_samples`` (late above 0), and the SI-SDR as it is and with the estimate moved by that lag.

    The lag is that of the cross-correlation's peak, see `codecbook.measure.quality.misalignment_note`.
    """
    lag, _ = misalignment_note(*check_pair(reference, estimate), reference.sample_rate_hz)
    length = min(reference.num_samples, estimate.num_samples) - abs(lag)
    wanted = replace(reference, samples=reference.samples[:, max(0, -lag) :][:, :length])
    moved = replace(estimate, samples=estimate.samples[:, max(0, lag) :][:, :length])
    return {
        "lag_samples": lag, "si_sdr_db": si_sdr_db(reference, estimate), "aligned_si_sdr_db": si_sdr_db(wanted, moved),
    }  # fmt: skip


def pcm(clip: Clip, bits: int) -> Clip:
    """Return a clip in uniform PCM of so many bits a sample, 1 or more, whose full scale is the clip's peak."""
    if bits < 1 or clip.peak == 0:
        raise UnsupportedInput(f"PCM of {bits} bits of a clip whose peak is {clip.peak:g}; give 1 or more, and sound.")
    step = 2 * clip.peak / 2**bits
    level = np.clip(np.floor(clip.samples / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return replace(clip, samples=((level + 0.5) * step).astype(np.float32))


@dataclass(frozen=True)
class BdRate:
    """A Bjøntegaard difference of rates; see `bd_rate`."""

    log_ratio: float  # natural logarithm of rate over the reference's rate; NaN where there is none
    overlap: float  # of the two ranges of quality, as a share of the narrower one; NaN without ranges
    note: str = ""  # why there is none


def bd_rate(
    reference: tuple[Sequence[float], Sequence[float]],
    other: tuple[Sequence[float], Sequence[float]],
    least_overlap: float = 0.25,
) -> BdRate:
    """Return how much more rate a codec takes than another for equal quality, on average over the common range.

    Both curves are (rates above 0, qualities, higher being better); the logarithm of the rate is interpolated over
    quality by PCHIP, which neither overshoots nor needs a number of points. Points that cost more than another and are
    no better are left out.

    There is none with fewer than three points, or where less than `least_overlap` of the narrower range is common:
    what is compared then is an extrapolation, or a corner.

    Source: Bjøntegaard, VCEG-M33, 2001; PCHIP as in ITU-T HSTP-VID-WPOM, 2020.
    """
    curves = []
    for role, points in (("reference", reference), ("other", other)):
        kept = _rising(*points)
        if len(kept) < _LEAST_POINTS:
            return BdRate(np.nan, np.nan, f"the {role} curve has {len(kept)} rising point(s), of {_LEAST_POINTS}")
        curves.append(kept)
    low = max(kept[0, 1] for kept in curves)
    high = min(kept[-1, 1] for kept in curves)
    overlap = max(0.0, high - low) / min(kept[-1, 1] - kept[0, 1] for kept in curves)
    if overlap < least_overlap:
        return BdRate(np.nan, overlap, f"{100 * overlap:.0f} % of the narrower range of quality is common")
    interpolate = scipy.interpolate.PchipInterpolator
    areas = [interpolate(kept[:, 1], np.log(kept[:, 0])).integrate(low, high) for kept in curves]
    return BdRate(float((areas[1] - areas[0]) / (high - low)), overlap)


def _rising(rates: Sequence[float], qualities: Sequence[float]) -> np.ndarray:
    """Return the points, float64 ``[N, 2]``, that are better than all that cost no more, cheapest first."""
    points = np.array(sorted(zip(rates, qualities, strict=True)), dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1) & (points[:, 0] > 0)]
    best = np.maximum.accumulate(points[:, 1]) if len(points) else points[:, 1]
    return points[np.append(True, best[1:] > best[:-1])[: len(points)]]


def bd_rates(table: pd.DataFrame, reference: str, measure: str, sign: int = 1) -> pd.DataFrame:
    """Return `BdRate` of every codec and clip of a table against one codec of it: ``codec``, ``clip`` and its fields.

    The table has columns ``codec``, ``clip``, ``kbps`` and the measure, of which `sign` -1 says that less is better.
    """
    if reference not in set(table["codec"]):
        raise UnsupportedInput(
            f"The reference {reference!r} is none of {', '.join(map(str, table['codec'].unique()))}."
        )
    curves: dict[Any, Any] = {
        key: (part["kbps"].tolist(), (sign * part[measure]).tolist()) for key, part in table.groupby(["codec", "clip"])
    }
    rows = []
    for (codec, clip), curve in curves.items():
        if codec != reference and (reference, clip) in curves:
            rows.append({"codec": codec, "clip": clip, **vars(bd_rate(curves[reference, clip], curve))})
    return pd.DataFrame(rows, columns=["codec", "clip", "log_ratio", "overlap", "note"])


def percent_interval(log_ratios: Iterable[float]) -> Interval:
    """Return the mean of logarithms of ratios over clips with its interval, as per cent above 1."""
    found = mean_interval(np.asarray(list(log_ratios), dtype=np.float64))
    ends = {name: 100 * float(np.expm1(getattr(found, name))) for name in ("mean", "low", "high")}
    return replace(found, **ends)


def passport(lines: Sequence[tuple[str, pd.DataFrame, str, float]], codecs: Sequence[str]) -> pd.DataFrame:
    """Return a table with a row a line and a column a codec: what is `typical` of a figure, with its 95 % interval.

    A line is a label, a table with a column ``codec``, the column of the figure, and a factor. Its median is taken of
    SI-SDR, the mean of all else; missing values are left out.
    """
    page: dict[str, list[str]] = {"figure": [label for label, *_ in lines], **{codec: [] for codec in codecs}}
    for _, table, column, factor in lines:
        measure = "si_sdr_db" if column.endswith("si_sdr_db") else column
        for codec in codecs:
            found = typical(measure, factor * table[table["codec"] == codec][column].to_numpy(float))
            ends = f" [{found.low:.3g},\N{NO-BREAK SPACE}{found.high:.3g}]" if found.defined else ""
            page[codec].append(f"{found.mean:.3g}{ends}".replace("-", "−") if found.count else "–")
    return pd.DataFrame(page)
