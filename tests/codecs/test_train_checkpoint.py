from dataclasses import asdict, replace

import pytest
import torch

from codecbook.codecs.train_checkpoint import read_checkpoint, write_checkpoint
from codecbook.codecs.train_data import Crops
from codecbook.codecs.train_loop import Trainer
from codecbook.codecs.train_schedule import Budget
from codecbook.errors import CorruptInput, UnsupportedInput


@pytest.fixture
def recipe(tiny_recipe):
    return tiny_recipe()


@pytest.fixture
def path(tmp_path, recipe):
    path = tmp_path / "run" / "checkpoint.pt"
    write_checkpoint(path, {"recipe": asdict(recipe), "step": 3, "weight": torch.arange(1000.0)})
    return path


def test_what_was_written_is_read(path, recipe):
    state = read_checkpoint(path, asdict(recipe))
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["weight"], torch.arange(1000.0))


def test_no_checkpoint_is_no_error(tmp_path, recipe):
    assert read_checkpoint(tmp_path / "checkpoint.pt", asdict(recipe)) is None


def test_a_new_checkpoint_takes_the_place_of_the_old_one_alone(path, recipe):
    write_checkpoint(path, {"recipe": asdict(recipe), "step": 4})
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]
    state = read_checkpoint(path, asdict(recipe))
    assert state is not None
    assert state["step"] == 4


def test_who_is_interrupted_leaves_the_old_one_intact(path, recipe, monkeypatch):
    def interrupt(_file_number):
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr("codecbook.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"recipe": asdict(recipe), "step": 4})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, recipe, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CorruptInput, match=r"checkpoint\.pt is no complete checkpoint .*; delete it"):
        read_checkpoint(path, asdict(recipe))


@pytest.mark.parametrize("data", [b"hello", b"PK\x03\x04", bytes(100), b"\n" * 50])
def test_a_file_of_another_kind_is_refused(path, recipe, data):
    path.write_bytes(data)
    with pytest.raises(CorruptInput, match="is no complete checkpoint"):
        read_checkpoint(path, asdict(recipe))


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"step": 3}, {"recipe": 7}, None])
def test_an_object_of_another_kind_is_refused(path, recipe, content):
    torch.save(content, path)
    with pytest.raises(CorruptInput, match="is no complete checkpoint"):
        read_checkpoint(path, asdict(recipe))


def test_another_recipe_is_refused_and_the_difference_named(path, recipe):
    other = replace(recipe, learning_rate=1.0, arguments={**recipe.arguments, "num_filters": 4})
    with pytest.raises(
        UnsupportedInput, match=r"\(different: arguments, learning_rate\); choose another --out"
    ):
        read_checkpoint(path, asdict(other))


@pytest.mark.parametrize("damage", ["another recipe", "truncated"])
def test_a_run_that_is_refused_overwrites_nothing(tmp_path, recipe, tones, damage):
    crops = Crops([tones(2)], [1.0], 0)
    Trainer(recipe, crops, Budget(steps=10), tmp_path).run(1)
    path = tmp_path / "checkpoint.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        recipe = replace(recipe, seed=1)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    error = CorruptInput if damage == "truncated" else UnsupportedInput
    with pytest.raises(
        error, match="is no complete checkpoint" if damage == "truncated" else "different: seed"
    ):
        Trainer(recipe, crops, Budget(steps=10), tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_run_of_another_number_of_processes_is_refused(tmp_path, recipe, tones):
    crops = Crops([tones(2)], [1.0], 0)
    Trainer(recipe, crops, Budget(steps=10), tmp_path).run(1)
    path = tmp_path / "checkpoint.pt"
    state = read_checkpoint(path, asdict(recipe))
    assert state is not None
    write_checkpoint(path, {**state, "crops": state["crops"] * 2})
    with pytest.raises(UnsupportedInput, match="made by 2 processes, and 1 would go on; start 2"):
        Trainer(recipe, crops, Budget(steps=10), tmp_path)
