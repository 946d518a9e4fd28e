"""Sweeps on a tiny project: which stages are shared, what a failure leaves, and what the next call goes on from."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = "01_source: {}\n02_middle: {needs: [01_source]}\n03_last: {needs: [02_middle]}\n"
PARAMETERS = {
    "01_source": "codecs: list[str] = ['a']  # whose\nseed: int = 0  # of all\n",
    "02_middle": "x: float = 1.0  # how much\nclips_dir: str = ''  # folder with recordings\n",
    "03_last": "seed: int = 0  # of all\n",
}
READING_CELL = """
assert json.loads((run_dir / "results" / f"{stage}.json").read_text())
from codecbook.book import results
result["upstream"] = results.read("01_source")["run"]
if x == 2 and not Path("mended").exists():
    (run_dir / "results" / f"{stage}.json").unlink()
    raise ValueError("two is too much")
result["figure"] = 10.0 * x
(run_dir / "results" / f"{stage}.json").write_text(json.dumps(result))
"""


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    monkeypatch.delenv("CODECBOOK_EXTRA", raising=False)
    return importlib.import_module("sweeps")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("config/sweeps", "notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "config" / "stages.yaml").write_text(STAGES)
    (tmp_path / "config" / "fast.yaml").write_text("02_middle: {x: 9.0}\n")
    for stage, source in PARAMETERS.items():
        cell = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}
        (tmp_path / "notebooks" / f"{stage}.ipynb").write_text(json.dumps({"cells": [cell]}))
    return tmp_path


def read(sweeps: ModuleType, root: Path, text: str):
    (root / "config" / "sweeps" / "s.yaml").write_text(text)
    return sweeps.read_sweep(root / "config" / "sweeps" / "s.yaml", root)


def test_a_stage_runs_once_for_all_that_is_the_same_to_it(sweeps: ModuleType, root: Path) -> None:
    plan = read(sweeps, root, "stages: [03_last]\naxes: {x: [1, 2], 03_last.seed: [5, 6, 7]}\n")
    assert list(plan.stages)[:3] == ["01_source/shared", "02_middle/x~1", "03_last/x~1+03_last.seed~5"]
    assert len(plan.stages) == 1 + 2 + 6
    assert plan.stages["02_middle/x~2"].parameters == {"x": 2.0}
    assert plan.stages["02_middle/x~2"].needs == ("01_source/shared",)
    last = plan.stages["03_last/x~2+03_last.seed~6"]
    assert (last.needs, last.parameters) == (("02_middle/x~2",), {"seed": 6})
    assert plan.result(last.name) == Path("reports/s/points/x~2+03_last.seed~6/results/03_last.json")
    assert len(plan.grid.points) == 6
    assert plan.grid.points[-1].folders == {
        "01_source": "shared", "02_middle": "x~2", "03_last": "x~2+03_last.seed~7"
    }  # fmt: skip


def test_an_axis_is_of_all_stages_that_take_it(sweeps: ModuleType, root: Path) -> None:
    plan = read(sweeps, root, "stages: [03_last]\naxes: {seed: [1, 2]}\nparameters: {02_middle: {x: 3}}\n")
    assert {name: dict(stage.parameters) for name, stage in plan.stages.items() if name.endswith("~2")} == {
        "01_source/seed~2": {"seed": 2}, "02_middle/seed~2": {"x": 3.0}, "03_last/seed~2": {"seed": 2}
    }  # fmt: skip


def test_folders_of_points_are_told_apart_whatever_the_values(sweeps: ModuleType, root: Path) -> None:
    (root / "a b").mkdir()
    (root / "a,b").mkdir()
    plan = read(
        sweeps, root, "stages: [02_middle]\naxes: {codecs: [[a], [a, b], ['a, b']], clips_dir: ['a b', 'a,b']}\n"
    )
    names = {name.partition("/")[2] for name in plan.stages}
    assert len(names) == 3 + 6
    assert all(len(name) < 255 and not set(name) & set("/, {}") for name in names), names
    assert "codecs~a" in names


def test_the_projects_own_sweeps_can_be_read(sweeps: ModuleType) -> None:
    for path in sorted((ROOT / "config" / "sweeps").glob("*.yaml")):
        plan = sweeps.read_sweep(path, ROOT)
        assert plan.grid.question
        assert 4 <= len(plan.grid.points) <= 12


@pytest.mark.slow
def test_points_fail_alone_and_the_next_call_resumes(tmp_path: Path) -> None:
    helpers = load("test_run_all.py")
    project = helpers.make_project(tmp_path / "a checkout")
    project.write_notebook("02_middle", helpers.RESULT_CELL + READING_CELL)
    sweep = project.root / "config" / "sweeps" / "tiny.yaml"
    text = "stages: [02_middle]\naxes: {02_middle.x: [1, 2]}\nfigures: {02_middle: [figrue]}\n"
    sweep.write_text(text)
    said = project.run("--sweep", "tiny", returncode=1)
    assert "ok 01_source/shared" in said
    assert "failed   02_middle/02_middle.x~2: look at reports/tiny/points/02_middle.x~2/02_middle.html" in said
    assert "No result of 02_middle has the figure 'figrue', which the sweep names" in said
    assert "did you mean 'figure'?" in said
    points = project.root / "reports" / "tiny" / "points"
    first = {path: json.loads(path.read_text()) for path in points.glob("*/results/*.json")}
    assert {str(path.relative_to(points)) for path in first} == {
        "shared/results/01_source.json", "02_middle.x~1/results/02_middle.json"
    }  # fmt: skip
    upstream = first[points / "shared/results/01_source.json"]["run"]
    assert first[points / "02_middle.x~1/results/02_middle.json"]["upstream"] == upstream
    page = (project.root / "reports" / "tiny" / "index.html").read_text()
    assert "ValueError: two is too much" in page

    (project.root / "notebooks" / "mended").touch()
    sweep.write_text(text.replace("figrue", "figure").replace("[1, 2]", "[1, 2, 3]"))
    said = project.run("--sweep", "tiny")
    assert "[2/2] ok" in said
    after = {path: json.loads(path.read_text()) for path in points.glob("*/results/*.json")}
    assert {path: after[path] for path in first} == first, "what had succeeded is not run again"
    assert {result.get("figure") for result in after.values()} == {None, 10.0, 20.0, 30.0}
    assert "Nothing to do: 4 of 4 stages are up to date." in project.run("--sweep", "tiny")


def load(name: str) -> ModuleType:
    """Return another test module, for its helpers."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, Path(__file__).with_name(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
