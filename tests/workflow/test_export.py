"""A run as one file, by the command line."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_becomes_a_file_and_what_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    monkeypatch.chdir(tmp_path)
    command = importlib.import_module("export")
    run = tmp_path / "mine"
    (run / "results").mkdir(parents=True)
    (run / "01_a.html").write_text("a report")

    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            command.main(list(arguments))
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "holds no index.html" in refused(str(run))
    (run / "index.html").write_text("an index")
    assert command.main([str(run)]) == 0
    assert capsys.readouterr().out.startswith("Page: codecbook-mine.html (")
    first = (tmp_path / "codecbook-mine.html").read_bytes()
    assert command.main([str(run), "--out", "again.html"]) == 0
    assert (tmp_path / "again.html").read_bytes() == first
    assert "neither a run below reports/" in refused(str(tmp_path / "none"))
    (tmp_path / "taken").write_text("")
    assert refused(str(run), "--out", "taken/page.html").startswith("run_all.sh export: ")
