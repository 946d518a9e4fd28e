import re
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import save_file

from codecbook.audio import Clip
from codecbook.probes.weights.__main__ import main
from codecbook.probes.weights.container import account


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weight = torch.randn(64, 32).half()
    tensors = {"a.weight": weight, "b.weight": weight.clone(), "mlp.weight": torch.randn(9, 40), "n": torch.arange(4)}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_file_is_made_shown_and_verified(weights: Path, tmp_path: Path, capsys) -> None:
    small = tmp_path / "small.cbw"
    assert main(["compress", str(weights), "--out", str(small)]) == 0
    shown = out(capsys)
    assert f"{small.stat().st_size} bytes in all" in shown
    assert main(["inspect", str(small)]) == 0
    assert out(capsys) == shown
    assert main(["verify", str(weights), str(small)]) == 0
    assert out(capsys).count("same bits") == 3
    assert main(["compress", str(weights), "--scheme", "int8_row", "--out", str(small), "--overwrite"]) == 0
    assert set(account(small).scheme) == {"int8_row", "tied", "bytes", ""}
    assert main(["verify", str(weights), str(small)]) == 0
    assert re.search(r"^mlp.weight +int8_row +0\.00\d+$", out(capsys), re.MULTILINE)


def test_a_codec_and_a_language_model_are_compressed_by_what_matters(
    codec_folder: Path, lm_folder: Path, clip: Clip, tmp_path: Path, capsys
) -> None:
    small, recordings = tmp_path / "small.cbw", tmp_path / "recordings"
    recordings.mkdir()
    soundfile.write(recordings / "a.wav", clip.samples[0], clip.sample_rate_hz)
    command = ["compress", str(codec_folder), "--step", "1e-3", "--calibrate", str(recordings)]
    assert main([*command, "--out", str(small)]) == 0
    assert "uniform" in out(capsys)
    assert main(["verify", str(codec_folder), str(small)]) == 0
    assert "all checksums hold" in out(capsys)
    assert main(["verify", str(lm_folder), str(small)]) == 2
    assert "was made of another model" in capsys.readouterr().err
    assert main(["compress", str(lm_folder), "--scheme", "nf4_g64", "--out", str(tmp_path / "lm.cbw")]) == 0
    assert main(["verify", str(lm_folder), str(tmp_path / "lm.cbw")]) == 0


def test_another_file_of_the_same_shapes_is_told(weights: Path, tmp_path: Path, capsys) -> None:
    main(["compress", str(weights), "--out", str(tmp_path / "small.cbw")])
    other = {"a.weight": torch.zeros(64, 32).half(), "b.weight": torch.ones(64, 32).half(),
             "mlp.weight": torch.zeros(9, 40), "n": torch.arange(4)}  # fmt: skip
    save_file(other, weights)
    assert main(["verify", str(weights), str(tmp_path / "small.cbw")]) == 1
    assert "different: a.weight, mlp.weight" in out(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compress", "{w}", "--out", "{o}", "--scheme", "int3"], "no scheme 'int3'"),
        (["compress", "{w}", "--out", "{o}", "--step", "1e-3"], "--step needs a model that codecbook runs"),
        (["compress", "{w}", "--out", "{w}"], "--overwrite"),
        (["compress", "{t}/none", "--out", "{o}"], "There are no weights at"),
        (["compress", "encodec_25khz", "--out", "{o}"], "There are no weights at"),
        (["inspect", "{w}"], "is no .cbw file"),
        (["inspect", "{t}/none.cbw"], "There is no file"),
        (["verify", "{w}", "{w}"], "is no .cbw file"),
        (["verify", "{t}/none", "{w}"], "There are no weights at"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], said: str, weights, tmp_path, capsys) -> None:
    named = {"w": weights, "o": tmp_path / "out.cbw", "t": tmp_path}
    assert main([argument.format(**named) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.cbw").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "command"),
        (["shrink"], "shrink"),
        (["compress", "encodec_24khz"], "--out"),
        (["compress", "encodec_24khz", "--out", "x", "--step", "0"], "--step"),
        (["compress", "encodec_24khz", "--out", "x", "--step", "nan"], "--step"),
        (["compress", "encodec_24khz", "--out", "x", "--step", "1", "--scheme", "raw"], "--scheme"),
        (["compress", "encodec_24khz", "--out", "x", "--steps", "1"], "--step"),
        (["compress", "encodec_24khz", "--out", "x", "--sound-step", "-1"], "--sound-step"),
    ],
)
def test_mistyped_commands_are_refused(arguments: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_folder_without_recordings_is_said(codec_folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    command = ["compress", str(codec_folder), "--step", "1e-3", "--calibrate", str(tmp_path / "empty")]
    assert main([*command, "--out", str(tmp_path / "x.cbw")]) == 2
    assert "No audio file" in capsys.readouterr().err


def test_a_truncated_model_is_said(weights: Path, tmp_path: Path, capsys) -> None:
    weights.write_bytes(weights.read_bytes()[:-5])
    assert main(["compress", str(weights), "--out", str(tmp_path / "x.cbw")]) == 2
    assert "or damaged" in capsys.readouterr().err
