"""What a machine lacks is said, with what it costs and what mends it, and nothing is installed or fetched for it."""

import collections
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from codecbook.book import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    return importlib.import_module("doctor")


def test_every_lack_has_its_cost_and_its_remedy(
    doctor: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    lacks = [finding for finding in doctor.findings() if finding.state != "ok"]
    assert {"Chromium", "Node.js", "C++ compiler"} <= {finding.what for finding in lacks}
    assert all(finding.cost and finding.remedy for finding in lacks)
    assert doctor.main([]) == 0, "the notebooks run without any of these"
    said = capsys.readouterr().out
    assert "without  Chromium: not here\n           left out: browser tests of the reports\n" in said
    assert said.endswith("The notebooks can be run.\n")


def test_a_full_disk_and_a_small_memory_are_noticed(
    doctor: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(10**10, 10**10, 10**8))
    monkeypatch.setattr(doctor, "_memory_gb", lambda: 2.0)
    states = {finding.what: finding.state for finding in doctor.findings()}
    assert (states["disk"], states["memory"]) == ("missing", "without")
    assert doctor.main([]) == 1
    assert capsys.readouterr().out.count("disk: 0.1 GB free") == 1


def test_weights_in_the_caches_are_found_and_others_are_not(
    doctor: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CODECBOOK_EXTRA", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, file: str(tmp_path / file) if repository == "kyutai/mimi" else None,
    )
    assert environment.published_weights()["here"].tolist().count(True) == 1
    checkpoint = tmp_path / "torch/checkpoints/encodec_24khz-d7cc33bc.th"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    table = environment.published_weights().set_index("codec")
    assert set(table.index[table["here"]]) == {"mimi", "encodec_24khz"}
    assert table.loc["encodec_24khz", "place"] == str(checkpoint)
    assert (table.loc[~table["here"], "remedy"] != "").all()
    assert ".tflite" in table.loc["lyra_v2", "remedy"]
    findings = {finding.what: finding for finding in doctor.findings()}
    assert findings["published weights of mimi"].state == "ok"
    assert "snac_24khz (about 79 MB)" in findings["published weights"].found
    assert "codecs fetch encodec_48khz snac_24khz dac_44khz neucodec" in findings["published weights"].remedy


def test_without_the_environment_it_says_so_and_makes_none(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    (tmp_path / "requirements.lock").write_text("torch==0.0.0\n")
    # a Python of its own, which sees no packages
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    before = set(tmp_path.iterdir())
    variables = {"PYTHON": str(tmp_path / "bare/bin/python"), "PATH": "/usr/bin:/bin"}
    run = subprocess.run([tmp_path / "run_all.sh", "doctor"], capture_output=True, text=True, env=variables)
    assert run.returncode == 1, run.stderr
    assert run.stdout.startswith("missing  environment: ")
    assert "./run_all.sh sets it up" in run.stdout
    assert "cannot be run yet" in run.stdout
    assert set(tmp_path.iterdir()) == before


def test_an_option_that_it_does_not_have_is_refused(doctor: ModuleType, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--fix"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("run_all.sh doctor: ")
