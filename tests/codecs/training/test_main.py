import csv
import json

import numpy as np
import pytest
import torch

from codecbook.audio import clip_from_array, load, save
from codecbook.codecs.build import random_seeded
from codecbook.codecs.loading import load_model
from codecbook.codecs.training import __main__ as train
from codecbook.codecs.training.data import split_files


@pytest.fixture(autouse=True)
def denormals():
    """The command has tiny numbers flushed to nought, which other tests must not inherit."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def recordings(tmp_path, tones):
    for number, samples in enumerate(tones(2)):
        save(clip_from_array(samples, 16_000), tmp_path / "speech" / f"{number}.wav")
    return tmp_path / "speech"


@pytest.fixture
def command(tmp_path, monkeypatch, tiny_recipe, recordings):
    monkeypatch.setitem(train.RECIPES, "tiny", tiny_recipe())

    def run(*more, data=str(recordings), steps=5):
        arguments = ["--recipe", "tiny", "--data", data, "--out", str(tmp_path / "run")]
        return train.main([*arguments, "--steps", str(steps), "--hold-out-every", "2", *more])

    return run


def test_a_model_comes_out_and_a_second_call_finds_it_finished(command, tmp_path, tiny_recipe, capsys):
    out = tmp_path / "run"
    assert command() == 0
    assert "parameters; model in" in capsys.readouterr().out
    module, config = load_model(out / "model")
    assert config["architecture"] == "encodec"
    assert config["arguments"] == tiny_recipe().arguments
    provenance = config["provenance"]
    assert (provenance["recipe"], provenance["steps"], provenance["seed"]) == ("tiny", 5, 0)
    assert provenance["data"] == [f"{tmp_path.name}/speech=1"], "the folder's name, not where it lies"
    assert (provenance["hold_out_every"], provenance["hold_out"]) == (2, [])
    untrained = random_seeded("encodec", tiny_recipe().arguments, 0).state_dict()
    assert not all(torch.equal(v, untrained[n]) for n, v in module.state_dict().items())

    assert command() == 0
    _, again = load_model(out / "model")
    assert again["sha256"] == config["sha256"]
    assert again["provenance"]["steps"] == 5


def test_held_out_recordings_are_decoded_as_examples(command, tmp_path, recordings):
    assert command() == 0
    examples = tmp_path / "run" / "examples"
    _, (held,) = split_files(recordings, 2)
    name = f"1_{held.stem}"
    assert sorted(path.name for path in examples.iterdir()) == [f"{name}.decoded.wav", f"{name}.original.wav"]
    original, decoded = (load(examples / f"{name}.{kind}.wav") for kind in ("original", "decoded"))
    # 16-bit file by way of float16
    np.testing.assert_allclose(original.samples, load(held).samples, rtol=0, atol=2**-11)
    assert decoded.samples.shape == original.samples.shape
    assert np.abs(decoded.samples).max() > 0


def test_a_longer_budget_goes_on_from_the_checkpoint(command, tmp_path):
    assert command(steps=3) == 0
    _, short = load_model(tmp_path / "run" / "model")
    assert command(steps=6) == 0
    _, longer = load_model(tmp_path / "run" / "model")
    assert longer["provenance"]["steps"] == 6
    assert longer["sha256"] != short["sha256"]


@pytest.mark.parametrize(
    ("data", "steps", "message"),
    [
        ("absent", 5, "There is no folder absent"),
        ("speech=much", 5, "the share after '=' must be a positive number"),
        ("=0.5", 5, "names no folder"),
        (None, 0, "A budget of --steps 0"),
    ],
)
def test_bad_input_is_told_in_one_line(command, tmp_path, capsys, data, steps, message):
    arguments = {} if data is None else {"data": data}
    assert command(steps=steps, **arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("codecbook: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_recipe_is_left_alone(command, tmp_path, monkeypatch, tiny_recipe, capsys):
    assert command(steps=1) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    monkeypatch.setitem(train.RECIPES, "tiny", tiny_recipe(learning_rate=1e-5))
    assert command(steps=1) == 2
    assert "learning_rate: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("arguments", [[], ["--steps", "3", "--minutes", "1"], ["--recipe", "unknown"]])
def test_the_parser_asks_for_recipe_data_and_one_budget(arguments, capsys):
    base = ["--recipe", "encodec_24khz_mini", "--data", "speech", "--out", "run"]
    with pytest.raises(SystemExit, match="2"):
        train.main([*base, *arguments])
    error = capsys.readouterr().err
    assert error.startswith("codecbook: ")
    assert error.endswith("; see python -m codecbook.codecs.training --help\n")
    assert error.count("\n") == 1


def test_training_goes_on_with_a_finished_model(command, tmp_path):
    assert command() == 0
    _, first = load_model(tmp_path / "run" / "model")
    assert command("--start-from", str(tmp_path / "run" / "model"), "--out", str(tmp_path / "more"), steps=10) == 0
    _, more = load_model(tmp_path / "more" / "model")
    assert more["provenance"]["started_from"] == first["sha256"]
    assert more["sha256"] != first["sha256"]
    phases = {json.loads(line)["phase"] for line in (tmp_path / "more" / "log.jsonl").read_text().splitlines()}
    assert "autoencoder" not in phases


def test_a_decoder_alone_leaves_all_codes_as_they_are(command, tmp_path, capsys):
    assert command() == 0
    start = tmp_path / "run" / "model"
    more = ("--start-from", str(start), "--decoder-alone", "--out", str(tmp_path / "more"))
    assert command(*more, steps=10) == 0
    before, after = (load_model(folder)[0].state_dict() for folder in (start, tmp_path / "more" / "model"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}
    assert command("--decoder-alone", "--out", str(tmp_path / "none")) == 2
    assert "name the model with --start-from" in capsys.readouterr().err


def test_a_model_of_another_shape_is_no_start(command, tmp_path, monkeypatch, tiny_recipe, capsys):
    assert command(steps=1) == 0
    other = tiny_recipe(arguments={**tiny_recipe().arguments, "hidden_dim": 12})
    monkeypatch.setitem(train.RECIPES, "tiny", other)
    assert command("--start-from", str(tmp_path / "run" / "model"), "--out", str(tmp_path / "more")) == 2
    assert "take that" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


def test_a_run_records_its_recordings_and_refuses_others(command, tmp_path, recordings, tones, capsys):
    assert command(steps=2) == 0
    with (tmp_path / "run" / "corpus.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["clip"], row["side"]) for row in rows) == [
        (f"speech/{path.name}", "held_out" if path in split_files(recordings, 2)[1] else "train")
        for path in sorted(recordings.iterdir())
    ]
    save(clip_from_array(tones(3)[2], 16_000), recordings / "2.wav")
    assert command(steps=3) == 2
    error = capsys.readouterr().err
    assert "another corpus (added: speech/2.wav" in error
    assert error.count("\n") == 1
    assert command("--changed-corpus", steps=3) == 0
    assert "speech/2.wav" in (tmp_path / "run" / "corpus.csv").read_text()
    assert command(steps=4) == 0


def test_a_place_that_cannot_take_the_model_is_refused_before_training(command, tmp_path, capsys):
    other = tmp_path / "run" / "model" / "config.json"
    other.parent.mkdir(parents=True)
    for content in ('{"format": 1, "architecture": "tiny_gpt"}', '{"model_type": "encodec"}', "[]"):
        other.write_text(content)
        assert command() == 2
        assert str(other) in capsys.readouterr().err
        assert [path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file()] == [content]
    (tmp_path / "file").touch()
    assert command("--out", str(tmp_path / "file")) == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_one_line(command, tmp_path, capsys, device):
    assert command("--device", device) == 2
    error = capsys.readouterr().err
    assert f"The device {device!r} cannot be used here" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
