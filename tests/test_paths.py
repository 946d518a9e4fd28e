import pytest

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
    with pytest.raises(CodecbookError, match=r"gone', which is no folder; correct it, or unset it"):
        paths.extra_dir()
