"""Runs on a Slurm of two virtual nodes: the figures of a run here, also where a node fails in mid-job."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parent)
    from test_run_all import Project, make_project

STAGES = ("00_alone", "01_source")
CELL = """\
import json, os, time
import numpy as np
from pathlib import Path
run_dir, stage = Path(os.environ["CODECBOOK_RUN_DIR"]), os.environ["CODECBOOK_STAGE"]
tries = run_dir / f"{stage}.tries"
with tries.open("a") as file:
    print(os.environ.get("SLURMD_NODENAME"), file=file)
if stage == "00_alone" and os.environ.get("SLURMD_NODENAME") and len(tries.read_text().splitlines()) == 1:
    time.sleep(600)  # until its node is killed
result = {"x": x, "sum": float(np.random.default_rng(len(stage)).normal(size=1000).sum())}
(run_dir / "results").mkdir(exist_ok=True)
(run_dir / "results" / f"{stage}.json").write_text(json.dumps(result))
"""


def tiny_project(folder: Path) -> Project:
    made = make_project(folder / "a checkout")
    for stage in STAGES:
        made.write_notebook(stage, CELL)
    return made


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the figures of a run on this machine alone."""
    project = tiny_project(tmp_path_factory.mktemp("local"))
    project.run(*STAGES)
    return project.results()


def nodes(project: Project, stage: str) -> list[str]:
    """Return on which node each try of a stage was."""
    path = project.run_dir / f"{stage}.tries"
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["cluster-generic", "slurm"])
def test_a_run_on_a_cluster_outlives_a_node_and_has_the_figures_of_one_here(
    executor: str, slurm: Any, local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    project = tiny_project(tmp_path)
    command = project.command("--executor", executor, *STAGES)
    run = subprocess.Popen(
        command, cwd="/", env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        slurm.wait_for(lambda: all(nodes(project, stage) for stage in STAGES), "the jobs to start", 300.0)
        (node,) = nodes(project, "00_alone")
        slurm.kill_node(node)
        said, _ = run.communicate(timeout=600)
    finally:
        run.terminate()
        run.wait(timeout=60)
        for each in {"n1", "n2"} - set(slurm.processes):
            slurm.start_node(each)
    assert run.returncode == 0, said
    assert project.results() == local
    assert set(nodes(project, "00_alone")) == {"n1", "n2"}, "begun on one, and run again on the other"
    assert not slurm.call("squeue", "-h"), "no job is left"
