import math

import nbformat
import pytest

from codecbook.book import parameters
from codecbook.errors import UnsupportedInput


def cell(source: str) -> dict:
    namespace: dict = {}
    exec(source, namespace)
    return namespace


def notebook_with(tmp_path, source: str):
    code = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "05_demo.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[code], metadata={"kernelspec": kernel}), path)
    return path


def test_validate_returns_parameters_in_the_order_of_the_cell():
    namespace = cell('codec: str = "snac"\nclips: int = 4\ngain: float = 1\nfine: bool = True\nother = 3')
    found = parameters.validate(namespace)
    assert list(found.items()) == [("codec", "snac"), ("clips", 4), ("gain", 1.0), ("fine", True)]
    assert isinstance(found["gain"], float)


def test_validate_holds_an_injected_value_against_the_annotation():
    namespace = cell("clips: int = 4")
    exec('clips = "four"', namespace)
    with pytest.raises(UnsupportedInput, match=r"clips must be int; received 'four' \(str\).*clips = 3"):
        parameters.validate(namespace)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("clips: int = True", "clips must be int; received True"),
        ("clips: int = 1.0", "clips must be int; received 1.0"),
        ("gain: float = False", "gain must be float"),
        ("gain: float = float('nan')", "gain must be finite; received nan"),
        ("name: str = 3", "name must be str"),
        ("rates: list[float] = 3.0", r"rates must be list\[float\]"),
        ("rates: list[float] = [1, 'a']", r"rates\[1\] must be float; received 'a'"),
        ("limit: int | None = 'a'", "limit must be int | None"),
        ("'nothing annotated'", "No annotated parameters"),
    ],
)
def test_validate_refuses_ill_typed_values(source, message):
    with pytest.raises(UnsupportedInput, match=message):
        parameters.validate(cell(source))


def test_validate_takes_annotations_written_as_text_and_optional_values():
    namespace = cell(
        "from __future__ import annotations\nlimit: int | None = None\nrates: list[float] = [1, 2]"
    )
    found = parameters.validate(namespace, bounds={"limit": (0, None), "rates": (1, 2)})
    assert found == {"limit": None, "rates": [1.0, 2.0]}


def test_validate_reads_the_lazy_annotations_of_newer_pythons():
    namespace = {"__annotate__": lambda form: {"seed": int} if form == 1 else {}, "seed": 7}
    assert parameters.validate(namespace) == {"seed": 7}


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        (
            {"choices": {"codec": ["encodec", "dac"]}},
            "codec must be one of 'encodec', 'dac'; received 'snac'",
        ),
        ({"bounds": {"clips": (5, None)}}, "clips must be at least 5; received 4"),
        ({"bounds": {"clips": (None, 3)}}, "clips must be at most 3; received 4"),
        ({"bounds": {"rates": (2, 3)}}, "rates must be from 2 to 3; received 1.0"),
        ({"choices": {"codek": ["a"]}}, "'codek', which is no parameter; did you mean 'codec'"),
    ],
)
def test_validate_holds_values_against_choices_and_bounds(checks, message):
    namespace = cell('codec: str = "snac"\nclips: int = 4\nrates: list[float] = [1.0, 2.5]')
    with pytest.raises(UnsupportedInput, match=message):
        parameters.validate(namespace, **checks)


def test_check_against_notebook_names_the_nearest_parameter_and_all_help(tmp_path):
    path = notebook_with(tmp_path, 'codec: str = "snac"  # which codec\nseed: int = 7  # of the noise')
    with pytest.raises(UnsupportedInput, match=r"no parameter 'sed'; did you mean 'seed'") as caught:
        parameters.check_against_notebook(path, {"codec": "dac", "sed": 3})
    assert "codec: str" in str(caught.value)
    assert "which codec" in str(caught.value)


def test_check_against_notebook_checks_types(tmp_path):
    path = notebook_with(
        tmp_path, "seed: int = 7\nrates: list[float] = [\n    1.5,\n]\nlimit: int | None = None\nscale = 2"
    )
    parameters.check_against_notebook(path, {"seed": 3, "rates": [1, 2.5], "limit": 4, "scale": "free"})
    parameters.check_against_notebook(path, {})
    with pytest.raises(UnsupportedInput, match=r"05_demo.ipynb: Parameter seed must be int; received '3'"):
        parameters.check_against_notebook(path, {"seed": "3"})
    with pytest.raises(UnsupportedInput, match=r"rates\[0\] must be float"):
        parameters.check_against_notebook(path, {"rates": [None]})


def test_check_against_notebook_without_parameters_cell(tmp_path):
    path = notebook_with(tmp_path, "print(1)")
    parameters.check_against_notebook(path, {})
    with pytest.raises(UnsupportedInput, match="has no parameters, but received seed"):
        parameters.check_against_notebook(path, {"seed": math.pi})
