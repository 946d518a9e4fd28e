"""The claims of `07_weight_compression` and `07b_published_schemes`, judged of planted tables: each can fail."""

import dataclasses
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from codecbook.book import tables
from codecbook.measure import statistics
from codecbook.probes.weights import frontier, probes
from codecbook.probes.weights.schemes.table import SCHEMES

ROOT = Path(__file__).resolve().parents[2]
ORDER = ["by what each weight matters", "one scheme for all", "without loss"]


class Judge:
    """Takes the place of a run."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.holds: dict[str, bool | None] = {}

    def record(self, figures: dict[str, Any]) -> None:
        self.figures |= figures

    def claim(self, text: str, holds: Any, figure: str, basis: str = "data") -> None:
        assert figure
        assert basis in ("data", "construction", "machine")
        self.holds[text] = None if holds is None else bool(holds)

    def headline(self, label: str, figure: object, unit: str = "") -> None:
        assert label

    def of(self, part: str) -> bool | None:
        (found,) = [holds for text, holds in self.holds.items() if part in text]
        return found


def judged(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Judge:
    monkeypatch.setattr(tables, "show_figures", lambda _figures: None)
    notebook = nbformat.read(ROOT / "notebooks" / "07_weight_compression.ipynb", as_version=4)
    run = Judge()
    namespace = {"np": np, "pd": pd, "frontier": frontier, "tables": tables, "order": ORDER, "run": run, **given}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "run.claim(" in cell.source:
            exec(compile(cell.source, str(cell.id), "exec"), namespace)
    return run


def codec_row(scheme: str, series: int, bits: float, match: float, **other: float) -> dict[str, Any]:
    row = {"scheme": scheme, "series": ORDER[series], "bits_per_weight": bits, "tokens": 10_000, "match_8": match,
           "match_all": match, "changed": round(10_000 * (1 - match)), "mismatch_bytes": 0, "si_sdr_db": 0.0,
           "log_mel_distance_db": 0.0}  # fmt: skip
    return {**row, **other}


def lm_row(scheme: str, bits: float, percent: float, match: float) -> dict[str, Any]:
    series = ORDER[0] if scheme.startswith("steps") else ORDER[1]
    return {"scheme": scheme, "series": series, "bits_per_weight": bits, "bits_percent": percent,
            "argmax_match": match, "tokens": 5000, "mismatch_bytes": 0}  # fmt: skip


def good() -> dict[str, Any]:
    steps = ((12.0, 1.0), (10.0, 0.9995), (7.0, 0.993), (5.5, 0.97))
    rows = [codec_row("without loss", 2, 12.9, 1.0), *(codec_row(f"steps {b}", 0, b, m) for b, m in steps)]
    rows += [codec_row("bf16", 1, 16.0, 0.98), codec_row("int8_row", 1, 8.2, 0.96)]
    lm = [lm_row("steps 1", 2.0, 0.9, 0.9), lm_row("steps 2", 3.3, 0.09, 0.97), lm_row("steps 3", 6.5, 0.01, 0.998),
          lm_row("bf16", 16, 0.0, 0.995)]  # fmt: skip
    return {
        "codec_table": pd.DataFrame(rows), "lm_table": pd.DataFrame(lm), "lossless": 12.9,
        "compared": {"exponents, order 0": 13.8}, "codec_schemes": ["bf16", "int8_row"],
        "one_kind": pd.DataFrame({"tensors": ["decoder"], "changed_percent": [0.0]}),
    }  # fmt: skip


def test_all_claims_hold_of_what_they_were_made_for(monkeypatch) -> None:
    run = judged(good(), monkeypatch)
    assert len(run.holds) >= 11
    assert all(run.holds.values()), run.holds
    assert run.figures["account_mismatch_bytes"] == 0
    assert run.figures["codec.bits_per_weight_at_100"] == 12.0
    assert run.figures["lm.bits_per_weight_at_plus_1_percent"] == 2.0


def test_files_that_are_not_accounted_for_fail(monkeypatch) -> None:
    given = good()
    given["lm_table"].loc[1, "mismatch_bytes"] = -3
    given["codec_table"].loc[1, "mismatch_bytes"] = 3  # which must not cancel
    run = judged(given, monkeypatch)
    assert run.of("accounted for") is False
    assert run.figures["account_mismatch_bytes"] == 6


def test_steps_that_are_worse_than_other_schemes_fail(monkeypatch) -> None:
    given = good()
    table = given["codec_table"]
    mine = table.series == ORDER[0]
    table.loc[mine, ["match_8", "match_all", "changed"]] = [0.5, 0.5, 5000]
    run = judged(given, monkeypatch)
    assert run.of("No scheme of one width") is False
    assert run.of("BF16 changes more tokens") is False
    assert not any(run.of(text) for text in ("99 % of the tokens of 8 codebooks, 96", "96 % of the tokens of 8 codeb"))


def test_steps_that_take_more_bits_fail(monkeypatch) -> None:
    given = good()
    given["codec_table"]["bits_per_weight"] += 8
    run = judged(given, monkeypatch)
    bars = ("All tokens", "99.9 %", "99 % of the tokens of 8 codebooks, 96", "stay the same in 6.1")
    assert [run.of(text) for text in bars] == [False] * 4
    assert run.of("BF16 changes more tokens") is False


def test_a_decoder_that_loses_too_much_counts_for_nothing(monkeypatch) -> None:
    given = good()
    given["codec_table"].loc[1:, "si_sdr_db"] = -0.5
    run = judged(given, monkeypatch)
    assert run.of("All tokens") is False
    assert run.of("stay the same in 6.1") is False


def test_a_uniform_language_model_fails(monkeypatch) -> None:
    given = good()
    given["lm_table"] = pd.DataFrame([lm_row("steps 1", 0.1, 64.0, 1 / 1024), lm_row("bf16", 16, 0.0, 0.995)])
    run = judged(given, monkeypatch)
    assert run.of("takes 1 % more bits") is False  # BF16 alone keeps that, in 16 bits
    assert run.of("takes 0.1 % more bits") is False
    assert run.of("as many likeliest codes") is None
    assert "lm.bits_per_weight_at_bf16_match" not in run.figures


def test_lossless_files_that_lose_and_gain_nothing_fail(monkeypatch) -> None:
    given = good()
    given["codec_table"].loc[0, "changed"] = 1
    given["lossless"] = 13.9
    given["one_kind"].loc[0, "changed_percent"] = 0.01
    run = judged(given, monkeypatch)
    for text in ("Without loss", "Prediction takes fewer bits", "No token depends on the decoder"):
        assert run.of(text) is False


def test_sound_that_has_no_quality_is_no_loss(monkeypatch) -> None:
    given = good()
    given["codec_table"].loc[:, ["si_sdr_db", "log_mel_distance_db"]] = np.nan
    given["lm_table"] = pd.DataFrame()
    run = judged(given, monkeypatch)
    assert run.of("Without loss no token") is True
    assert run.of("All tokens") is None


def test_a_palette_of_all_rows_has_memorised_them() -> None:
    random = np.random.default_rng(0)
    small, large = (random.standard_normal((rows, 16)).astype(np.float32) for rows in (200, 3000))
    assert probes.ladder_account([(small, "F16")]).memorised == 1
    fair = probes.ladder_account([(large, "F16")])
    assert fair.memorised < 1
    assert dataclasses.asdict(fair)["source"] == 2 * large.size
    verdict = probes.p4_directions(small)
    assert (verdict.verdict, probes.p4_directions(large).verdict) == ("pass", "fail")


def test_published_schemes_that_keep_their_rows_fail_the_claims_against_them() -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "07b_published_schemes.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "A ladder of palettes is no gain" in cell.source]
    random, run = np.random.default_rng(0), Judge()
    few = random.standard_normal((100, 16)).astype(np.float32)  # fewer than a palette has rows
    many = np.repeat(few, 60, axis=0)  # the same rows over and over: a ladder is a gain, and memorises few
    leaf = pd.DataFrame({"cosine_of_row_0": [0.95], "mean_cosine": [0.95]}, index=["palette_slot_l"])
    account = probes.ladder_account([(many, "F32")])
    namespace = {"accounts": {"codec": account}, "by_scheme": leaf, "embedding": few, "codebooks": few, "run": run,
                 "probes": probes, "SCHEMES": SCHEMES, "statistics": statistics}  # fmt: skip
    exec(compile(cell.source, str(cell.id), "exec"), namespace)
    for text in ("no gain on a codec", "what it has memorised", "row 0 says nothing", "One palette for all"):
        assert run.of(text) is False, text
