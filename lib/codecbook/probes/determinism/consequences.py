"""What a listener gets of a segment that decodes wrongly: how much of it is wrong, for how long, how badly.

The audio of the wrong tokens is held against the audio of the true ones, both by the same decoder, so that what is
measured is the damage and not the codec. Where a coder's decoder breaks off with an error, the rest of the segment is
code 0 here; a player that is told of the error would rather be silent.

EnCodec's decoder looks back only, but it mirrors a segment's first frames to begin with: a wrong frame among these
changes samples before it, too.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding.ecdc_damage import Corruption, compare_decodes
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.measure.quality import log_mel_distance_db, snr_db
from codecbook.probes.determinism.case import RANDOM, Case
from codecbook.probes.determinism.matrix import CellResult
from codecbook.probes.determinism.packing import pack_codes, unpack_codes
from codecbook.tokens.tokens import tokens_from_frames

__all__ = [
    "Consequence", "WrongDecode", "consequence_table", "consequences", "decode_codes", "pack_codes", "unpack_codes",
    "wrong_decodes",
]  # fmt: skip


@dataclass(frozen=True)
class WrongDecode:
    """A segment that came out wrong.

    Attributes:
        cell: Where.
        coder: By which.
        segment: Which one.
        codes: What came out, int64 ``[T, K]``; zeros from where decoding broke off.
        error: What the decoder raised; empty if it noticed nothing.
    """

    cell: str
    coder: str
    segment: int
    codes: np.ndarray
    error: str


@dataclass(frozen=True)
class Consequence:
    """What is wrong with a segment, in tokens and in audio.

    Attributes:
        segment: Which one, counted from 0.
        first_wrong_frame: The first frame with a wrong token; -1 without any.
        wrong_tokens: How many are wrong.
        wrong_share: Of all tokens of the segment.
        corruption_mae: See `codecbook.coding.ecdc_damage.Corruption`, also for the next four.
        corruption_max_abs: See there.
        first_bad_sample: See there.
        last_bad_sample: See there.
        bad_duration_s: See there; 0.0 if no sample is bad.
        bad_share: Of the segment's duration.
        snr_db: Of the whole segment, against the audio of the true tokens; inf if that is equal.
        snr_after_db: The same from the first wrong frame to the end; NaN where that part of the true audio is silent.
        log_mel_distance_db: Of the whole segment.
        log_mel_distance_after_db: From the first wrong frame to the end.
        noticed: The decoder raised an error.
    """

    segment: int
    first_wrong_frame: int  # frames
    wrong_tokens: int  # tokens
    wrong_share: float  # 0 to 1
    corruption_mae: float  # of full scale
    corruption_max_abs: float  # of full scale
    first_bad_sample: int | None  # samples
    last_bad_sample: int | None  # samples
    bad_duration_s: float  # s
    bad_share: float  # 0 to 1
    snr_db: float  # dB
    snr_after_db: float  # dB
    log_mel_distance_db: float  # dB
    log_mel_distance_after_db: float  # dB
    noticed: bool


def consequences(
    true: np.ndarray, decoded: np.ndarray, codec: str | Codec, errors: Sequence[str] | None = None
) -> list[Consequence]:
    """Compare what was decoded with what was sent, segment by segment.

    Args:
        true: int64 ``[N, T, K]``.
        decoded: int64 ``[N, T, K]``.
        codec: Registry name, whose bundled weights are taken, or a codec.
        errors: What the decoder raised for each segment, empty for nothing; None says that it noticed nothing.

    Raises:
        UnsupportedInput: Shapes differ, not one error per segment, or tokens that are not of this codec.
        CorruptInput: A code outside the codec's codebooks.
    """
    if true.ndim != 3 or true.shape != decoded.shape or (errors is not None and len(errors) != len(true)):
        raise UnsupportedInput(
            f"True codes are {list(true.shape)}, decoded ones {list(decoded.shape)}, with "
            f"{'no' if errors is None else len(errors)} errors; give the same segments [N, T, K], and one error each."
        )
    model = load_codec(codec) if isinstance(codec, str) else codec
    errors = [""] * len(true) if errors is None else errors
    return [
        _consequence(
            n, sent, received, decode_codes(sent, model), decode_codes(received, model), bool(errors[n])
        )
        for n, (sent, received) in enumerate(zip(true, decoded, strict=True))
    ]


def decode_codes(codes: np.ndarray, codec: Codec) -> Clip:
    """Return the audio of codes ``[T, K]`` of a codec's leading codebooks."""
    K = codes.shape[1]
    if len(codec.codebook_sizes) < K:
        raise UnsupportedInput(f"{K} codes a frame, {codec.name} has {len(codec.codebook_sizes)} codebooks.")
    return codec.decode(
        tokens_from_frames(codes, codec.codebook_sizes[:K], codec.frame_rates_hz[0], codec=codec.name)
    )


def wrong_decodes(case: Case, results: Sequence[CellResult]) -> list[WrongDecode]:
    """Return all wrong segments whose codes the cells left in their results (``wrong_codes``).

    Args:
        case: What was computed.
        results: From `run_matrix` or `read_result`. Those of versions that kept no codes add nothing.

    Raises:
        CorruptInput: Codes that do not unpack, or not to a segment of this case.
    """
    shape = case.codes.shape
    found = []
    for result in results:
        for coder, entry in result.content.get("coders", {}).items():
            errors = entry.get("wrong_errors", {})
            for key, text in entry.get("wrong_codes", {}).items():
                codes = unpack_codes(text)
                if not 0 <= int(key) < shape[0] or codes.shape != shape[1:]:
                    raise CorruptInput(
                        f"Cell {result.cell.name!r} left codes {list(codes.shape)} of segment {key}; the case has "
                        f"{list(shape)}. Read the results together with the case that they are of."
                    )
                found.append(WrongDecode(result.cell.name, coder, int(key), codes, errors.get(key, "")))
    return found


def consequence_table(
    case: Case, wrong: Sequence[WrongDecode], codec: str = "", most: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return what wrong segments sound like, one row each.

    Args:
        case: What was computed.
        wrong: From `wrong_decodes`.
        codec: Registry name; empty takes the case's.
        most: Of each coder at most so many, drawn at random; None takes all.
        seed: Of that draw.

    Returns:
        ``cell``, ``coder``, ``time_s`` (of the first wrong frame) and the fields of `Consequence`.

    Raises:
        UnsupportedInput: No wrong segments, or a case of random weights without the codec's name.
        CorruptInput: See `consequences`.
    """
    name = codec or case.codec
    if not wrong or name == RANDOM:
        raise UnsupportedInput(
            f"There are {len(wrong)} wrong segments, of codec {name!r}; give some, and the registry name of the codec "
            "whose tokens they are."
        )
    model, codes = load_codec(name), case.codes
    rate_hz = model.frame_rates_hz[0]
    truth = {n: decode_codes(codes[n], model) for n in {part.segment for part in wrong}}
    rows = []
    for part in _sample(wrong, most, seed):
        n = part.segment
        audio = decode_codes(part.codes, model)
        found = _consequence(n, codes[n], part.codes, truth[n], audio, bool(part.error))
        rows.append(
            {"cell": part.cell, "coder": part.coder, "time_s": found.first_wrong_frame / rate_hz}
            | asdict(found)
        )
    return pd.DataFrame(rows)


def _consequence(
    n: int, sent: np.ndarray, received: np.ndarray, true_audio: Clip, audio: Clip, noticed: bool
) -> Consequence:
    unequal = sent != received
    frames = np.flatnonzero(unequal.any(axis=1))
    first = int(frames[0]) if len(frames) else -1
    damage: Corruption = compare_decodes(true_audio, audio)
    start = round(max(first, 0) * true_audio.num_samples / len(sent))
    true_after, after = (Clip(clip.samples[:, start:], clip.sample_rate_hz) for clip in (true_audio, audio))
    duration_s = damage.bad_duration_s or 0.0
    return Consequence(
        segment=n,
        first_wrong_frame=first,
        wrong_tokens=int(unequal.sum()),
        wrong_share=float(unequal.mean()),
        corruption_mae=damage.mae,
        corruption_max_abs=damage.max_abs,
        first_bad_sample=damage.first_bad_sample,
        last_bad_sample=damage.last_bad_sample,
        bad_duration_s=duration_s,
        bad_share=duration_s / true_audio.duration_s,
        snr_db=snr_db(true_audio, audio),
        snr_after_db=snr_db(true_after, after),
        log_mel_distance_db=log_mel_distance_db(true_audio, audio),
        log_mel_distance_after_db=log_mel_distance_db(true_after, after),
        noticed=noticed,
    )


def _sample(wrong: Sequence[WrongDecode], most: int | None, seed: int) -> list[WrongDecode]:
    """Return at most `most` of each coder, in their order."""
    if most is None:
        return list(wrong)
    random, kept = np.random.default_rng(seed), []
    for coder in dict.fromkeys(part.coder for part in wrong):
        places = [i for i, part in enumerate(wrong) if part.coder == coder]
        kept += random.permutation(places)[:most].tolist()
    return [wrong[i] for i in sorted(kept)]
