"""What every committed notebook has in common: a readable form, and nothing left over from a run."""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_CELL_LINES = 25
MOST_CELLS = 35

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def heading_levels(notebook: nbformat.NotebookNode) -> list[int]:
    """Return the levels of all headings in order, without comment lines of fenced code."""
    levels = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^```.*?^```", "", cell.source, flags=re.DOTALL | re.MULTILINE)
            levels += [len(marks) for marks in re.findall(r"^(#{1,6}) ", prose, flags=re.MULTILINE)]
    return levels


def test_every_notebook_is_a_stage() -> None:
    stages = yaml.safe_load((ROOT / "config" / "stages.yaml").read_text())
    assert sorted(stages) == [path.stem for path in NOTEBOOKS]


@every_notebook
def test_it_is_valid_and_its_cells_have_ids(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor >= 5) == (4, True)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_it_carries_no_outputs(path: Path) -> None:
    notebook = read(path)
    assert [cell.id for cell in code_cells(notebook) if cell.outputs] == []
    assert [cell.id for cell in code_cells(notebook) if cell.execution_count is not None] == []
    assert "widgets" not in notebook.metadata
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"


@every_notebook
def test_it_starts_with_its_title_and_its_headings_nest(path: Path) -> None:
    notebook = read(path)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    levels = heading_levels(notebook)
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels


@every_notebook
def test_its_first_code_cell_holds_the_parameters(path: Path) -> None:
    tagged = ["parameters" in cell.metadata.get("tags", []) for cell in code_cells(read(path))]
    assert tagged[0]
    assert sum(tagged) == 1


@every_notebook
def test_its_code_cells_are_short(path: Path) -> None:
    long = {cell.id: cell.source.count("\n") + 1 for cell in code_cells(read(path))}
    assert {cell: lines for cell, lines in long.items() if lines > LONGEST_CELL_LINES} == {}


@every_notebook
def test_it_has_no_empty_cell(path: Path) -> None:
    assert [cell.id for cell in read(path).cells if not cell.source.strip()] == []


@every_notebook
def test_it_claims_and_does_not_assert(path: Path) -> None:
    nodes = [node for cell in code_cells(read(path)) for node in ast.walk(ast.parse(cell.source))]
    assert [ast.unparse(node) for node in nodes if isinstance(node, ast.Assert)] == []
    assert any(isinstance(node, ast.Attribute) and node.attr == "claim" for node in nodes)


@every_notebook
def test_it_can_be_read_in_one_go(path: Path) -> None:
    assert len(read(path).cells) <= MOST_CELLS


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=["lint", "format"])
def test_ruff_is_content_with_all_of_them(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "notebooks"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
