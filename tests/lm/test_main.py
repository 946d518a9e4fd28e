import importlib.util
from pathlib import Path

import numpy as np
import pytest

from codecbook.lm import load_lm
from codecbook.lm.__main__ import main
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.npq import write_npq

MODEL = ["--dim", "16", "--layers", "1", "--heads", "2", "--hidden", "16"]
TRAINING = ["--context-frames", "16", "--stride-frames", "16", "--batch-size", "2", "--evaluations", "1"]


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "tokens"
    folder.mkdir()
    for clip in range(4):
        write_npq(folder / f"{clip}.npq", tokens_from_frames(rng.integers(0, 16, (20, 2)), 16, 75.0))
    return folder


def test_train_continues_saves_and_is_inspected(
    tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    command = [
        "train",
        str(tokens),
        "--out",
        str(run),
        "--device",
        "cpu",
        "--held-out-every",
        "4",
        *MODEL,
        *TRAINING,
    ]
    command += ["--window-frames", "8", "--head-dim", "8", "--head-hidden", "8", "--codebook-weights", "auto"]
    assert main([*command, "--steps", "2"]) == 0
    assert "2 steps" in capfd.readouterr().out
    assert main([*command, "--steps", "3", "--save", str(model)]) == 0
    assert "going on from step 2" in capfd.readouterr().out
    loaded = load_lm(model)
    assert loaded.model.codebook_sizes == (16, 16)
    assert loaded.config["provenance"]["order"] == "parallel"

    assert main(["inspect", str(run)]) == 0
    shown = capfd.readouterr().out
    assert "rvq_transformer" in shown
    assert "step 3" in shown
    assert "blocks.0.attention.query_key_value.weight" in shown

    assert main([*command, "--steps", "3", "--learning-rate", "0.5"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_tensorboard_gets_events_or_its_absence_is_said(
    tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    command = [
        "train",
        str(tokens),
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "1",
        "--device",
        "cpu",
        "--tensorboard",
    ]
    command += [*MODEL, *TRAINING, "--window-frames", "8", "--head-dim", "8", "--head-hidden", "8"]
    status = main(command)
    if importlib.util.find_spec("tensorboard") is None:
        assert status == 2
        assert "pip install tensorboard" in capfd.readouterr().err
    else:
        assert status == 0
        assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_flat_model_reads_a_flat_stream(tokens: Path, tmp_path: Path) -> None:
    command = [
        "train",
        str(tokens),
        "--out",
        str(tmp_path / "run"),
        "--save",
        str(tmp_path / "model"),
        "--steps",
        "1",
    ]
    assert (
        main(
            [*command, "--architecture", "tiny_gpt", "--context", "16", "--device", "cpu", *MODEL, *TRAINING]
        )
        == 0
    )
    assert load_lm(tmp_path / "model").model.codebook_sizes == (32,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nothing"], "There is no checkpoint nothing"),
        (["train", "nothing", "--out", "run"], "nothing"),
        (["train", "TOKENS", "--out", "run", "--steps", "0"], "budget"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--context-frames", "999", "--stride-frames", "1"], "999"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--heads", "7"], "heads=7"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--window-frames", "0"], "window_frames=0"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--wandb", "x"], "wandb is not installed"),
    ],
)  # fmt: skip
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    tokens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    # whether it is installed here or not
    monkeypatch.setattr("codecbook.lm.trackers.importlib.util.find_spec", lambda name: None)
    assert main([str(tokens) if word == "TOKENS" else word for word in arguments]) == 2
    error = capfd.readouterr().err
    assert error.startswith("codecbook: ")
    assert error.count("\n") == 1
    assert message in error
