import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecbook import paths
from codecbook.errors import CodecbookError


def test_the_repository_is_where_pyproject_lies():
    assert (paths.repository_dir() / "pyproject.toml").is_file()


def test_data_dir_is_the_checkouts_unless_the_environment_names_another(monkeypatch, tmp_path):
    monkeypatch.delenv("CODECBOOK_DATA", raising=False)
    assert paths.data_dir() == paths.repository_dir() / "data"
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    assert paths.data_dir() == tmp_path


def test_a_data_dir_that_does_not_exist_is_named_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path / "gone"))
    with pytest.raises(CodecbookError, match=r"gone does not exist.*set CODECBOOK_DATA"):
        paths.data_dir()


@pytest.mark.parametrize("value", [None, ""])
def test_extra_dir_is_none_without_the_variable(monkeypatch, value):
    monkeypatch.delenv("CODECBOOK_EXTRA", raising=False)
    if value is not None:
        monkeypatch.setenv("CODECBOOK_EXTRA", value)
    assert paths.extra_dir() is None


def test_extra_dir_is_absolute(monkeypatch, tmp_path):
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECBOOK_EXTRA", "more")
    assert paths.extra_dir() == (tmp_path / "more").resolve()


def test_an_extra_dir_that_does_not_exist_is_named_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("CODECBOOK_EXTRA", str(tmp_path / "gone"))
    with pytest.raises(CodecbookError, match=r"gone', which is no folder; correct or unset it"):
        paths.extra_dir()


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_any_name_is_text_on_one_line_and_can_be_read_back(name):
    text = paths.path_as_text(os.fsdecode(name))
    assert "\n" not in text
    text.encode()
    assert os.fsencode(paths.path_from_text(text)) == os.path.normpath(name)


def test_ordinary_names_stay_as_they_are():
    assert paths.path_as_text("Füße/50 % [live].wav") == "Füße/50 % [live].wav"
    assert paths.path_as_text(os.fsdecode(b"caf\xe9\\.wav")) == r"caf\xe9\x5c.wav"
