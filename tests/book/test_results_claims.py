import json

import nbformat
import nbformat.v4 as nbf
import numpy as np
import pytest

from codecbook.book import claims, results
from codecbook.errors import UnsupportedInput

CELL = 'clips: int = 3\nclips_dir: str = ""  # own recordings'


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Begin a stage whose notebook has `CELL` for its parameters."""
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("CODECBOOK_DATA", raising=False)
    monkeypatch.setattr(results, "repository_dir", lambda: tmp_path)
    (tmp_path / "notebooks").mkdir()
    notebook = nbf.new_notebook(cells=[nbf.new_code_cell(CELL, metadata={"tags": ["parameters"]})])
    nbformat.write(notebook, tmp_path / "notebooks" / "01_a.ipynb")
    return lambda **changed: results.begin("01_a", {"clips": 3, "clips_dir": "", **changed})


def stored(tmp_path):
    return json.loads((tmp_path / "run" / "results" / "01_a.json").read_text())


def test_claims_are_kept_in_order_with_what_decided(begin, tmp_path, capsys):
    run = begin()
    shown_by_a_cell = run.claim("bits fall", np.bool_(True), np.float32(0.123456))
    assert shown_by_a_cell is None, "the claim's own display is all that a cell that ends in it shows"
    run.claim("it is\n fast", False, "9.4 times", basis="machine")
    run.claim("an interval excludes 0", None, "one clip has no interval")
    run.finish()
    assert stored(tmp_path)["claims"] == [
        {"text": "bits fall", "holds": True, "hard": True, "figure": "0.1235"},
        {"text": "it is fast", "holds": False, "hard": False, "figure": "9.4 times"},
        {"text": "an interval excludes 0", "holds": None, "hard": True, "figure": "one clip has no interval"},
    ]
    assert "✗ it is fast: does not hold here (9.4 times)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("judged", "holds", "figure"),
    [
        ({"a": (0.5, True), "b": (np.float32(0.25), np.bool_(True))}, True, "a 0.5; b 0.25"),
        ({"a": (0.5, True), "b": ("0.2 dB", np.bool_(False))}, False, "a 0.5; b 0.2 dB"),
        ({"a": (0.5, True), "b": ("one clip", None)}, None, "a 0.5; b one clip"),
        ({"a": (0.5, False), "b": ("one clip", None)}, False, "a 0.5; b one clip"),
        ({}, None, "no codecs"),
    ],
)
def test_a_claim_of_all_fails_with_the_first_that_fails(begin, tmp_path, judged, holds, figure):
    run = begin()
    run.claim_of_all("codecs agree", judged, "no codecs", basis="machine")
    run.finish()
    (kept,) = stored(tmp_path)["claims"]
    assert (kept["holds"], kept["figure"]) == (holds, figure)


@pytest.mark.parametrize(
    ("changed", "own_data", "basis", "fails"),
    [
        ({}, "", "data", True),
        ({}, "", "construction", True),
        ({}, "", "machine", False),
        ({"clips_dir": "mine"}, "", "data", False),
        ({"clips": 4}, "", "data", False),
        ({}, "recordings of CODECBOOK_EXTRA", "data", False),
        ({"clips_dir": "mine"}, "", "construction", True),
        ({}, "recordings of CODECBOOK_EXTRA", "construction", True),
    ],
)
def test_what_a_claim_rests_on_decides_whether_it_fails_the_run(begin, tmp_path, changed, own_data, basis, fails):
    run = begin(**changed)
    if own_data:
        run.uses(own_data)
    run.record(clips=3)
    run.claim("bits fall", False, 0.25, basis=basis)
    if fails:
        with pytest.raises(claims.ClaimsFailed, match=r"1 of 1 claims .* bits fall \(0\.25\)"):
            run.finish()
    else:
        run.finish()
    assert stored(tmp_path)["clips"] == 3, "everything is written, whatever fails"
    assert stored(tmp_path)["claims"][0]["hard"] is fails
    assert stored(tmp_path)["provenance"].get("own_data", "") == own_data


def test_another_data_folder_is_own_data(begin, monkeypatch, tmp_path):
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    run = begin()
    run.claim("bits fall", False)
    assert run.finish()["claims"][0]["hard"] is False


@pytest.mark.parametrize(
    ("text", "holds", "figure", "basis"),
    [
        ("", True, "", "data"),
        ("a", np.array([True]), "", "data"),
        ("a", 1, "", "data"),
        ("a", None, "", "data"),
        ("a", True, "", "luck"),
    ],
)
def test_a_claim_that_says_nothing_is_refused(begin, text, holds, figure, basis):
    with pytest.raises(UnsupportedInput):
        begin().claim(text, holds, figure, basis)


def test_the_page_of_a_claim_is_escaped(capsys):
    claim = claims.judge("a < b & c", False, "<3>", hard=True)
    assert claim.sentence == "a < b & c: does not hold, and must (<3>)"
    claim.show()
    assert "✗ a < b & c" in capsys.readouterr().out


def test_not_finite_figures_can_be_shown():
    assert claims.judge("a", False, float("nan"), hard=False).figure == "nan"
