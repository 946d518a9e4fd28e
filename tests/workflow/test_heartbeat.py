import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

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
    log.write_text(f"12:00:00 Executing Cell 2\n12:00:30 step {'7' * 100}\n\n")
    assert said_at(59) == ""
    assert said_at(61) == f"      01_source: cell 2 of 3, 61 s; “12:00:30 step {'7' * 76}…”; log: {log}\n"
    log.unlink()
    executed.write_text(executed.read_text()[:-5])
    assert "01_source: running, 91 s" in said_at(91)
    write(executed, "completed", "completed", "completed")
    assert "cell 3 of 3, 318 s" in said_at(318)
    beats.end("01_source")
    assert said_at(600) == ""


def test_the_last_run_says_how_long_it_may_take(
    heartbeat: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    executed, log = tmp_path / "a.ipynb", tmp_path / "a.log"
    for metadata, estimate in (
        ({"duration": 841.3, "exception": None}, " of about 841 s in the last run"),
        ({"duration": 12.0, "exception": True}, ""),
    ):
        executed.write_text(json.dumps({"cells": [], "metadata": {"papermill": metadata}}))
        beats = heartbeat.Heartbeat()
        beats.begin("01_source", 0.0, executed, log)
        write(executed, "running")
        beats.beat(30.0)
        assert capsys.readouterr().out == f"      01_source: cell 1 of 1, 30 s{estimate}; log: {log}\n"


@pytest.mark.parametrize(("planned_s", "asked_s"), [(2, 2), (180, 5)])
def test_a_queue_is_asked_within_seconds(heartbeat: ModuleType, planned_s: int, asked_s: int) -> None:
    seconds = RemoteExecutor.next_seconds_between_status_checks
    assert seconds.fget(SimpleNamespace(_next_seconds_between_status_checks=planned_s)) == asked_s
