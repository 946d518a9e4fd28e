"""Names that wait for their first use, and libraries that may be missing."""

import importlib
import sys
import types

import pytest

from codecbook import codecs, coding, lazy

PACKAGES = (codecs, coding)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_promised_name_is_there(package: types.ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        value = getattr(package, name)
        assert value is getattr(package, name)
        if isinstance(value, types.FunctionType | type):
            assert value.__name__ == name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_name_that_is_not_there_is_an_attribute_error(package: types.ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'morse'"):
        _ = package.morse


def test_a_module_is_imported_at_the_first_use_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("offering")
    monkeypatch.setitem(sys.modules, "offering", module)
    get, names = lazy.lazy_names("offering", {"colorsys": ("rgb_to_hsv",)})
    assert "rgb_to_hsv" in names()
    assert not hasattr(module, "rgb_to_hsv")
    assert get("rgb_to_hsv") is importlib.import_module("colorsys").rgb_to_hsv
    assert module.rgb_to_hsv is get("rgb_to_hsv")


def test_a_library_that_is_not_installed_is_told_from_a_broken_one(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lazy.optional_module("no_such_library_anywhere") is None
    assert lazy.optional_module("json") is importlib.import_module("json")
    (tmp_path / "broken_library.py").write_text("import a_part_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_missing"):
        lazy.optional_module("broken_library")
