"""What wrong tokens sound like."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding.ecdc_damage import compare_decodes
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.corpora import bundled_tokens
from codecbook.measure.quality import snr_db
from codecbook.probes.determinism import make_case
from codecbook.probes.determinism.case import RANDOM, Case
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.consequences import (
    WrongDecode,
    consequence_table,
    consequences,
    decode_codes,
    wrong_decodes,
)
from codecbook.probes.determinism.matrix import CellResult
from codecbook.probes.determinism.packing import pack_codes

T, WRONG_FROM, HOP = 40, 25, 320


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec("encodec_24khz")


@pytest.fixture(scope="module")
def sent() -> np.ndarray:
    corpus = bundled_tokens("encodec_24khz").held_out
    return np.stack([corpus.clip(n)[30 : 30 + T] for n in range(2)]).astype(np.int64)


@pytest.fixture(scope="module")
def spoilt(sent: np.ndarray) -> np.ndarray:
    other = sent.copy()
    other[1, WRONG_FROM:] = np.random.default_rng(0).integers(0, 1024, other[1, WRONG_FROM:].shape)
    other[1, WRONG_FROM] = (sent[1, WRONG_FROM] + 1) % 1024
    return other


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, sent: np.ndarray) -> Case:
    """A case of a codec's tokens; what model goes with them does not matter here."""
    return make_case(tmp_path_factory.mktemp("heard") / "case", codes=sent, model_folder=model_folder)


def stored(codes: dict[int, np.ndarray], errors: dict[int, str]) -> CellResult:
    entry = {
        "wrong_codes": {str(n): pack_codes(part) for n, part in codes.items()},
        "wrong_errors": {str(n): text for n, text in errors.items()},
    }
    return CellResult(Cell("a"), "ran", "", {"coders": {"grid128": entry, "exact": {"status": "ran"}}}, 1.0)


def test_damage_begins_with_the_first_wrong_frame(codec: Codec, sent: np.ndarray, spoilt: np.ndarray) -> None:
    right, wrong = consequences(sent, spoilt, codec, ["", "frame 30: end"])
    assert (right.first_wrong_frame, right.wrong_tokens, right.bad_duration_s, right.noticed) == (
        -1,
        0,
        0.0,
        False,
    )
    assert right.snr_db == right.snr_after_db == np.inf
    assert right.first_bad_sample is None
    assert (wrong.segment, wrong.first_wrong_frame, wrong.noticed) == (1, WRONG_FROM, True)
    assert wrong.wrong_tokens == (sent != spoilt).sum()
    assert wrong.wrong_share == pytest.approx((sent[1] != spoilt[1]).mean())
    assert wrong.first_bad_sample is not None
    assert WRONG_FROM * HOP <= wrong.first_bad_sample < (WRONG_FROM + 2) * HOP
    assert wrong.bad_duration_s == pytest.approx((T - WRONG_FROM) / 75, abs=2 / 75)
    assert wrong.bad_share == pytest.approx(wrong.bad_duration_s / (T / 75))
    assert wrong.snr_after_db < wrong.snr_db
    assert wrong.log_mel_distance_after_db > wrong.log_mel_distance_db > 0


def test_figures_are_those_of_the_other_rooms(codec: Codec, sent: np.ndarray, spoilt: np.ndarray) -> None:
    wrong = consequences(sent[1:], spoilt[1:], "encodec_24khz")[0]
    true_audio, audio = (decode_codes(part, codec) for part in (sent[1], spoilt[1]))
    damage = compare_decodes(true_audio, audio)
    assert true_audio.num_samples == T * HOP
    assert (wrong.corruption_mae, wrong.corruption_max_abs) == (damage.mae, damage.max_abs)
    assert (wrong.first_bad_sample, wrong.last_bad_sample) == (
        damage.first_bad_sample,
        damage.last_bad_sample,
    )
    assert wrong.snr_db == snr_db(true_audio, audio)
    assert not wrong.noticed


def test_stored_codes_become_a_table(heard: Case, spoilt: np.ndarray) -> None:
    found = wrong_decodes(heard, [stored({1: spoilt[1]}, {1: "frame 30: end"})])
    assert [dataclasses.astuple(f)[:3] for f in found] == [("a", "grid128", 1)]
    np.testing.assert_array_equal(found[0].codes, spoilt[1])
    assert found[0].error == "frame 30: end"
    table = consequence_table(heard, found)
    assert table.loc[0, "time_s"] == WRONG_FROM / 75
    assert bool(table.loc[0, "noticed"])
    assert len(consequence_table(heard, found * 5, most=2)) == 2
    for bad in ({2: spoilt[1]}, {1: spoilt[1, 1:]}):
        with pytest.raises(CorruptInput, match="left codes"):
            wrong_decodes(heard, [stored(bad, {})])
    assert wrong_decodes(heard, [CellResult(Cell("b"), "crashed", "", {}, 1.0)]) == []


def test_what_cannot_be_heard_is_refused(
    codec: Codec, heard: Case, sent: np.ndarray, spoilt: np.ndarray
) -> None:
    for arguments in ((sent, spoilt[:1]), (sent[0], spoilt[0]), (sent, spoilt, [""])):
        with pytest.raises(UnsupportedInput):
            consequences(arguments[0], arguments[1], codec, *arguments[2:])
    with pytest.raises(UnsupportedInput, match="codebooks"):
        decode_codes(np.zeros((4, 99), dtype=np.int64), codec)
    with pytest.raises(UnsupportedInput, match="0 wrong segments"):
        consequence_table(heard, [])
    part = WrongDecode("a", "grid128", 1, spoilt[1], "")
    with pytest.raises(UnsupportedInput, match=RANDOM):
        consequence_table(dataclasses.replace(heard, codec=RANDOM), [part])
