import pytest
import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.training.checkpoint import check_settings, keep_checkpoint, read_checkpoint, write_checkpoint

KEYS = ("settings", "step")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "checkpoint.pt"
    write_checkpoint(path, {"settings": {"rate": 0.5}, "step": 3, "weight": torch.arange(1000.0)})
    return path


def test_what_was_written_is_read(path):
    state = read_checkpoint(path, KEYS)
    assert state["step"] == 3
    assert torch.equal(state["weight"], torch.arange(1000.0))


def test_a_new_checkpoint_takes_the_place_of_the_old_one_alone(path):
    keep_checkpoint(path, "best.pt")
    write_checkpoint(path, {"settings": {}, "step": 4})
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.pt", "checkpoint.pt"]
    assert read_checkpoint(path, KEYS)["step"] == 4
    assert read_checkpoint(path.with_name("best.pt"), KEYS)["step"] == 3


def test_an_interruption_leaves_the_old_one_intact(path, monkeypatch):
    def interrupt(_file_number):
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr("codecbook.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"settings": {}, "step": 4})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CorruptInput, match=r"checkpoint\.pt is no complete checkpoint .*take another"):
        read_checkpoint(path, KEYS)


@pytest.mark.parametrize("data", [b"hello", b"PK\x03\x04", bytes(100), b"\n" * 50])
def test_a_file_of_another_kind_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(CorruptInput, match="is no complete checkpoint"):
        read_checkpoint(path, KEYS)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"step": 3}, None])
def test_an_object_of_another_kind_is_refused(path, content):
    torch.save(content, path)
    with pytest.raises(CorruptInput, match=r"is no complete checkpoint .*settings.* missing"):
        read_checkpoint(path, KEYS)


def test_other_settings_are_refused_and_the_difference_named(path):
    check_settings({"rate": 0.5}, {"rate": 0.5}, path)
    with pytest.raises(UnsupportedInput, match=r"\(dim: 8 there, None here; rate: 0.5 there, 1.0 here\); choose"):
        check_settings({"rate": 0.5, "dim": 8}, {"rate": 1.0}, path)
    with pytest.raises(CorruptInput, match="damaged settings"):
        check_settings(7, {}, path)
