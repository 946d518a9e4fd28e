import os

import pytest
import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.models.weights import parse_weights, read_state


@pytest.mark.parametrize("text", ["random:x", "random:", "random:-1", f"random:{1 << 63}", "random:" + "9" * 5000, ""])
def test_a_seed_that_is_no_number_is_refused(text):
    with pytest.raises(UnsupportedInput, match="random:0"):
        parse_weights("mimi", text)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no weights at all"])
@pytest.mark.parametrize("name", ["weights.th", "weights.safetensors"])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptInput, match="could not be read as weights"):
        read_state(tmp_path / name)


def test_a_file_that_holds_code_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"a": Attack()}, tmp_path / "weights.th")
    with pytest.raises(CorruptInput, match="could not be read as weights"):
        read_state(tmp_path / "weights.th")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "weights.th")
    with pytest.raises(CorruptInput, match="no state dict"):
        read_state(tmp_path / "weights.th")
