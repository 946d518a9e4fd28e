import datetime
import json
from pathlib import Path

import nbformat
import pytest

from codecbook.book import parameters
from codecbook.book.parameters import Parameter, read_declarations
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def cell(source: str) -> dict:
    namespace: dict = {}
    exec(source, namespace)
    return namespace


def notebook_with(tmp_path, source: str, then: str = ""):
    code = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if source else {})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "05_demo.ipynb"
    nbformat.write(
        nbformat.v4.new_notebook(cells=[code, nbformat.v4.new_code_cell(then)], metadata={"kernelspec": kernel}), path
    )
    return path


def test_validate_returns_parameters_in_the_order_of_the_cell():
    namespace = cell('codec: str = "snac"\nclips: int = 4\ngain: float = 1\nfine: bool = True\nother = 3')
    found = parameters.validate(namespace)
    assert list(found.items()) == [("codec", "snac"), ("clips", 4), ("gain", 1.0), ("fine", True)]
    assert isinstance(found["gain"], float)


def test_validate_holds_an_injected_value_against_the_annotation():
    namespace = cell("clips: int = 4")
    exec('clips = "four"', namespace)
    with pytest.raises(UnsupportedInput, match=r"clips: .* valid integer; received 'four' \(str\)"):
        parameters.validate(namespace)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("clips: int = True", "clips: Input should be a valid integer; received True"),
        ("clips: int = 1.0", "clips: Input should be a valid integer; received 1.0"),
        ("gain: float = False", "gain: Input should be a valid number"),
        ("gain: float = float('nan')", "gain: Input should be a finite number; received nan"),
        ("name: str = 3", "name: Input should be a valid string"),
        ("rates: list[float] = 3.0", "rates: Input should be a valid list; received 3.0"),
        ("rates: list[float] = [1, 'a']", r"rates\[1\]: Input should be a valid number; received 'a'"),
        (
            "names: list[str] = 'a,b'",
            r"names: Input should be a valid list; received 'a,b' \(str\). Write a list: \[a, b\]",
        ),
        ("'nothing annotated'", "No annotated parameters"),
    ],
)
def test_validate_refuses_ill_typed_values(source, message):
    with pytest.raises(UnsupportedInput, match=message):
        parameters.validate(cell(source))


def test_validate_reads_the_lazy_annotations_of_newer_pythons():
    namespace = {"__annotate__": lambda form: {"seed": int} if form == 1 else {}, "seed": 7}
    assert parameters.validate(namespace) == {"seed": 7}


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ({"bounds": {"clips": (5, None)}}, "clips must be at least 5; received 4"),
        ({"bounds": {"clips": (None, 3)}}, "clips must be at most 3; received 4"),
        ({"bounds": {"rates": (2, 3)}}, "rates must be from 2 to 3; received 1.0"),
        ({"bounds": {"codek": (0, 1)}}, "'codek', which is no parameter; did you mean 'codec'"),
    ],
)
def test_validate_holds_values_against_bounds(checks, message):
    namespace = cell('codec: str = "snac"\nclips: int = 4\nrates: list[float] = [1.0, 2.5]')
    with pytest.raises(UnsupportedInput, match=message):
        parameters.validate(namespace, **checks)


DEMO = """\
codec: str = "snac"  # which codec
seed: int = 7  # of the noise
rates: list[float] = [
    1.5,  # in kbps
]
scale = 2
"""


def check(tmp_path, values, source=DEMO, then=""):
    declared = read_declarations(notebook_with(tmp_path, source, then))
    return parameters.checked(declared, values, tmp_path, "mine.yaml: 05_demo")


def test_checked_returns_the_values_in_their_types(tmp_path):
    given = {"seed": 3, "rates": [1, 2.5]}
    assert check(tmp_path, given) == given
    assert isinstance(check(tmp_path, given)["rates"][0], float)
    assert check(tmp_path, {}) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 3}, r"05_demo has no parameter 'sed'; did you mean 'seed'\? Known names: codec, seed"),
        ({"seed": "many"}, r"05_demo: Parameter seed: .*integer; received 'many'.*number: 3. \[seed: of the noise\]"),
        ({"scale": 3}, "no parameter 'scale'"),
        ({"rates": [None]}, r"rates\[0\]: .* number; received None .*\[rates: in kbps\]"),
        ({"seed": "3e+2"}, "received '3e\\+2'"),
        ({"rates": ["3e-3"]}, r"rates\[0\]: .*in YAML, an exponent takes a point before it and a sign: 3.0e-3\."),
        ({"rates": [10**400]}, "rates.0.: "),
        ({"rates": "1, 2"}, r"Write a list: \[a, b\]"),
        ({"codec": 24}, "received 24 .*Write text; in YAML, in quotes"),
        ({"codec": datetime.date(2020, 1, 1)}, "Write text"),
    ],
)
def test_checked_refuses_in_the_words_of_a_preset(tmp_path, values, message):
    with pytest.raises(UnsupportedInput, match=f"^mine.yaml: .*{message}") as caught:
        check(tmp_path, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed must be from 0 to 1000; received -1"),
        ({"rates": [1.0, 99.0]}, "rates must be at most 24; received 99.0"),
        ({"rates": ["x"]}, r"rates\[0\]: Input should be a valid number"),
    ],
)
def test_checked_holds_values_against_what_the_next_cell_writes(tmp_path, values, message):
    then = 'bounds = {"seed": (0, 10**3), "rates": (None, 24)}\nchosen = parameters.validate(globals(), bounds=bounds)'
    with pytest.raises(UnsupportedInput, match=message):
        check(tmp_path, values, then=then)
    assert check(tmp_path, {"seed": 1000}, then=then) == {"seed": 1000}
    by_name = then.replace("10**3", "len(names)")
    assert check(tmp_path, {"seed": -5}, then=by_name), "what needs names is known to the notebook alone"


def test_checked_makes_paths_absolute_from_the_place_of_the_preset(tmp_path):
    (tmp_path / "mine").mkdir()
    source = 'clips_dir: str = ""  # folder with recordings'
    assert check(tmp_path, {"clips_dir": "mine"}, source) == {"clips_dir": str(tmp_path / "mine")}
    with pytest.raises(MissingInput, match=r"05_demo: clips_dir is 'yours', which does not exist; give a folder"):
        check(tmp_path, {"clips_dir": "yours"}, source)


def test_checked_without_parameters_cell(tmp_path):
    assert check(tmp_path, {}, "") == {}
    with pytest.raises(UnsupportedInput, match="has no parameter 'seed'; it takes none, so leave it out"):
        check(tmp_path, {"seed": 1}, "")


def test_validate_makes_paths_absolute_in_the_notebook_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    namespace = cell('clips_dir: str = "~/mine"\ntokens_dir: str = ""')
    assert parameters.validate(namespace) == {"clips_dir": str(tmp_path / "mine"), "tokens_dir": ""}
    assert namespace["clips_dir"] == str(tmp_path / "mine")
    with pytest.raises(MissingInput, match="clips_dir is 'none', which does not exist"):
        parameters.validate(cell('clips_dir: str = "none"'))


def write(path: Path, *sources: str) -> Path:
    """Write a notebook whose first code cell is that of the parameters."""
    cells = [
        {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]} if number == 0 else {}}
        for number, source in enumerate(sources)
    ]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# 1", "metadata": {}}, *cells]}))
    return path


def test_help_is_found_on_every_line_of_a_value(tmp_path):
    source = 'a: str = (\n    "x,"  # what to\n    "y"\n)  # compare\nb = 3  # c\nif a:\n    d: int = 1\n'
    assert read_declarations(write(tmp_path / "n.ipynb", source)).parameters == {
        "a": Parameter("str", "'x,y'", "what to compare")
    }


def test_bounds_are_read_from_the_call_and_from_the_cell_that_makes_it(tmp_path):
    call = "import x\nbounds = {'a': (0, 10**6), 'b': (-1.5, None)}\nvalidate(globals(), bounds=bounds)"
    declared = read_declarations(write(tmp_path / "n.ipynb", "a: int = 1", "%time 1", call, "validate({}, {})"))
    assert declared.bounds == {"a": (0, 1_000_000), "b": (-1.5, None)}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_bound_of_the_workbook_is_known_before_a_run(notebook):
    declared = read_declarations(notebook)
    assert declared.parameters
    assert all(parameter.help and parameter.annotation for parameter in declared.parameters.values())
    if "bounds" in declared.code:
        assert declared.bounds
    assert set(declared.bounds) <= set(declared.parameters)


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "[" * 100_000])
def test_what_is_no_notebook_is_refused(tmp_path, text):
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(CorruptInput, match="cannot be read as a notebook"):
        read_declarations(tmp_path / "n.ipynb")


@pytest.mark.parametrize("source", ["a: int = ", "a = (1,  # open", "a = '\n'"])
def test_a_cell_that_is_no_python_is_refused(tmp_path, source):
    with pytest.raises(UnsupportedInput, match="is no Python"):
        read_declarations(write(tmp_path / "n.ipynb", source))
