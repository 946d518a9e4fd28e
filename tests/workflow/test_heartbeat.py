import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "workflow" / "logger")
    made = importlib.import_module("snakemake_logger_plugin_codecbook.heartbeat")
    monkeypatch.setattr(made.Heartbeat, "_tick", lambda self: None)  # beats come from the test alone
    return made


def write(path: Path, *states: str) -> None:
    cells = [{"cell_type": "code", "metadata": {"papermill": {"status": state}}} for state in states]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "metadata": {}}, *cells]}))


def test_a_stage_gives_a_sign_of_life_every_half_minute(
    heartbeat: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    executed, log = tmp_path / "a.ipynb", tmp_path / "a.log"
    beats = heartbeat.Heartbeat()
    beats.begin("01_source", 1000.0, executed, log)

    def said_at(seconds: float) -> str:
        beats.beat(1000.0 + seconds)
        return capsys.readouterr().out

    assert said_at(29) == ""
    assert said_at(30) == f"      01_source: waiting to begin, 30 s; log: {log}\n"
    write(executed, "completed", "running", "pending")
    assert said_at(59) == ""
    assert said_at(61) == f"      01_source: cell 2 of 3, 61 s; log: {log}\n"
    executed.write_text(executed.read_text()[:-5])
    assert "01_source: running, 91 s" in said_at(91)
    write(executed, "completed", "completed", "completed")
    assert "cell 3 of 3, 318 s" in said_at(318)
    beats.end("01_source")
    assert said_at(600) == ""
