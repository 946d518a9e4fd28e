"""The workflow on a tiny project: what runs, what does not, and what a failure leaves behind."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("00_alone", "01_source", "02_middle", "03_last")
STAGES_YAML = """\
00_alone: {}
01_source: {}
02_middle: {needs: [01_source]}
03_last: {needs: [02_middle], threads: 2}
"""
PARAMETERS_CELL = """\
x: int = 1  # a number that goes into the result
sleep_s: float = 0.0  # how long it takes
clips_dir: str = ""  # folder with recordings
"""
RESULT_CELL = """\
import json, os, time, uuid
from pathlib import Path
run_dir, stage = Path(os.environ["CODECBOOK_RUN_DIR"]), os.environ["CODECBOOK_STAGE"]
(run_dir / f"{stage}.started").touch()
time.sleep(sleep_s)
result = {"x": x, "run": uuid.uuid4().hex, "omp_threads": os.environ["OMP_NUM_THREADS"]}
(run_dir / "results").mkdir(exist_ok=True)
(run_dir / "results" / f"{stage}.json").write_text(json.dumps(result))
"""
CLAIMS_CELL = """\
from codecbook.book import parameters, results
run = results.begin(results.os.environ["CODECBOOK_STAGE"], parameters.validate(globals()))
run.record(figure=3)
run.claim("two is less than one", 2 < 1, "2 and 1", basis="{basis}")
run.claim("one is less than two", 1 < 2, "1 and 2", basis="machine")
run.finish()
"""


@dataclass(frozen=True)
class Project:
    """A copy of the workflow with four small notebooks in place of the workbook's."""

    root: Path

    @property
    def run_dir(self) -> Path:
        return self.root / "reports" / "fast"

    def command(self, *arguments: str) -> list[str]:
        return ["bash", str(self.root / "run_all.sh"), *arguments]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.root / "lib")}

    def run(self, *arguments: str, returncode: int = 0) -> str:
        """Call run_all.sh from elsewhere and return what it printed."""
        done = subprocess.run(
            self.command(*arguments), cwd="/", env=self.environment(), capture_output=True, text=True, timeout=600
        )
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen]:
        """Start run_all.sh and wait until its first notebook is at work; a test that fails leaves nothing running."""
        run = subprocess.Popen(
            self.command(), cwd="/", env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for((self.run_dir / "00_alone.started").exists, "the notebook to start")
            yield run
        finally:
            run.terminate()
            run.wait(timeout=60)

    def engine(self) -> int:
        """Return the process that runs the notebooks."""
        return int((self.run_dir / ".lock").read_text())

    def results(self) -> dict[str, dict]:
        return {path.stem: json.loads(path.read_text()) for path in (self.run_dir / "results").glob("*.json")}

    def write_notebook(self, stage: str, code: str = RESULT_CELL) -> None:
        cells = [
            nbformat.v4.new_markdown_cell(f"# Stage {stage}"),
            nbformat.v4.new_code_cell(PARAMETERS_CELL, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(code),
        ]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, self.root / "notebooks" / f"{stage}.ipynb")

    def write_preset(self, text: str) -> None:
        (self.root / "config" / "fast.yaml").write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "a checkout")  # a path with a space


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Return a project whose notebooks have all been run, and what that printed."""
    made = make_project(tmp_path_factory.mktemp("first run") / "a checkout")
    return made, made.run()


@pytest.fixture
def finished(first_run: tuple[Project, str], tmp_path: Path) -> Project:
    """Return a copy of the finished project: a checkout may be moved without running everything again."""
    shutil.copytree(first_run[0].root, tmp_path / "moved")
    return Project(tmp_path / "moved")


def make_project(root: Path) -> Project:
    root.mkdir()
    for name in ("run_all.sh", "Snakefile", "requirements.lock"):
        shutil.copy2(ROOT / name, root / name)
    for name in ("workflow", "profiles", "config", "lib"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("kernels-*", "*.egg-info"))
    (root / "config" / "stages.yaml").write_text(STAGES_YAML)
    for preset in ("fast", "full", "real"):
        (root / "config" / f"{preset}.yaml").write_text("{}\n")
    (root / "data" / "clips").mkdir(parents=True)
    (root / "data" / "clips" / "clip.txt").write_text("one\n")
    (root / "notebooks").mkdir()
    project = Project(root)
    for stage in STAGES:
        project.write_notebook(stage)
    return project


def changed(before: dict[str, dict], after: dict[str, dict]) -> set[str]:
    return {stage for stage in after if before.get(stage, {}).get("run") != after[stage]["run"]}


@pytest.mark.slow
def test_a_run_leaves_a_result_and_a_report_of_every_stage(first_run: tuple[Project, str]) -> None:
    project, said = first_run
    results = project.results()
    assert set(results) == set(STAGES)
    assert "[4/4] ok 03_last" in said
    assert said.rstrip().endswith(f"Report: {project.run_dir / 'index.html'}")
    assert all((project.run_dir / f"{stage}.html").is_file() for stage in (*STAGES, "index"))
    assert (results["01_source"]["omp_threads"], results["03_last"]["omp_threads"]) == ("1", "2")


@pytest.mark.slow
def test_what_takes_long_starts_first(project: Project) -> None:
    """Wherever it stands; short stages then fill the cores to the end."""
    stages = "00_alone: {}\n01_source: {}\n02_middle: {seconds: 60}\n03_last: {last: true}\n"
    (project.root / "config" / "stages.yaml").write_text(stages)
    said = project.run("--jobs", "1", "00_alone", "01_source", "02_middle")
    assert said.index("ok 02_middle") < min(said.index("ok 00_alone"), said.index("ok 01_source"))


@pytest.mark.slow
def test_only_what_is_out_of_date_runs(finished: Project) -> None:
    first = finished.results()
    (finished.root / "notebooks" / "01_source.ipynb").touch()
    (finished.run_dir / "02_middle.html").unlink()
    said = finished.run()
    assert "Nothing to do: 4 of 4" in said
    assert finished.results() == first
    assert "Stage 02_middle" in (finished.run_dir / "02_middle.html").read_text()

    said = finished.run("--name", "2e5", "00_alone")
    assert said.rstrip().endswith(f"Report: {finished.root}/reports/2e5/index.html")
    assert (finished.root / "reports" / "2e5" / "results" / "00_alone.json").is_file()
    assert finished.results() == first

    finished.write_preset("02_middle: {x: 5}\n")
    finished.write_notebook("00_alone", RESULT_CELL + "# edited\n")
    finished.run()
    second = finished.results()
    assert changed(first, second) == {"00_alone", "02_middle", "03_last"}
    assert second["02_middle"]["x"] == 5

    (finished.root / "data" / "clips" / "clip.txt").write_text("two\n")
    said = finished.run("--dry-run")
    assert (said.count("would run"), said.count(": changed since the last run: data\n")) == (4, 2)
    (finished.root / "data" / "clips" / "clip.txt").write_text("one\n")
    assert finished.run("--dry-run").count("would run") == 0
    (finished.root / "lib" / "codecbook" / "new.py").touch()
    said = finished.run("--dry-run")
    assert (said.count("would run"), said.count(": changed since the last run: package\n")) == (4, 2)
    assert finished.results() == second


@pytest.mark.slow
def test_what_a_parameter_names_is_an_input(finished: Project) -> None:
    recordings = finished.root / "recordings"
    recordings.mkdir()
    (recordings / "a.wav").write_bytes(b"RIFF")
    finished.write_preset("03_last: {clips_dir: recordings}\n")
    finished.run()

    def due() -> int:
        return finished.run("--dry-run").count("would run 03_last")

    assert due() == 0
    (recordings / "b.wav").write_bytes(b"RIFF")
    assert due() == 1
    (recordings / "b.wav").unlink()
    assert due() == 0
    (recordings / "a.wav").write_bytes(b"RIFF and more")
    assert due() == 1
    (recordings / "a.wav").unlink()
    assert due() == 1


@pytest.mark.slow
def test_a_failing_notebook_is_kept_and_the_next_call_resumes(finished: Project) -> None:
    before = finished.results()
    finished.write_notebook("01_source", RESULT_CELL + 'raise ValueError("no such luck\\nand more")\n')
    finished.write_notebook("00_alone", RESULT_CELL + "# edited\n")

    said = finished.run(returncode=1)
    assert "ValueError: no such luck (cell [2])" in said
    assert "failed   01_source: look at reports/fast/01_source.html" in said
    assert "not run  02_middle: it needs 01_source" in said
    assert "CalledProcessError" not in said
    failed = finished.results()
    assert set(failed) == {"00_alone"}, "results that build on a failed stage are withdrawn"
    assert changed(before, failed) == {"00_alone"}, "the others go on"
    executed = nbformat.read(finished.run_dir / "notebooks" / "01_source.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in executed.cells for output in cell.get("outputs", []))
    assert "no such luck" in (finished.run_dir / "01_source.html").read_text()
    assert "01_source" in (finished.run_dir / "index.html").read_text()

    finished.write_notebook("01_source")
    finished.run("02_middle")
    after = finished.results()
    assert set(after) == {"00_alone", "01_source", "02_middle"}
    assert changed(failed, after) == {"01_source", "02_middle"}, "what had succeeded is not run again"


@pytest.mark.slow
def test_a_stage_that_sums_up_runs_last_on_what_is_there(project: Project) -> None:
    (project.root / "config" / "stages.yaml").write_text("00_alone: {}\n01_source: {}\n03_last: {last: true}\n")
    (project.root / "notebooks" / "02_middle.ipynb").unlink()
    sums_up = 'found = sorted(path.stem for path in (run_dir / "results").glob("0[012]*.json"))\n'
    project.write_notebook(
        "03_last", RESULT_CELL.replace("time.sleep", sums_up + "time.sleep").replace(": x", ": found")
    )
    project.write_notebook("01_source", 'raise ValueError("no such luck")')
    said = project.run(returncode=1)
    assert "failed   01_source" in said
    assert "[1/1] ok 03_last" in said
    assert project.results()["03_last"]["x"] == ["00_alone"]
    project.write_notebook("01_source")
    assert "Nothing to do: 1 of 1" in project.run("03_last"), "nor does it make the others run"
    project.run()
    assert project.results()["03_last"]["x"] == ["00_alone", "01_source"]


@pytest.mark.slow
def test_a_claim_that_does_not_hold_is_a_finding_unless_it_must(project: Project) -> None:
    for arguments in (["init"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "a"]):
        subprocess.run(["git", "-C", str(project.root), *arguments], check=True, capture_output=True)
    git = ["git", "-C", str(project.root), "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    project.write_notebook("00_alone", CLAIMS_CELL.format(basis="machine"))
    project.write_notebook("01_source", CLAIMS_CELL.format(basis="construction"))
    said = project.run("00_alone", "01_source", returncode=1)
    assert "finding  00_alone: two is less than one: does not hold here (2 and 1)" in said
    assert "ClaimsFailed: 1 of 1 claims that must hold in this run do not: two is less than one (2 and 1)" in said
    assert "failed   01_source: look at reports/fast/01_source.html" in said
    assert {stage: result["figure"] for stage, result in project.results().items()} == {"00_alone": 3}
    failed = json.loads((project.run_dir / "results" / "failed" / "01_source.json").read_text())
    assert failed["figure"] == 3, "all was written before the claim failed the run"
    assert failed["provenance"]["git_commit"] == commit
    report = (project.run_dir / "01_source.html").read_text()
    assert f"commit {commit[:10]} with local changes" in report
    index, _, _ = (project.run_dir / "index.html").read_text().partition("<script")  # the texts that search looks in
    assert index.count("✗</span> two is less than one") == 2
    assert index.count("does not hold, and must") == 1


@pytest.mark.slow
def test_a_killed_run_leaves_neither_lock_nor_job(project: Project) -> None:
    project.write_preset("00_alone: {sleep_s: 600.0}\n")
    with project.running() as run:
        assert "another run writes into reports/fast" in project.run(returncode=2)
        jobs = children_of(project.engine())
        assert jobs
        os.kill(project.engine(), signal.SIGKILL)
        run.kill()
        run.wait()
        wait_for(lambda: not any(is_alive(job) for job in jobs), "the jobs to end")

    project.write_preset("{}\n")
    project.run("00_alone")
    assert "00_alone" in project.results()


@pytest.mark.slow
def test_a_long_cell_gives_signs_of_life(project: Project) -> None:
    heartbeat = project.root / "workflow" / "logger" / "snakemake_logger_plugin_codecbook" / "heartbeat.py"
    text = heartbeat.read_text()
    assert "HEARTBEAT_S = 30.0" in text
    heartbeat.write_text(text.replace("HEARTBEAT_S = 30.0", "HEARTBEAT_S = 1.0"))
    project.write_preset("00_alone: {sleep_s: 6.0}\n")
    said = project.run("00_alone")
    assert re.search(r"      00_alone: cell [123] of 3, \d+ s;.* log: reports/fast/logs/00_alone.log\n", said), said


@pytest.mark.slow
def test_a_terminated_run_ends_its_jobs(project: Project) -> None:
    project.write_preset("00_alone: {sleep_s: 600.0}\n")
    with project.running() as run:
        jobs = children_of(project.engine())
        assert jobs
        run.terminate()
        assert run.wait(timeout=120) == 130
        wait_for(lambda: not any(is_alive(job) for job in jobs), "the jobs to end")
    assert "00_alone" not in project.results()


@pytest.mark.parametrize("name", ["mine.yaml", "Music #1/mine.yml", "x: y.yaml", "über 50%.yaml"])
def test_a_preset_of_ones_own_is_named_by_its_path(project: Project, tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("02_middle: {x: 7}\n")
    said = project.run("--preset", str(own), "--dry-run", "03_last")
    assert f"reports/{own.stem}/results/02_middle.json" in said


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 120.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {limit_s} s for {what}"
        time.sleep(0.2)


def children_of(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children(recursive=True)]


def is_alive(process: int) -> bool:
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
