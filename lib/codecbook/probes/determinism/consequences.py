"""What disagreement comes to: what a listener gets of wrong segments, what agreement costs in rate, an old fault.

The audio of wrong tokens is held against the audio of the true ones, both by the same decoder, so that what is
measured is the damage and not the codec. Where a coder's decoder breaks off with an error, the rest of the segment is
code 0 here; a player that is told of the error would rather be silent. EnCodec's decoder looks back only, but it
mirrors a segment's first frames to begin with: a wrong frame among these changes samples before it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.special

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding.arithmetic import GridDecoder, GridEncoder
from codecbook.coding.counts import cdf_grid, cdf_grid_unclamped
from codecbook.coding.ecdc.damage import compare_decodes
from codecbook.errors import CodecbookError, CorruptInput
from codecbook.measure.quality import log_mel_distance_db, snr_db
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.coders import CODERS
from codecbook.probes.determinism.compare import CellResult, unpack_codes
from codecbook.tokens.tokens import tokens_from_frames


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
                        f"Cell {result.cell.name!r} left codes {list(codes.shape)} of segment {segment}; the case has "
                        f"{list(shape)}. Read the results together with the case that they are of."
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
            {
                "cell": part.cell,
                "coder": part.coder,
                "segment": part.segment,
                "noticed": bool(part.error),
                "time_s": first / model.frame_rates_hz[0],
                "first_wrong_frame": first,
                "wrong_tokens": int(unequal.sum()),
                "wrong_share": float(unequal.mean()),
                "bad_duration_s": bad_duration_s,
                "bad_share": bad_duration_s / true_audio.duration_s,
                "snr_db": snr_db(true_audio, audio),
                "snr_after_db": snr_db(true_after, after),
                "log_mel_distance_db": log_mel_distance_db(true_audio, audio),
                "log_mel_distance_after_db": log_mel_distance_db(true_after, after),
            }
        )
    return pd.DataFrame(rows)


def _sample(wrong: Sequence[WrongDecode], most: int | None, seed: int) -> list[WrongDecode]:
    """Return at most `most` of each coder, in their order."""
    random, kept = np.random.default_rng(seed), []
    for coder in dict.fromkeys(part.coder for part in wrong):
        places = [i for i, part in enumerate(wrong) if part.coder == coder]
        kept += random.permutation(places)[:most].tolist()
    return [wrong[i] for i in sorted(kept)]


def float_bits(logits: np.ndarray, codes: np.ndarray) -> float:
    """Return the cross-entropy in bits of codes ``[N, T, K]`` under float logits ``[N, T, K, V]``, summed up."""
    shares = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    return float(-np.take_along_axis(shares, codes[..., None], axis=-1).sum() / np.log(2))


def rate_table(case: Case, steps: tuple[float, ...] = (1 / 128, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)) -> pd.DataFrame:
    """Return bits per token of the baseline's coders and of coarser grids (``acv=4`` otherwise), over float logits.

    All are of the tokens that coders of floats have computed. Columns ``coder``, ``step_nats`` (of its grid; NaN for a
    coder without one), ``bits_per_token``, ``overhead_percent`` (against the cross-entropy of the float logits). Raises
    UnsupportedInput: the baseline was not run yet.
    """
    answers = case.answers()
    codes, logits = case.codes_for("float32", BASELINE), np.load(answers / "logits_float32.npy")
    bits = {("float logits, ideal", np.nan): float_bits(logits, codes)}
    for name in case.coders:
        cdf = np.load(answers / f"cdf_{name}.npy", mmap_mode="r")[: len(codes)]
        bits[name, CODERS[name].qstep] = CODERS[name].bits(cdf, codes)
    columns = logits.reshape(-1, logits.shape[-1])[:, :, None]
    for step in steps:
        cdf = cdf_grid(columns, qstep=step)[:, 0].reshape(logits.shape)
        bits[f"grid {step:g}", step] = CODERS["grid128"].bits(cdf, codes)
    ideal = next(iter(bits.values()))
    return pd.DataFrame(
        [
            {"coder": name, "step_nats": step, "bits_per_token": value / codes.size,
             "overhead_percent": 100 * (value / ideal - 1)}
            for (name, step), value in bits.items()
        ]
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
