"""``python -m codecbook.lm export``: from a trained model's folder and tokens to an exact model's folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from codecbook.lm.__main__ import main
from codecbook.lm.exact.files import load_exact
from codecbook.lm.model_files import save_lm
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.npq import write_npq


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "tokens"
    folder.mkdir()
    for clip in range(3):
        write_npq(folder / f"{clip}.npq", tokens_from_frames(rng.integers(0, 11, (20, 4)), 11, 75.0))
    return folder


def test_export_writes_a_certified_model(
    tokens: Path, tmp_path: Path, make_float_model, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = save_lm(tmp_path / "float", make_float_model("in_frame"), {"order": "parallel", "seed": 3})
    command = ["export", str(tmp_path / "float"), str(tokens), "--out", str(tmp_path / "exact"), "--frames", "40"]
    assert main(command) == 0
    exact = load_exact(tmp_path / "exact")
    output = capsys.readouterr().out
    assert exact.sha256 in output
    assert "logits: sum of products" in output
    assert exact.codebook_sizes == (11, 11, 11), "of four codebooks the model's three are read"
    provenance = json.loads((tmp_path / "exact" / "config.json").read_text())["provenance"]
    assert provenance == {"order": "parallel", "seed": 3, "float_sha256": sha256, "calibration_frames": 40}
    assert main([*command, "--overwrite"]) == 0
    # a place that will not do is found before anything is computed
    monkeypatch.setattr("codecbook.lm.__main__.load_lm", None)
    for more, message in (
        ([], "pass --overwrite"),
        (["--overwrite", "--out", str(tmp_path / "float")], "is of another architecture"),
        (["--out", str(tmp_path / "float" / "config.json")], "is no folder"),
    ):
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err


def test_export_refuses_tokens_of_another_vocabulary(
    tokens: Path, tmp_path: Path, make_float_model, capsys: pytest.CaptureFixture
) -> None:
    save_lm(tmp_path / "float", make_float_model("none"), {})
    command = ["export", str(tmp_path / "float"), str(tokens), "--out", str(tmp_path / "exact"), "--order", "flat"]
    assert main(command) == 2
    assert "the model 3 x 11 codes" in capsys.readouterr().err
    assert not (tmp_path / "exact").exists()
