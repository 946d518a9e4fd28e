"""Command lines and presets that cannot work: each is refused in one line before anything is written or installed."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "config/stages.yaml": "01_source: {}\n02_middle: {needs: [01_source]}\n03_last: {}\n",
    "config/fast.yaml": "{}\n",
    "config/full.yaml": "{}\n",
    "config/sweeps/grid.yaml": "stages: [02_middle]\naxes: {02_middle.steps: [30, 40]}\n",
    "profiles/default/config.yaml": "cores: 2\n",
    "profiles/slurm/config.yaml": "executor: slurm\n",
    "profiles/moon/config.yaml": "executor: moon\n",
    "own/full.yaml": "{}\n",
    "own/sample.yaml": "{}\n",
    "own/.yaml.yaml": "{}\n",
    "own/{stage}.yaml": "{}\n",
    "own/notes.txt": "{}\n",
    "own/recordings/a.wav": "RIFF",
    "own/full/a.wav": "RIFF",
    "taken/mine.yaml": "{}\n",
    "reports/mine/.preset": "{root}/taken/mine.yaml",
}
PARAMETERS = """\
steps: int = 600  # optimizer steps
learning_rate: float = 0.006  # peak
clips_dir: str = ""  # folder with recordings
weights: str = "bundled"  # kind, or a path
codec: str = "encodec"  # whose tokens
"""
CHECKS = 'validate(globals(), bounds={"steps": (10, None)})'


@dataclass(frozen=True)
class Workbook:
    """The files that command lines are held against, and the function that reads them."""

    root: Path
    main: Callable[[list[str]], int]

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbook:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{root}", str(tmp_path)))
    (tmp_path / "notebooks").mkdir()
    for stage in ("01_source", "02_middle", "03_last"):
        write_notebook(tmp_path / "notebooks" / f"{stage}.ipynb")
    run = load_run(monkeypatch)
    for module in (run, importlib.import_module("arguments")):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "own")
    monkeypatch.delenv("CODECBOOK_EXTRA", raising=False)
    return Workbook(tmp_path, run.main)


def load_run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    spec = importlib.util.spec_from_file_location("workflow_run", ROOT / "workflow" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)  # as it does itself, but for this test alone
    spec.loader.exec_module(run)
    return run


def write_notebook(path: Path) -> None:
    cells = [
        {"cell_type": "code", "source": PARAMETERS, "metadata": {"tags": ["parameters"]}},
        {"cell_type": "code", "source": CHECKS, "metadata": {}},
    ]
    path.write_text(json.dumps({"cells": cells}))


def refused(workbook: Workbook, arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """Return the one line that a command line is refused with; nothing else has happened."""
    before = workbook.files()
    with pytest.raises(SystemExit) as stop:
        workbook.main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("run_all.sh: ")
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert workbook.files() == before
    return said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--perset", "fast"], "unrecognized arguments: --perset; did you mean --preset? See ./run_all.sh --help."),
        (["--frobnicate"], "unrecognized arguments: --frobnicate. See ./run_all.sh --help."),
        (["--job=3"], "unrecognized arguments: --job=3; did you mean --jobs?"),
        (["-n"], "unrecognized arguments: -n"),
        (["--preset"], "argument --preset: expected one argument."),
        (["--fresh=yes"], "argument --fresh: ignored explicit argument 'yes'"),
        (["--jobs", "none"], "argument --jobs: 'none' is no whole number from 1 to 1000."),
        (["--jobs", "0"], "'0' is no whole number"),
        (["--jobs", "-2"], "argument --jobs: "),
        (["--jobs", "2.5"], "'2.5' is no whole number"),
        (["--jobs", "9" * 5000], "is no whole number from 1 to 1000"),
        (["--executor", "slrum"], "no profiles/slrum/config.yaml; did you mean slurm? Known: default, moon, slurm."),
        (["--executor", "moon"], "moon needs the package snakemake-executor-plugin-moon, which is not installed"),
        (["02_midle"], "'02_midle' is neither a command nor a stage; did you mean 02_middle? Stages: 01_source"),
        (["02"], "'02' is neither a command nor a stage; did you mean 02_middle?"),
        (["notebooks/03_last.ipynb"], "did you mean 03_last?"),
        (["tset"], "'tset' is neither a command nor a stage; did you mean test?"),
        (["zzz"], "'zzz' is neither a command nor a stage. Stages: 01_source, 02_middle, 03_last."),
        ([""], "'' is neither a command nor a stage. Stages:"),
        (["01_source", "test"], "test is a command and stands first: ./run_all.sh test."),
        (["--preset", "fsat"], "'fsat' is neither a preset (fast, full) nor the path of a YAML file; did you mean"),
        (["--preset", ""], "'' is neither a preset (fast, full)"),
        (["--preset", "a\0b.yaml"], "is neither a preset"),
        (["--preset", "~nobody_of_this_name/x.yaml"], "is neither a preset"),
        (["--preset", "."], "'.' is neither a preset"),
        (["--preset", "notes.txt"], "'notes.txt' is neither a preset"),
        (["--preset", "none.yaml"], "'none.yaml' is neither a preset"),
        (["--preset", "../config/stages.yaml"], "is the list of stages, no preset"),
        (["--preset", "full.yaml"], "would write into reports/full, the folder of the project's own; rename the file"),
        (["--preset", "sample.yaml"], "would write into reports/sample"),
        (["--preset", ".yaml.yaml"], "names no folder for its report; rename the file"),
        (["--name", "full"], "argument --name: reports/full is a folder of the project's own; give another name."),
        (["--name", "sample"], "reports/sample is a folder of the project's own"),
        (["--name", "../x"], "'../x' is no name for a folder of reports; take letters, digits"),
        (["--name", ""], "'' is no name for a folder of reports"),
        (["--name", "é"], "'é' is no name for a folder of reports"),
        (["--clips", "none"], "argument --clips: 'none' is no folder; give one with recordings."),
        (["--clips", ""], "'' is no folder"),
        (["--clips", "~nobody_of_this_name/x"], "'~nobody_of_this_name/x' is no folder"),
        (["--clips", "a\0b"], "is no folder"),
        (["--clips", "notes.txt"], "'notes.txt' is no folder"),
        (["--clips", "/"], "/ has no name that could be that of a folder of reports; add --name NAME."),
        (["--clips", "../config/../own/full"], "/own/full has no name that could be"),
        (["--clips", "recordings", "02_middle", "doctor"], "doctor is a command and stands first"),
        (["--preset", "{stage}.yaml"], "names no folder for its report; rename the file"),
        (["--sweep", "gird"], "'gird' is neither a sweep (grid) nor the path of a YAML file; did you mean grid?"),
        (["--sweep", "full.yaml"], "would write into reports/full"),
        (["--sweep", "grid", "--preset", "fast"], "argument --preset: not allowed with argument --sweep."),
        (["--sweep", "grid", "02_middle"], "grid.yaml itself says which stages and clips it takes; leave STAGE and"),
    ],
)  # fmt: skip
def test_a_mistyped_command_line(
    workbook: Workbook, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert message in refused(workbook, arguments, capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01_sauce: {steps: 30}", "names the stage '01_sauce'; did you mean 01_source? Known: 01_source"),
        ("01_source: {stpes: 30}", "01_source has no parameter 'stpes'; did you mean 'steps'? Known names: steps"),
        ("01_source: {steps: many}", "steps: Input should be a valid integer; received 'many' (str). Write a whole"),
        ("01_source: {steps: true}", "steps: Input should be a valid integer; received True (bool)"),
        ("01_source: {steps: 3}", "steps must be at least 10; received 3. Choose such a value. [steps: optim"),
        ("01_source: {learning_rate: 3e-3}", "received '3e-3' (str)"),
        ("01_source: {learning_rate: 3e-3}", "a point before it and a sign: 3.0e-3."),
        ("01_source: {learning_rate: .inf}", "learning_rate: Input should be a finite number; received inf"),
        ("01_source: {codec: off}", "Write text; in YAML, in quotes."),
        ("01_source: {clips_dir: recordigns}", "clips_dir is 'recordigns', which does not exist; give a folder"),
        ("01_source: {clips_dir: recordings/a.wav}", "clips_dir is 'recordings/a.wav', a file; give a folder"),
        ("01_source: {weights: bundeld}", "weights is 'bundeld', which does not exist; give a file or folder"),
        ("01_source: {steps: 30}\n01_source: {steps: 40}", "has '01_source' twice, in lines 1 and 2"),
        ("01_source: {steps: 30, steps: 40}", "has 'steps' twice, in lines 1 and 1"),
        ("01_source: [steps]", "01_source in {preset} is no mapping of names to values: ['steps']"),
        ("- 01_source", "{preset} is no mapping of names to values"),
        ("1: {steps: 30}", "is no mapping of names to values"),
        ("{", "{preset} cannot be read as YAML"),
        ("01_source: {steps: 2020-13-45}", "cannot be read as YAML: month must be in 1..12"),
        ("[" * 50_000, "cannot be read as YAML"),
        ("01_source: {steps: %s}" % ("9" * 5000), "cannot be read as YAML"),
        ("01_source: {steps: !!python/name:os.abort }", "cannot be read as YAML"),
    ],
)  # fmt: skip
def test_a_wrong_preset(workbook: Workbook, capsys: pytest.CaptureFixture, text: str, message: str) -> None:
    own = workbook.root / "own" / "new.yaml"
    own.write_text(text)
    said = refused(workbook, ["--preset", "new.yaml"], capsys)
    assert str(own) in said
    assert message.replace("{preset}", str(own)) in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01_source: {needs: [02_middle]}\n02_middle: {}\n", "does not stand above it"),
        ("01_source: {need: []}\n", "has a key 'need'; did you mean needs?"),
        ("01_source: {threads: 0}\n", "give a int of at least 1"),
        ("05_absent: {}\n", "notebooks/05_absent.ipynb does not exist"),
        ("01_source: {parameters: {step: 30}}\n", "config/stages.yaml: 01_source has no parameter 'step'"),
    ],
)
def test_a_wrong_plan(workbook: Workbook, capsys: pytest.CaptureFixture, text: str, message: str) -> None:
    (workbook.root / "config" / "stages.yaml").write_text(text)
    assert message in refused(workbook, [], capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axis: {}", "has a field 'axis'; did you mean axes? Known: question"),
        ("axes: {steps: [30]}", "stages is None; give a list of at least one."),
        ("stages: [02_midle]", "stages has '02_midle'; did you mean 02_middle? Known: 01_source"),
        ("stages: [02_middle]", "has no axes; write 'axes: {parameter: [value, value]}'."),
        ("preset: fsat\nstages: [02_middle]", "preset is 'fsat', no file and no preset; did you mean fast?"),
        ("parameters: {02_midle: {}}\nstages: [02_middle]", "names the stage '02_midle'; did you mean 02_middle?"),
        ("parameters: {02_middle: {stpes: 30}}", "02_middle has no parameter 'stpes'; did you mean 'steps'?"),
        ("parameters: {02_middle: {steps: 30, steps: 40}}", "has 'steps' twice, in lines 1 and 1"),
        ("parameters: {03_last: {steps: 30}}", "parameters has '03_last'; Known: 01_source, 02_middle."),
        ("axes: {stpes: [30, 40]}", "axis stpes is a parameter of no stage here; did you mean steps?"),
        ("axes: {02_midle.steps: [30]}", "the stage '02_midle', which does not run here; did you mean 02_middle?"),
        ("axes: {03_last.steps: [30]}", "the stage '03_last', which does not run here"),
        ("axes: {steps: 30}", "axis steps is 30; give the list of its values, each of them as in a preset."),
        ("axes: {steps: []}", "axis steps is []; give the list"),
        ("axes: {steps: [30, 3]}", "axis steps: Parameter steps must be at least 10; received 3."),
        ("axes: {steps: [30, many]}", "axis steps: Parameter steps: Input should be a valid integer; received 'many'"),
        ("axes: {steps: [30, 40, 30]}", "axis steps has 30 twice; drop one."),
        ("axes: {learning_rate: [1, 1.0]}", "axis learning_rate has 1.0 twice"),
        ("axes: {clips_dir: [recordings, recordigns]}", "clips_dir is 'recordigns', which does not exist"),
        ("axes: {steps: [30]}\nparameters: {01_source: {steps: 30}}", "of 01_source is set by steps and by parameters"),
        ("axes: {steps: [30]}\nfigures: {03_last: [loss]}", "figures has '03_last'; Known: 01_source, 02_middle."),
        ("axes: {steps: [30]}\nfigures: {02_middle: loss}", "figures of 02_middle is 'loss'; write [key, key]."),
        ("axes: {steps: [30]}\nfigures: {02_middle: ['{step}.loss']}", "no axis 'step'; did you mean steps?"),
        ("axes: {steps: [30]}\nfrontier: {02_middle: {loss: less}}", "frontier has 1 figures; give two."),
        ("axes: {steps: [30]}\nfrontier: {02_middle: {a: less, b: mroe}}", "b: 'mroe'; write which is better, less"),
        ("axes: {steps: [30], 02_middle.steps: [30]}", "is set by 02_middle.steps and by steps; drop one."),
        (f"axes: {{steps: {[*range(10, 1011)]}}}", "has 1001 points, of at most 1000"),
    ],
)  # fmt: skip
def test_a_wrong_sweep(workbook: Workbook, capsys: pytest.CaptureFixture, text: str, message: str) -> None:
    own = workbook.root / "own" / "new.yaml"
    own.write_text(text if "stages:" in text or "stages is" in message else f"{text}\nstages: [02_middle]")
    said = refused(workbook, ["--sweep", "new.yaml"], capsys)
    assert str(own) in said
    assert message in said


def test_a_report_belongs_to_one_preset(workbook: Workbook, capsys: pytest.CaptureFixture) -> None:
    (workbook.root / "own" / "mine.yaml").write_text("{}\n")
    said = refused(workbook, ["--preset", "mine.yaml"], capsys)
    other, own = (workbook.root / folder / "mine.yaml" for folder in ("taken", "own"))
    assert f"reports/mine holds the report of {other}; rename {own}, or delete that folder." in said


def test_a_name_belongs_to_one_preset_wherever_the_checkout_lies(
    workbook: Workbook, capsys: pytest.CaptureFixture
) -> None:
    note = workbook.root / "reports" / "before" / ".preset"
    note.parent.mkdir()
    note.write_text("config/fast.yaml")
    said = refused(workbook, ["--preset", "full", "--name", "before"], capsys)
    assert f"reports/before holds the report of {workbook.root}/config/fast.yaml; give another --name, or" in said


@pytest.mark.parametrize("folder", ["", "reports"])
def test_a_checkout_that_cannot_be_written(
    workbook: Workbook, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    closed = workbook.root / folder
    may = os.access  # root may write whatever the permissions say
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and path == closed) and may(path, mode))
    said = refused(workbook, [], capsys)
    assert f"{closed} is no folder that you can write to; use a checkout of your own." in said


def test_a_folder_of_reports_that_cannot_be_made(workbook: Workbook, capsys: pytest.CaptureFixture) -> None:
    (workbook.root / "reports" / "fast").symlink_to("nowhere/at/all")
    said = refused(workbook, [], capsys)
    assert f"{workbook.root}/reports/fast cannot be written (File exists); make room there" in said


def test_a_full_disk(workbook: Workbook, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage("/")._replace(free=3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert f"{workbook.root} lies on a disk with 3 MB free; make room for 50 MB." in refused(workbook, [], capsys)


def test_a_disk_that_is_full_at_the_end(
    workbook: Workbook, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, room: Callable
) -> None:
    def engine(*_: object, **__: object) -> int:
        for name in ("logs/01_source.log", "01_source.html"):
            path = workbook.root / "reports" / "fast" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
            os.utime(path, (2e9, 2e9))  # after the start, which is a few milliseconds ago
        return 1

    monkeypatch.setitem(workbook.main.__globals__, "run_engine", engine)
    with room(1000):
        assert workbook.main(["01_source"]) == 1
    said = capsys.readouterr().out
    assert "failed   01_source: look at reports/fast/logs/01_source.log\n" in said, "and not at a page without a word"
    assert f"File too large: '{workbook.root}/reports/fast/index.html'; make room there, and call again.\n" in said


def test_what_a_stage_of_the_workbook_takes_from_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    read_plan = importlib.import_module("stages").read_plan
    monkeypatch.setenv("CODECBOOK_EXTRA", str(tmp_path))
    (tmp_path / "own.yaml").write_text("01_tokenize: {clips_dir: .}\n04_bitstream: {seed: 1}\n")
    stages = read_plan(tmp_path / "own.yaml").stages
    assert stages["01_tokenize"].parameters == {"clips_dir": str(tmp_path)}
    assert {"00_index", "01_tokenize", "03_bits_per_second"} <= {s.name for s in stages.values() if s.inputs}
    assert stages["04_bitstream"].inputs == ()
    clips = tmp_path / "recordings"
    clips.mkdir()
    plan = read_plan(tmp_path / "own.yaml", run_name="mine", clips=clips)
    listening = {name for name, stage in plan.stages.items() if stage.parameters.get("clips_dir") == str(clips)}
    assert {"01_tokenize", "05_determinism", "08_train_codec"} <= listening
    assert {"00_index", "07b_published_schemes"}.isdisjoint(listening)
    assert set(load_run(monkeypatch)._stages_that_listen(plan, [])) == listening | {"09_summary"}
    results = [ROOT / "reports" / "mine" / "results" / f"{stage}.json" for stage in plan.stages]
    assert [*plan.stages["09_summary"].inputs, results[-1]] == results


def test_what_a_preset_leaves_out_runs_only_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    plan = importlib.import_module("stages").read_plan(ROOT / "config" / "real.yaml", clips=tmp_path)
    chosen = ["00_index", "01_tokenize", "01b_drift_passport", "09_summary"]
    assert plan.with_needs([]) == chosen
    assert set(load_run(monkeypatch)._stages_that_listen(plan, [])) == set(chosen) - {"00_index"}
    assert plan.with_needs(["05b_consequences"]) == ["05_determinism", "05b_consequences"]


def test_recordings_of_the_user_have_a_report_of_their_own(
    workbook: Workbook, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []
    monkeypatch.setitem(
        workbook.main.__globals__, "run_engine", lambda command, *_, **__: commands.append(command) or 0
    )
    assert workbook.main(["--clips", "recordings", "--dry-run"]) == 0
    assert f"clips={(workbook.root / 'own/recordings').as_uri()}" in commands[0]
    assert "name=name:recordings" in commands[0]
    assert commands[0][-3:] == [
        f"reports/recordings/results/{stage}.json" for stage in ("01_source", "02_middle", "03_last")
    ]
    (workbook.root / "notebooks/03_last.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": ["parameters"]}}]})
    )
    assert "03_last takes no recordings; with --clips, stages are 01_source, 02_middle." in refused(
        workbook, ["--clips", "recordings", "03_last"], capsys
    )


def test_data_from_elsewhere_that_is_not_there(
    workbook: Workbook, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CODECBOOK_DATA", "CODECBOOK_EXTRA"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "nowhere")
            said = refused(workbook, [], capsys)
            assert f"{workbook.root}/own/nowhere" in said
            assert name in said
