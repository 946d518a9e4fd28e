import importlib.util
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from codecbook.lm.__main__ import main
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.model_files import load_lm
from codecbook.models.store import tensors_sha256, write_model
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


def test_train_continues_saves_and_is_inspected(tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    command = ["train", str(tokens), "--out", str(run), "--device", "cpu", "--held-out-every", "4", *MODEL, *TRAINING]
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

    assert main(["inspect", str(model)]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[1] == f"SHA-256 {loaded.sha256}"
    assert {"dim: 16", "order: parallel"} <= set(shown)

    assert main([*command, "--steps", "3", "--learning-rate", "0.5"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_tensorboard_gets_events_or_its_absence_is_said(
    tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    command = ["train", str(tokens), "--out", str(tmp_path / "run"), "--steps", "1", "--device", "cpu", "--tensorboard"]
    command += [*MODEL, *TRAINING, "--window-frames", "8", "--head-dim", "8", "--head-hidden", "8"]
    status = main(command)
    if importlib.util.find_spec("tensorboard") is None:
        assert status == 2
        assert "pip install tensorboard" in capfd.readouterr().err
    else:
        assert status == 0
        assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_flat_model_reads_a_flat_stream(tokens: Path, tmp_path: Path) -> None:
    command = ["train", str(tokens), "--out", str(tmp_path / "run"), "--save", str(tmp_path / "model"), "--steps", "1"]
    assert main([*command, "--architecture", "tiny_gpt", "--context", "16", "--device", "cpu", *MODEL, *TRAINING]) == 0
    assert load_lm(tmp_path / "model").model.codebook_sizes == (32,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nothing"], "There is no checkpoint nothing"),
        (["inspect", "FOREIGN/a.wav"], "a.wav is no complete checkpoint"),
        (["inspect", "FOREIGN/empty"], "empty is no complete checkpoint"),
        (["inspect", "FOREIGN/a.npz"], "a.npz is NPZ, which does not say of what; pass --bark"),
        (["inspect", "FOREIGN"], "a.npz is NPZ"),
        (["inspect", "FOREIGN/codec"], "'encodec'"),
        (["train", "nothing", "--out", "run"], "nothing"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--device", "foo"], "The device 'foo' cannot be used"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--device", "meta"], "The device 'meta' cannot be used"),
        (["train", "TOKENS", "--out", "TOKENS/0.npq"], "0.npq is no folder"),
        (["train", "TOKENS", "--out", "run", "--save", "TOKENS/0.npq/model"], "0.npq is no folder"),
        (["train", "TOKENS", "--out", "run", "--steps", "0"], "budget"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--context-frames", "999", "--stride-frames", "1"], "999"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--heads", "7"], "--heads 7"),
        (["train", "TOKENS", "--out", "run", "--steps", "1", "--window-frames", "0"], "--window-frames 0"),
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
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    soundfile.write(foreign / "a.wav", np.zeros(100), 16_000)
    (foreign / "empty").touch()
    np.savez(foreign / "a.npz", fine_prompt=np.zeros((8, 5), dtype=np.uint16))
    codec = {"architecture": "encodec", "arguments": {}, "sha256": tensors_sha256({"a": torch.zeros(1)})}
    write_model(foreign / "codec", safetensors.torch.save({"a": torch.zeros(1)}), codec)
    # whether it is installed here or not
    monkeypatch.setattr("codecbook.training.log.importlib.util.find_spec", lambda name: None)
    assert main([word.replace("TOKENS", str(tokens)).replace("FOREIGN", str(foreign)) for word in arguments]) == 2
    error = capfd.readouterr().err
    assert error.startswith("codecbook: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("content", ['{"format": 1, "architecture": "exact"}', '{"model_type": "gpt2"}', "null"])
def test_a_folder_of_another_kind_is_refused_before_training(
    content: str, tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config = tmp_path / "other" / "config.json"
    config.parent.mkdir()
    config.write_text(content)
    command = ["train", str(tokens), "--out", str(tmp_path / "run"), "--steps", "1", *MODEL, *TRAINING]
    assert main([*command, "--save", str(config.parent)]) == 2
    error = capfd.readouterr().err
    assert str(config) in error
    assert "choose another folder" in error
    assert error.count("\n") == 1
    assert config.read_text() == content
    assert not (tmp_path / "run").exists()


def test_the_corpus_of_a_run_is_recorded_and_another_one_refused(
    tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    command = ["train", str(tokens), "--out", str(tmp_path / "run"), *MODEL, *TRAINING]
    command += ["--window-frames", "8", "--head-dim", "8", "--head-hidden", "8", "--device", "cpu"]
    assert main([*command, "--steps", "1"]) == 0
    (tokens / "0.npq").rename(tokens / "renamed.npq")
    assert main([*command, "--steps", "2"]) == 0
    held_out = Corpus.from_files(tokens).split()[1].clips
    (tokens / next(f"{name}.npq" for name in ("1", "2", "3") if name not in held_out)).unlink()
    capfd.readouterr()
    assert main([*command, "--steps", "3"]) == 2
    error = capfd.readouterr().err
    assert "had another corpus (removed: " in error
    assert error.endswith("take that, or set --changed-corpus.\n")
    assert main([*command, "--steps", "3", "--changed-corpus"]) == 0


@pytest.mark.parametrize("threads", ["-1", "two", "1.5", ""])
def test_impossible_threads_are_refused(threads: str, tokens: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", str(tokens), "--out", "run", "--threads", threads])
    assert caught.value.code == 2
    assert f"{threads!r} is no number of threads" in capfd.readouterr().err


def test_token_files_are_inspected_as_train_reads_them(
    tokens: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert main(["inspect", str(tokens)]) == 0
    assert "Corpus(4 clips, 160 tokens, " in capfd.readouterr().out
    np.savez(tmp_path / "a.npz", fine_prompt=np.zeros((8, 5), dtype=np.uint16))
    assert main(["inspect", str(tmp_path / "a.npz"), "--bark"]) == 0
    shown = capfd.readouterr().out
    assert "Corpus(1 clips, 40 tokens, " in shown
    assert "encodec_24khz" in shown
