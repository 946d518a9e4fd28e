"""What disagreement comes to: what a listener gets of wrong segments, what agreement costs in rate, an old fault.

The audio of wrong tokens is held against the audio of the true ones, both by the same decoder, so that what is
measured is the damage and not the codec. Where a coder's decoder breaks off with an error, the rest of the segment is
code 0 here; a player that is told of the error would rather be silent, so `silent_damage` leaves these out. EnCodec's
decoder looks back only, but it mirrors a segment's first frames to begin with: a wrong frame among these changes
samples before it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding.arithmetic import GridDecoder, GridEncoder
from codecbook.coding.counts import cdf_grid, cdf_grid_unclamped
from codecbook.coding.ecdc.damage import compare_decodes
from codecbook.coding.exact.counts import cdf_exact
from codecbook.coding.range_coder import RangeDecoder
from codecbook.errors import CodecbookError, CorruptInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import ExactStepper
from codecbook.measure.quality import log_mel_distance_db, snr_db
from codecbook.measure.statistics import Interval, median_interval, ratio_interval
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.compare import CODERS, CellResult, unpack_codes
from codecbook.tokens.tokens import tokens_from_frames

IDEAL = "float logits, ideal"
"""What all overheads are over."""


@dataclass(frozen=True)
class WrongDecode:
    """A segment that came out wrong."""

    cell: str
    coder: str
    segment: int
    codes: np.ndarray  # what came out, int64 [T, K]; zeros from where decoding broke off
    error: str  # what the decoder raised; empty if it noticed nothing


def decode_codes(codes: np.ndarray, codec: Codec) -> Clip:
    """Return the audio of codes ``[T, K]`` of a codec's leading codebooks."""
    K = codes.shape[1]
    tokens = tokens_from_frames(
        codes, codec.codebook_sizes[:K], codec.frame_rates_hz[0], codec=codec.name, weights=str(codec.weights)
    )
    return codec.decode(tokens)


@dataclass(frozen=True, eq=False)
class OddDecode:
    """What a decoder made of a segment when one of its logits was not the encoder's."""

    codes: np.ndarray  # what came out, int64 [T, K]; zeros from where it broke off
    num_frames: int  # that came out whole
    ends_moved: int  # ends of intervals that the change moved, of V
    is_hit: bool  # whether those of the code that was decoded there are among them, which alone matter
    error: str  # what the decoder raised; empty if it noticed nothing


def decode_with_changed_logit(
    model: ExactLM, payload: bytes, num_frames: int, place: tuple[int, int], code: int, delta: int
) -> OddDecode:
    """Decode a segment of `codecbook.coding.exact.frames.encode_frames` with one logit off by `delta`, in 2^-8 bit.

    `place` is frame and codebook, `code` whose logit it is. The model has no rotary positions. A payload of another
    model, or a place that is not there, leaves an error, or codes that were never sent.
    """
    stepper, decoder = ExactStepper(model), RangeDecoder(payload)
    codes = np.zeros((num_frames, model.num_codebooks), dtype=np.int64)
    moved = np.zeros(model.codebook_sizes[place[1]], dtype=bool)
    error, count = "", 0
    try:
        for t, k in np.ndindex(codes.shape):
            logits = stepper.logits(codes[t : t + 1, :k])[0]
            cdf = cdf_exact(logits)
            if (t, k) == place:
                logits[code] += delta
                cdf, sent = cdf_exact(logits), cdf
                moved = cdf != sent
            codes[t, k] = decoder.pull(cdf)
            if k == codes.shape[1] - 1:
                stepper.push(codes[t : t + 1])
                count += 1
        decoder.finish()
    except CorruptInput as problem:
        error = str(problem)
    code = codes[place]
    return OddDecode(codes, count, int(moved.sum()), bool(moved[max(code - 1, 0) : code + 1].any()), error)


def wrong_decodes(case: Case, results: Sequence[CellResult]) -> list[WrongDecode]:
    """Return all wrong segments of cells that computed a case; raise CorruptInput for those of another one."""
    shape = case.codes.shape
    found = []
    for result in results:
        for coder, part in result.coders.items():
            for segment, text in part.wrong_codes.items():
                codes = unpack_codes(text)
                if not 0 <= segment < shape[0] or codes.shape != shape[1:]:
                    raise CorruptInput(
                        f"Cell {result.cell.name!r} left codes {list(codes.shape)}, not {list(shape)}; run it again."
                    )
                error = part.wrong_errors.get(segment, "")
                found.append(WrongDecode(result.cell.name, coder, segment, codes, error))
    return found


def consequence_table(case: Case, wrong: Sequence[WrongDecode], most: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Return what wrong segments of a case sound like, one row each; of each coder at most so many, drawn at random.

    Returns:
        ``cell``, ``coder``, ``segment``, ``noticed`` (the decoder raised an error), ``first_wrong_frame`` (-1 without
        any), ``time_s`` (of that frame), ``wrong_tokens``, ``wrong_share`` (of all tokens), ``bad_duration_s`` (from
        the first bad sample to the last, see `codecbook.coding.ecdc.damage`), ``bad_share`` (of the segment),
        ``snr_db`` and ``log_mel_distance_db`` of the whole segment against the audio of the true tokens, and
        ``snr_after_db`` and ``log_mel_distance_after_db`` from the first wrong frame to the end. An SNR is inf where
        the audio is equal, NaN where the true audio is silent.

    Raises:
        UnsupportedInput: A case of random weights.
        CorruptInput: A code outside the codec's codebooks.
    """
    model, codes = load_codec(case.codec), case.codes
    truth = {n: decode_codes(codes[n], model) for n in {part.segment for part in wrong}}
    rows = []
    for part in _sample(wrong, most, seed):
        true_audio, audio = truth[part.segment], decode_codes(part.codes, model)
        unequal = codes[part.segment] != part.codes
        first = int(unequal.any(axis=1).argmax()) if unequal.any() else -1
        start = round(max(first, 0) * true_audio.num_samples / len(unequal))
        true_after, after = (Clip(clip.samples[:, start:], clip.sample_rate_hz) for clip in (true_audio, audio))
        bad_duration_s = compare_decodes(true_audio, audio).bad_duration_s or 0.0
        rows.append(
            {"cell": part.cell, "coder": part.coder, "segment": part.segment, "noticed": bool(part.error),
             "time_s": first / model.frame_rates_hz[0], "first_wrong_frame": first, "wrong_tokens": int(unequal.sum()),
             "wrong_share": float(unequal.mean()), "bad_duration_s": bad_duration_s,
             "bad_share": bad_duration_s / true_audio.duration_s, "snr_db": snr_db(true_audio, audio),
             "snr_after_db": snr_db(true_after, after), "log_mel_distance_db": log_mel_distance_db(true_audio, audio),
             "log_mel_distance_after_db": log_mel_distance_db(true_after, after)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _sample(wrong: Sequence[WrongDecode], most: int | None, seed: int) -> list[WrongDecode]:
    """Return at most `most` of each coder, in their order."""
    random, kept = np.random.default_rng(seed), []
    for coder in dict.fromkeys(part.coder for part in wrong):
        places = [i for i, part in enumerate(wrong) if part.coder == coder]
        kept += random.permutation(places)[:most].tolist()
    return [wrong[i] for i in sorted(kept)]


def silent_damage(table: pd.DataFrame, coders: Sequence[str]) -> Interval:
    """Return the median SNR in dB from the first wrong frame on, where the decoder noticed nothing, over segments.

    Of each segment in a `consequence_table` its own median counts, as its decodes belong together. Decodes that broke
    off with an error are left out: what follows it is filled in, and a player that is told would rather be silent.
    """
    by_segment: dict[int, list[float]] = {}
    for row in table.to_dict("records"):
        if row["coder"] in coders and not row["noticed"]:
            by_segment.setdefault(row["segment"], []).append(row["snr_after_db"])
    return median_interval([float(np.median(values)) for values in by_segment.values()])


def float_bits(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the cross-entropy in bits of codes ``[N, T, K]`` under float logits ``[N, T, K, V]``, float64 ``[N]``."""
    shares = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    return -np.take_along_axis(shares, codes[..., None], axis=-1).sum(axis=(1, 2, 3)) / np.log(2)


def segment_bits(case: Case, steps: tuple[float, ...] = (1 / 128, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)) -> pd.DataFrame:
    """Return what each segment costs in bits under the baseline's coders and coarser grids (``acv=4`` otherwise).

    All are of the tokens that coders of floats have computed. One row per segment, with the columns ``tokens``,
    `IDEAL` (the cross-entropy of the float logits), the coders by name, and ``"grid "`` and the step in nats. Raises
    UnsupportedInput: the baseline was not run yet.
    """
    answers = case.answers()
    codes, logits = case.codes_for("float32", BASELINE), np.load(answers / "logits_float32.npy")
    bits = {"tokens": np.full(len(codes), codes[0].size), IDEAL: float_bits(logits, codes)}

    def of_coder(name: str, cdf: np.ndarray) -> list[float]:
        return [CODERS[name].bits(cdf[n : n + 1], codes[n : n + 1]) for n in range(len(codes))]

    for name in case.coders:
        bits[name] = of_coder(name, np.load(answers / f"cdf_{name}.npy", mmap_mode="r"))
    columns = logits.reshape(-1, logits.shape[-1])[:, :, None]
    for step in steps:
        bits[f"grid {step:g}"] = of_coder("grid128", cdf_grid(columns, qstep=step)[:, 0].reshape(logits.shape))
    return pd.DataFrame(bits)


def overhead_percent(bits: pd.DataFrame, coder: str, over: str = IDEAL) -> Interval:
    """Return what a coder needs more than another one in `segment_bits`, over segments."""
    needed, least = np.array(bits[coder]), np.array(bits[over])
    return ratio_interval(100 * (needed - least), least)


def rate_table(bits: pd.DataFrame) -> pd.DataFrame:
    """Return a row per coder of `segment_bits`.

    Columns ``coder``, ``step_nats`` (of its grid; NaN for a coder without one), ``bits_per_token`` and, over the float
    logits, ``overhead_percent``, with ``_low`` and ``_high``.
    """
    return pd.DataFrame(
        {"coder": name, "bits_per_token": bits[name].sum() / bits["tokens"].sum(),
         "step_nats": float(name.split()[1]) if name.startswith("grid ") else CODERS[name].qstep if name in CODERS
         else np.nan, **overhead_percent(bits, name).columns("overhead_percent")}
        for name in bits.columns.drop("tokens")
    )  # fmt: skip


def masked_logits(frames: int, codes: int, masked_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits float32 ``[T, V]`` with codes ruled out (-inf), and one possible code per frame, int64 ``[T]``."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2.0, size=(frames, codes)).astype(np.float32)
    logits[random.random(logits.shape) < masked_share] = -np.inf
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    chosen = [random.choice(codes, p=row / row.sum()) for row in weights.astype(np.float64)]
    return logits, np.array(chosen, dtype=np.int64)


def send(logits: np.ndarray, codes: np.ndarray, fixed: bool) -> dict[str, Any]:
    """Send codes int64 ``[T]`` through the CDF of ``acv=4``, before or after its fix, and say what happened.

    Before it, pull request 95 of encodec nudged ``p * fp_scale`` by 2^-60 before rounding down, and did not clamp it at
    0: any code that the model rules out, such as a masked one, then gets a count of -1 at every even place. Logits are
    float32 ``[T, V]``.

    Returns ``rows_falling`` (rows of the CDF in which a value lies below the one before), ``narrowest`` (the least
    width of a code, of 2^24; below 1 it has no interval), ``symbols``, ``wrong_symbols`` (decoded wrongly) and
    ``error`` (what encoder or decoder raised; empty if nothing).
    """
    rule = cdf_grid if fixed else cdf_grid_unclamped
    cdf = rule(logits[:, :, None])[:, 0]
    widths = np.diff(cdf, axis=1, prepend=0)
    encoder, error = GridEncoder(check=fixed), ""
    decoded = np.full_like(codes, -1)
    try:
        encoder.push_frames(codes[None], cdf[:, None])
        decoded = GridDecoder(encoder.finish(), check=fixed).pull_frames(cdf[:, None])[:, 0]
    except CodecbookError as problem:
        error = str(problem)
    return {
        "rows_falling": int((widths < 0).any(axis=1).sum()), "narrowest": int(widths.min()), "symbols": len(codes),
        "wrong_symbols": int((decoded != codes).sum()), "error": error,
    }  # fmt: skip


def clamp_exhibit(fixed: bool, messages: int = 40, seed: int = 0) -> dict[str, int]:
    """Send messages of 60 codes, half of all codes ruled out, as `send` does, and sum up what happened.

    Returns:
        ``rows``, ``rows_falling``, ``narrowest``, ``messages``, ``wrong``, ``wrong_without_error``.
    """
    sent = [masked_logits(frames=60, codes=1024, masked_share=0.5, seed=seed + n) for n in range(messages)]
    found = [send(logits, codes, fixed) for logits, codes in sent]
    wrong = [one for one in found if one["wrong_symbols"]]
    return {
        "rows": sum(one["symbols"] for one in found), "rows_falling": sum(one["rows_falling"] for one in found),
        "narrowest": min(one["narrowest"] for one in found), "messages": messages, "wrong": len(wrong),
        "wrong_without_error": sum(not one["error"] for one in wrong),
    }  # fmt: skip
