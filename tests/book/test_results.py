import json
import os

import numpy as np
import pytest

from codecbook.book import results
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput


@pytest.fixture
def batch_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("CODECBOOK_RUN_DIR", raising=False)
    monkeypatch.setattr(results, "repository_dir", lambda: tmp_path)
    return tmp_path


def test_finish_writes_figures_in_order_with_provenance(batch_dir):
    run = results.begin("02_entropy_model", {"seed": 7, "codec": "encodec_24khz"})
    run.record(bits_per_token=np.float32(8.5), tokens=np.int64(300), repeatable=np.bool_(True))
    run.record({"exact.frame_ms": 1, "weights": "bundled"})
    run.skip("pesq", "not installed")
    returned = run.finish()
    stored = json.loads((batch_dir / "results" / "02_entropy_model.json").read_text())
    assert stored == returned == results.read("02_entropy_model")
    assert list(stored) == [
        "bits_per_token", "tokens", "repeatable", "exact.frame_ms", "weights", "skipped.pesq", "headlines",
        "claims", "provenance",
    ]  # fmt: skip
    assert stored["bits_per_token"] == 8.5
    assert stored["repeatable"] is True
    assert stored["provenance"]["seed"] == 7
    assert stored["provenance"]["parameters"]["codec"] == "encodec_24khz"
    assert [path.name for path in (batch_dir / "results").iterdir()] == ["02_entropy_model.json"]


def test_skip_takes_any_name_and_loses_none(batch_dir):
    run = results.begin("a", {})
    run.skip("My Clip-1.WAV", "unreadable")
    run.skip("My Clip_1.WAV", "silent")
    run.skip("???", "no name")
    assert run.figures == {
        "skipped.my_clip_1_wav": "My Clip-1.WAV: unreadable",
        "skipped.my_clip_1_wav_": "My Clip_1.WAV: silent",
        "skipped.unnamed": "???: no name",
    }


@pytest.mark.parametrize(
    "key", ["BitsPerToken", "bits per token", "bits-per-token", ".x", "x.", "headlines", "claims", "provenance", "1x"]
)
def test_record_refuses_keys_that_are_not_flat_snake_case(batch_dir, key):
    with pytest.raises(UnsupportedInput, match="snake_case"):
        results.begin("a", {}).record({key: 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_record_refuses_numbers_that_are_not_finite(batch_dir, value):
    with pytest.raises(CorruptInput, match=r"run\.skip\('si_sdr_db', reason=\.\.\.\)"):
        results.begin("a", {}).record(si_sdr_db=value)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, np.zeros(2)])
def test_record_refuses_what_is_no_single_figure(batch_dir, value):
    with pytest.raises(UnsupportedInput, match="must be a number, str or bool"):
        results.begin("a", {}).record(figure=value)


@pytest.mark.parametrize("stage", ["../evil", "a/b", "", "."])
def test_stage_names_stay_in_their_folder(batch_dir, stage):
    for function in (lambda: results.begin(stage, {}), lambda: results.read(stage)):
        with pytest.raises(UnsupportedInput, match="no name of a stage"):
            function()


def test_batch_run_reads_its_own_folder_only(batch_dir):
    with pytest.raises(CodecbookError, match=r"\./run_all\.sh 01_tokens"):
        results.read("01_tokens")
    run = results.begin("01_tokens", {})
    (run.artifacts / "table.parquet").write_bytes(b"x")
    assert results.artifact("01_tokens", "table.parquet") == batch_dir / "artifacts/01_tokens/table.parquet"
    with pytest.raises(CodecbookError, match=r"other\.parquet.*run \./run_all\.sh 01_tokens"):
        results.artifact("01_tokens", "other.parquet")


def test_interactive_session_takes_the_newest_results(checkout):
    assert results.begin("a", {}).folder == checkout / "reports" / "interactive"
    for age_s, preset in ((200, "full"), (100, "fast"), (300, "interactive")):
        path = checkout / "reports" / preset / "results" / "a.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"preset": preset}))
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    assert results.read("a") == {"preset": "fast"}
    with pytest.raises(CodecbookError, match=r"run \./run_all\.sh b"):
        results.read("b")


@pytest.mark.parametrize("content", [b'{"x": 1', b"[]", b'{"x": "\xff"}', b"[" * 100_000], ids=lambda b: repr(b[:9]))
def test_damaged_results_are_refused(batch_dir, content):
    (batch_dir / "results").mkdir()
    (batch_dir / "results" / "a.json").write_bytes(content)
    with pytest.raises(CorruptInput, match=r"JSON.*run \./run_all\.sh a"):
        results.read("a")


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), ("", False)])
def test_batch_is_said_by_the_environment(monkeypatch, value, expected):
    monkeypatch.setenv("CODECBOOK_BATCH", value)
    assert results.batch() is expected


def test_a_run_takes_over_what_the_stage_it_builds_on_was_run_with(monkeypatch, tmp_path):
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path))
    first = results.begin("00_index", {"min_free_gb": 1.0, "seed": 0})
    assert first.default
    first.finish()
    second = results.begin("00_index", {"min_free_gb": 1.0, "seed": 0})
    second.builds_on("00_index")
    assert (second.default, second.own_data) == (True, "")
    first.uses("recordings in a folder")
    first.parameters["seed"] = 1
    first.finish()
    second.builds_on("00_index")
    assert (second.default, second.own_data) == (False, "recordings in a folder")
