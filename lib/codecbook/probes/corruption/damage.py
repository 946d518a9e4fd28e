"""What damage costs: whether it is noticed, which tokens are wrong, and for how long it sounds wrong.

The reference is the undamaged file, read and decoded the same way, so that a codec's own error does not count. A sample
is bad above the threshold of `codecbook.coding.ecdc.damage`. A file that is refused is bad from beginning to end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from codecbook.audio import Clip, convert
from codecbook.codecs.base import Codec
from codecbook.coding.conceal import conceal
from codecbook.coding.ecdc.damage import compare_decodes
from codecbook.errors import CodecbookError
from codecbook.measure.quality import log_mel_distance_db, snr_db
from codecbook.measure.statistics import share_interval
from codecbook.probes.corruption.inject import CHUNK_KINDS, Mutation, draw
from codecbook.probes.corruption.targets import Read, Target

OUTCOMES = ("unchanged", "refused", "reported", "silent")
"""No code, or no sample, is wrong; nothing is read; all that is wrong is reported; something wrong is not."""


@dataclass(frozen=True, eq=False)
class Heard:
    """What a mutation did, to see and to hear."""

    cost: SimpleNamespace  # a row of `costs`
    wrong: np.ndarray  # bool [T, K], tokens that are wrong and not reported; empty for audio
    lost: np.ndarray  # bool [T], frames reported as lost
    clip: Clip | None  # None where the file is refused, or nothing of it could be decoded
    clean: Clip
    read: Read  # what the reader made of it


class Meter:
    """Measures what mutations of one target cost; the undamaged file is read and decoded once."""

    def __init__(self, target: Target, codec: Codec) -> None:
        self.target, self._codec = target, codec
        self._good = target.read(target.data)
        assert not self._good.refused, self._good.refused
        clean = self.sound(self._good)
        assert clean is not None
        self.clean = clean

    def hear(self, mutation: Mutation, listen: bool = True) -> Heard:
        """Damage, read and decode; without listening, what is bad to hear is NaN."""
        found, good = self.target.read(mutation.apply(self.target.data)), self._good
        T, K = (0, 0) if good.rows is None else good.rows.shape
        wrong, lost = np.zeros((T, K), dtype=bool), np.full(T, bool(found.refused))
        if good.rows is not None and found.rows is not None:
            count = min(T, len(found.rows))
            if found.lost is not None:
                lost[:count] = found.lost[:count]
            wrong[count:] = True  # nothing says that they are missing
            wrong[:count] = (found.rows[:count, :K] != good.rows[:count]) & ~lost[:count, None]
        is_same = good.rows is not None and not (wrong.any() or lost.any())
        listen = listen or good.rows is None
        clip = self.clean if is_same else self.sound(found) if listen else None
        first_s, last_s, duration_s = _bad(self.clean, clip) if listen else (nan, nan, nan)
        if found.refused:
            outcome = "refused"
        elif wrong.any() or (good.rows is None and duration_s > 0):
            outcome = "silent"
        else:
            outcome = "reported" if lost.any() else "unchanged"
        cost = SimpleNamespace(
            target=self.target.name, kind=mutation.kind, where=mutation.where, seed=mutation.seed,
            position=mutation.first_byte / len(self.target.data) if mutation.edits else nan, outcome=outcome,
            wrong_share=float(wrong.mean()) if wrong.size else nan, lost_share=float(lost.mean()) if T else nan,
            first_bad_s=first_s, last_bad_s=last_s, bad_duration_s=duration_s, duration_s=self.clean.duration_s,
        )  # fmt: skip
        return Heard(cost, wrong, lost, clip, self.clean, found)

    def sound(self, read: Read, method: str = "interpolate") -> Clip | None:
        """Return the audio, concealed where frames are lost (`codecbook.coding.conceal`); None where there is none."""
        if read.rows is None:
            return read.clip
        codec, K = self._codec, read.rows.shape[1]
        lost = np.zeros(len(read.rows), dtype=bool) if read.lost is None else read.lost
        try:
            return conceal(codec, codec.token_format(K).tokens(tuple(read.rows.T)), np.tile(lost, (K, 1)), method)
        except CodecbookError:  # no rows, or codes that the codec does not have
            return None


def _bad(clean: Clip, clip: Clip | None) -> tuple[float, float, float]:
    """Return where a clip begins and ceases to be bad, and for how long it is, in seconds; all of it if there is none.

    Where it is never bad, it begins nowhere (NaN). What is missing at its end are zeros.
    """
    form = clean.sample_rate_hz, clean.num_channels
    if clip is None or (clip.sample_rate_hz, clip.num_channels) != form:
        return 0.0, clean.duration_s, clean.duration_s
    samples, count = np.zeros_like(clean.samples), min(clip.num_samples, clean.num_samples)
    samples[:, :count] = clip.samples[:, :count]
    change = compare_decodes(clean, Clip(samples, clip.sample_rate_hz))
    if change.first_bad_sample is None or change.last_bad_sample is None:
        return nan, nan, 0.0
    first_s, last_s = (at / clean.sample_rate_hz for at in (change.first_bad_sample, change.last_bad_sample))
    return first_s, last_s, change.bad_duration_s or 0.0


def costs(
    meters: Iterable[Meter],
    kinds: Sequence[str],
    wheres: Sequence[str] = ("anywhere",),
    count: int = 1,
    seed: int = 0,
    listen: bool = True,
) -> pd.DataFrame:
    """Measure so many mutations of each target, kind and part that the target has, a row each.

    A part ``"anywhere"`` is the whole file, at which all `CHUNK_KINDS` are aimed. Without `listen`, tokens are compared
    and nothing is decoded to audio.

    Columns: ``target``; ``kind``, ``where`` and ``seed`` of the mutation; ``position`` of the first byte as a share of
    the file (NaN where chance changed nothing); ``outcome``, of `OUTCOMES`; ``wrong_share`` of all tokens (wrong and
    not reported) and ``lost_share`` of all frames (reported as lost), NaN for audio; ``first_bad_s``, ``last_bad_s``
    (NaN where nothing is bad), ``bad_duration_s``, and ``duration_s`` of the clip.
    """
    found = []
    for meter in meters:
        data, chunks, parts = meter.target.data, meter.target.chunks, {"anywhere": (), **meter.target.parts}
        aims = [(kind, where) for kind in kinds for where in (wheres if kind not in CHUNK_KINDS else ("anywhere",))]
        for kind, where in aims:
            for number in range(count if where in parts else 0):
                mutation = draw(
                    data, kind, seed + number, places=parts[where], chunks=chunks, other=data[::-1],
                    where=where,
                )  # fmt: skip
                found.append(meter.hear(mutation, listen).cost)
    return pd.DataFrame(map(vars, found))


def summary(table: pd.DataFrame, by: Sequence[str] = ("target",)) -> pd.DataFrame:
    """Return by target, kind or part: how many mutations, what came of them, and medians of what it cost.

    Columns ``mutations``; shares ``unchanged``, ``refused``, ``reported`` and ``silent``, this one with its interval
    (``silent_low``, ``silent_high``); ``bad_share``, the median of the duration that is bad, of the clip's.
    """
    rows = []
    for _, part in table.groupby(list(by), sort=False):
        shares = {name: float((part.outcome == name).mean()) for name in OUTCOMES}
        shares |= share_interval(int((part.outcome == "silent").sum()), len(part)).columns("silent")
        bad = (part.bad_duration_s / part.duration_s).median()
        rows.append({**part.iloc[0][list(by)], "mutations": len(part), **shares, "bad_share": bad})
    return pd.DataFrame(rows)


def bit_errors(
    codecs: Mapping[str, Codec], clips: Sequence[Clip], rates: Sequence[float], seed: int = 0
) -> pd.DataFrame:
    """Flip bits of packed codes at several rates and decode what comes out, a row for codec, rate and clip.

    Codes of a codebook of ``V`` take ``log2 V`` bits, so that every pattern is a code: nothing can be noticed. Columns
    ``codec``, ``bit_error_rate``, ``clip``, ``kbps``, ``flipped_per_s`` (bits), ``wrong_share`` (of tokens),
    ``log_mel_distance_db`` and ``snr_db``, both against the audio of the right codes.
    """
    rows = []
    for name, codec in codecs.items():
        for number, clip in enumerate(clips):
            sound = convert(clip, codec.sample_rate_hz, codec.channels)
            tokens = codec.encode(sound, codec.default_bandwidth_kbps)
            clean = codec.decode(tokens)
            widths = [(size - 1).bit_length() for size in tokens.codebook_sizes]
            kbps = sum(w * len(c) for w, c in zip(widths, tokens.codes, strict=True)) / 1000 / clip.duration_s
            for rate in rates:
                random = np.random.default_rng((seed, number))
                flips = [
                    ((random.random((len(codes), width)) < rate) << np.arange(width)).sum(axis=1)
                    for codes, width in zip(tokens.codes, widths, strict=True)
                ]
                changed = np.concatenate(flips)
                codes = tuple(part ^ flip for part, flip in zip(tokens.codes, flips, strict=True))
                heard = codec.decode(replace(tokens, codes=codes))
                rows.append(
                    {"codec": name, "bit_error_rate": rate, "clip": clip.name, "kbps": kbps,
                     "flipped_per_s": np.bitwise_count(changed).sum() / clip.duration_s,
                     "wrong_share": np.count_nonzero(changed) / len(changed),
                     "log_mel_distance_db": log_mel_distance_db(clean, heard), "snr_db": snr_db(clean, heard)}
                )  # fmt: skip
    return pd.DataFrame(rows)


def evaluation(target: Target, codec: Codec, fraction: float = 0.5) -> dict[str, Any]:
    """Return the fields of encodec's ``precision_eval`` that damage decides, of any target.

    The lowest bit of one byte is flipped, at a share of the way through the target's bodies.
    """
    places = np.concatenate([np.asarray(part) for part in target.parts["body"]])
    place = int(places[min(len(places) - 1, int(fraction * len(places)))])
    mutation = draw(target.data, "low_bit", 0, places=[range(place, place + 1)], where="body")
    heard = Meter(target, codec).hear(mutation)
    change = vars(compare_decodes(heard.clean, heard.clip)) if heard.clip else {}
    chunk = next((i for i, chunk in enumerate(target.chunks) if place in chunk), None)
    return {
        "encoded_bytes": len(target.data),
        "bps": 8 * len(target.data) / heard.clean.duration_s,
        "corrupt_absolute_byte": place,
        "corrupt_chunk_index": chunk,
        "corruption_mae_vs_clean_decode": change.get("mae"),
        "corruption_max_abs_vs_clean_decode": change.get("max_abs"),
        **{
            f"corruption_{name}": change.get(name) for name in ("first_bad_sample", "last_bad_sample", "bad_duration_s")
        },
        "outcome": heard.cost.outcome,
    }
