"""What wrong tokens sound like."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding.counts import cdf_grid, cdf_grid_unclamped
from codecbook.coding.ecdc.damage import compare_decodes
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.measure.quality import snr_db
from codecbook.probes.determinism.case import RANDOM, Case
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.compare import CellResult, CoderResult, pack_codes
from codecbook.probes.determinism.consequences import (
    IDEAL,
    WrongDecode,
    clamp_exhibit,
    consequence_table,
    decode_codes,
    float_bits,
    masked_logits,
    overhead_percent,
    rate_table,
    segment_bits,
    send,
    silent_damage,
    wrong_decodes,
)
from codecbook.probes.determinism.worker import run_cell

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
    part = CoderResult("ran", wrong_codes={n: pack_codes(found) for n, found in codes.items()}, wrong_errors=errors)
    return CellResult(Cell("a"), "ran", coders={"grid128": part, "exact": CoderResult("ran")})


def test_damage_begins_with_the_first_wrong_frame(
    codec: Codec, heard: Case, sent: np.ndarray, spoilt: np.ndarray
) -> None:
    decodes = [WrongDecode("a", "x", 0, sent[0], ""), WrongDecode("a", "x", 1, spoilt[1], "frame 30: end")]
    right, wrong = consequence_table(heard, decodes).itertuples()
    assert (right.first_wrong_frame, right.wrong_tokens, right.bad_duration_s, right.noticed) == (-1, 0, 0, False)
    assert right.snr_db == right.snr_after_db == np.inf
    assert (wrong.segment, wrong.first_wrong_frame, wrong.noticed) == (1, WRONG_FROM, True)
    assert wrong.wrong_tokens == (sent != spoilt).sum()
    assert wrong.wrong_share == pytest.approx((sent[1] != spoilt[1]).mean())
    assert wrong.bad_duration_s == pytest.approx((T - WRONG_FROM) / 75, abs=2 / 75)
    assert wrong.bad_share == pytest.approx(wrong.bad_duration_s / (T / 75))
    assert wrong.snr_after_db < wrong.snr_db
    assert wrong.log_mel_distance_after_db > wrong.log_mel_distance_db > 0
    true_audio, audio = (decode_codes(part, codec) for part in (sent[1], spoilt[1]))
    damage = compare_decodes(true_audio, audio)
    assert true_audio.num_samples == T * HOP
    assert damage.first_bad_sample is not None
    assert WRONG_FROM * HOP <= damage.first_bad_sample < (WRONG_FROM + 2) * HOP
    assert (wrong.bad_duration_s, wrong.snr_db) == (damage.bad_duration_s, snr_db(true_audio, audio))


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
    assert wrong_decodes(heard, [CellResult(Cell("b"), "crashed")]) == []


def test_what_cannot_be_heard_is_refused(codec: Codec, heard: Case, spoilt: np.ndarray) -> None:
    with pytest.raises(UnsupportedInput, match="codebook sizes"):
        decode_codes(np.zeros((4, 99), dtype=np.int64), codec)
    assert consequence_table(heard, []).empty
    part = WrongDecode("a", "grid128", 1, spoilt[1], "")
    with pytest.raises(UnsupportedInput, match=RANDOM):
        consequence_table(dataclasses.replace(heard, codec=RANDOM), [part])


def test_the_ideal_is_the_cross_entropy(case: Case) -> None:
    logits = np.load(case.baseline / "logits_float64.npy")
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).flatten(0, 2), torch.from_numpy(case.codes).flatten(), reduction="sum"
    )
    np.testing.assert_allclose(float_bits(logits, case.codes).sum(), float(expected) / np.log(2), rtol=1e-12)


def test_a_grid_of_any_step_is_priced(case: Case) -> None:
    bits = segment_bits(case, (1 / 128, 1e4))
    assert len(bits) == len(case.codes)
    table = rate_table(bits).set_index("coder")
    assert table.bits_per_token["grid 0.0078125"] == table.bits_per_token["grid128"]
    assert (table.loc[IDEAL, ["overhead_percent", "overhead_percent_low"]] == 0).all()
    assert abs(table.overhead_percent["grid128"]) < 0.5
    np.testing.assert_allclose(table.bits_per_token["grid 10000"], np.log2(24), rtol=1e-4)  # nothing is left
    assert (table.step_nats["float64"], table.step_nats["grid 10000"]) == (1 / 64, 1e4)
    assert np.isnan(table.step_nats["exact"])


def test_a_coder_that_writes_raw_codes_does_not_cost_less_than_a_grid() -> None:
    ideal = np.array([500.0, 700.0, 650.0, 900.0, 720.0, 810.0])
    chance = np.array([0.4, -0.3, 0.2, -0.5, 0.3, -0.2])
    bits = pd.DataFrame({"tokens": 100, IDEAL: ideal, "exact": 1.0002 * ideal, "grid 0.5": 1.02 * ideal + chance,
                         "raw": 1000.0, "grid 0.25": ideal + chance})  # fmt: skip
    assert overhead_percent(bits, "exact").below(1.0)
    assert overhead_percent(bits, "exact", "grid 0.5").below(0.0)
    assert overhead_percent(bits, "raw").below(1.0) is False
    assert overhead_percent(bits, "raw", "grid 0.5").below(0.0) is False
    assert overhead_percent(bits, "grid 0.5", "grid 0.5").below(0.0) is False
    noise = overhead_percent(bits, "grid 0.25")
    assert noise.low < 0 < noise.high, "what costs nothing may seem to save"


def test_all_rates_are_of_the_same_tokens(tmp_path: Path, codes: np.ndarray, model_folder: Path) -> None:
    few = make_case(tmp_path / "few", codes=codes, model_folder=model_folder, float_segments=1)
    run_cell(few, BASELINE, tmp_path / "few.json", write_baseline=True)
    alone = make_case(tmp_path / "alone", codes=codes[:1], model_folder=model_folder)
    run_cell(alone, BASELINE, tmp_path / "alone.json", write_baseline=True)
    pd.testing.assert_frame_equal(segment_bits(few), segment_bits(alone))


def test_damage_is_that_of_segments_in_which_nothing_was_noticed() -> None:
    def table(snr_db: list[float], noticed: list[bool]) -> pd.DataFrame:
        segments = np.arange(len(snr_db)) // 2
        return pd.DataFrame({"coder": "x", "segment": segments, "snr_after_db": snr_db, "noticed": noticed})

    lost, filled = [-3.0, -2.8] * 6, [False, False] * 6
    assert silent_damage(table(lost, filled), ["x"]).below(3.0)
    # filled in with code 0, these are 6 dB worse, and of no decoder's making
    with_errors = silent_damage(table([*lost, *[-9.0] * 12], [*filled, *[True] * 12]), ["x"])
    assert (with_errors.mean, with_errors.count) == (pytest.approx(-2.9), 6)
    assert silent_damage(table([30.0, 40.0] * 6, filled), ["x"]).below(3.0) is False, "a scratch is no loss"
    assert silent_damage(table(lost, [True] * 12), ["x"]).below(3.0) is None
    assert silent_damage(pd.DataFrame(), ["x"]).count == 0


def test_answers_are_needed(fresh: Case) -> None:
    with pytest.raises(UnsupportedInput, match="no answers"):
        segment_bits(fresh)


def test_a_masked_code_gets_a_negative_count_and_wrong_codes_without_an_error() -> None:
    logits, codes = masked_logits(200, 1024, 0.5, seed=0)
    faulty, fixed = send(logits, codes, fixed=False), send(logits, codes, fixed=True)
    assert (faulty["rows_falling"], faulty["symbols"], faulty["error"]) == (200, 200, "")
    assert faulty["narrowest"] < 0
    assert faulty["wrong_symbols"] > 0
    assert (fixed["rows_falling"], fixed["narrowest"], fixed["wrong_symbols"], fixed["error"]) == (0, 1, 0, "")


def test_the_exhibit_is_of_the_fault_alone() -> None:
    faulty, mended = clamp_exhibit(False, messages=5), clamp_exhibit(True, messages=5)
    assert min(faulty["rows_falling"], -faulty["narrowest"], faulty["wrong_without_error"]) > 0
    assert (mended["rows_falling"], mended["narrowest"], mended["wrong"], mended["messages"]) == (0, 1, 0, 5)


def test_without_masked_codes_the_fault_sleeps() -> None:
    logits, codes = masked_logits(50, 64, 0.0, seed=1)
    assert np.isfinite(logits).all()
    assert send(logits, codes, fixed=False)["wrong_symbols"] == 0
    columns = logits[:, :, None]
    np.testing.assert_array_equal(cdf_grid_unclamped(columns), cdf_grid(columns))
