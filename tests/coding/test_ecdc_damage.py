import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.coding.counts import GridDialect
from codecbook.coding.ecdc import damage, read_ecdc_header, write_ecdc
from codecbook.coding.ecdc.damage import all_noticed, compare_decodes, flip_byte, payload_decode_matrix, precision_eval
from codecbook.errors import CorruptInput, UnsupportedInput

sys.path.insert(0, str(Path(__file__).parents[1] / "golden" / "ecdc"))  # what makes the golden files lies there

import make_ecdc as make


@pytest.fixture(scope="module")
def case() -> tuple[Any, Any, Clip]:
    model = make.small_model("stereo")
    rng = np.random.default_rng(2)
    return model, make.small_lm(model), Clip(rng.normal(0, 0.1, (2, 50_000)).astype(np.float32), 48_000)


def test_precision_eval_of_chunks(case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    model, lm, clip = case
    ticks = iter(range(100))
    monkeypatch.setattr(damage, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    found = precision_eval(model, clip, lm, 4, corrupt_fraction=0.5)
    data = write_ecdc(model, clip, lm, 4)
    body = read_ecdc_header(data)[1]
    assert found["success"]
    assert (found["encode_s"], found["decode_s"]) == (1.0, 1.0)
    assert found["rtf_encode"] == pytest.approx(48_000 / 50_000)
    assert (found["encoded_bytes"], found["payload_bytes"]) == (len(data), len(data) - body)
    assert found["bps"] == pytest.approx(8 * len(data) * 48_000 / 50_000)
    assert found["header_metadata"]["acv"] == 4
    assert found["mse"] is not None
    assert found["snr_db"] == pytest.approx(10 * math.log10(np.mean(clip.samples.astype(float) ** 2) / found["mse"]))
    assert found["corrupt_chunk_index"] == 0
    assert found["corrupt_chunk_byte"] is not None
    assert found["corrupt_absolute_byte"] == body + 8 + found["corrupt_chunk_byte"]
    assert found["corrupt_payload_byte"] == 8 + found["corrupt_chunk_byte"]
    assert found["corruption_max_abs_vs_clean_decode"] is not None
    assert found["corruption_max_abs_vs_clean_decode"] > 0
    assert found["decode_error"] == ""


def test_precision_eval_of_other_streams(case: tuple) -> None:
    model, lm, clip = case
    raw = precision_eval(model, clip, corrupt_fraction=0.9)
    assert raw["success"]
    assert raw["corrupt_chunk_index"] is None
    assert raw["corruption_mae_vs_clean_decode"] is not None
    upstream = precision_eval(model, clip, lm, 1, corrupt_fraction=0.5)
    assert upstream["success"], "what fails is the damaged stream"
    assert "Segment" in upstream["decode_error"]
    assert upstream["corruption_bad_duration_s"] is None
    strange = GridDialect(0.25, 5000, 2, "float64", tau=0.8)
    assert precision_eval(model, clip, lm, 4, strange)["success"]


def test_matrix(case: tuple) -> None:
    model, lm, clip = case
    data = write_ecdc(model, clip, lm, 4)
    streams = {"clean": data, "bad": flip_byte(data, model, 0.0).data, "cut": data[:-1]}
    rows, pairs = payload_decode_matrix(
        streams, model, lm, devices=("cpu", "cuda:99"), pairs=[("clean", "bad"), ("clean", "cut")]
    )
    clean, bad, cut = (row for _, row in rows[:3].iterrows())
    assert (clean.file, clean.device, clean.success, clean.sr) == ("clean", "cpu", True, 48_000)
    assert (clean["shape"], clean["dtype"]) == ((2, 50_000), "float32")
    assert (bad.success, bad.damaged_segments) == (False, 1)
    assert "checksum" in bad.error
    assert (cut.success, np.isnan(cut.sr)) == (False, True)
    assert "claims" in cut.error
    assert rows.success[3:].tolist() == [False] * 3
    assert "cuda:99" in rows.error[3]
    assert all_noticed(rows, ["bad", "cut"])
    here = rows[:3]
    assert not all_noticed(here, ["bad", "clean"])
    assert not all_noticed(here.assign(error=here.error.where(here.file != "bad", "")), ["bad"]), "nobody looked"
    first, second = (row for _, row in pairs[:2].iterrows())
    assert (first.clean, first.corrupt, first.device, first.success) == ("clean", "bad", "cpu", True)
    assert first.corruption_max_abs == pytest.approx(clean.max_abs, rel=1)
    assert (second.success, np.isnan(second.corruption_mae)) == (False, True)
    assert next(model.parameters()).device.type == "cpu"
    with pytest.raises(UnsupportedInput, match="other"):
        payload_decode_matrix(streams, model, lm, pairs=[("clean", "other")])


def test_compare_decodes() -> None:
    samples = np.zeros((2, 100), dtype=np.float32)
    bad = samples.copy()
    bad[1, 20], bad[0, 59], bad[0, 70] = 0.5, -0.25, 0.0005
    found = compare_decodes(Clip(samples, 10), Clip(bad, 10))
    assert (found.first_bad_sample, found.last_bad_sample, found.bad_duration_s, found.max_abs) == (20, 59, 4.0, 0.5)
    assert found.mae == pytest.approx((0.5 + 0.25 + 0.0005) / 200)
    same = compare_decodes(Clip(samples, 10), Clip(samples[:, :50], 10))
    assert (same.first_bad_sample, same.bad_duration_s, same.max_abs) == (None, None, 0.0)
    with pytest.raises(UnsupportedInput, match="two decodes"):
        compare_decodes(Clip(samples, 10), Clip(samples, 20))


def test_flip_byte(case: tuple) -> None:
    model, lm, clip = case
    data = write_ecdc(model, clip, lm, 4)
    last = flip_byte(data, model, 1.0)
    assert (last.absolute_byte, last.chunk_index) == (len(data) - 1, 1)
    assert last.data[:-1] == data[:-1]
    assert last.data[-1] == data[-1] ^ 1
    with pytest.raises(UnsupportedInput, match=r"fraction=1\.5"):
        flip_byte(data, model, 1.5)
    with pytest.raises(CorruptInput, match=r"cut off|damaged"):
        flip_byte(data[:-1], model, 0)
