import platform
import re
from datetime import UTC, datetime, timedelta

from codecbook.book import provenance, results


def test_collect_describes_machine_code_and_run():
    started = datetime.now(UTC) - timedelta(seconds=5)
    facts = provenance.collect({"device": "cpu", "rate": 6.0, "seed": 3}, started, provenance.checkout())
    assert facts["wall_s"] >= 5
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["numpy"]
    assert facts["threads"] >= 1
    assert facts["peak_memory_mb"] > 10
    assert (facts["seed"], facts["device"], facts["parameters"]["rate"]) == (3, "cpu", 6.0)
    assert facts["git_commit"] is None or re.fullmatch("[0-9a-f]{40}", facts["git_commit"])
    assert datetime.fromisoformat(facts["started_utc"]).utcoffset() == timedelta(0)


def test_no_checkout_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "repository_dir", lambda: tmp_path)
    facts = provenance.collect({}, datetime.now(UTC), provenance.checkout())
    assert facts["git_commit"] is None
    assert facts["git_dirty"] is None
    assert "no git checkout" in provenance.commit_text(facts)


def test_a_run_names_the_commit_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path))
    began = {"git_commit": "0" * 40, "git_dirty": True}
    monkeypatch.setattr(provenance, "checkout", lambda: began)
    run = results.begin("a", {})
    monkeypatch.setattr(provenance, "checkout", lambda: {"git_commit": "1" * 40, "git_dirty": False})
    facts = run.finish()["provenance"]
    assert {key: facts[key] for key in began} == began
    assert provenance.commit_text(facts) == "commit 0000000000 with local changes"


def test_show_escapes_and_folds(monkeypatch):
    shown = []
    monkeypatch.setattr(provenance, "display", lambda html: shown.append(html.data))
    provenance.show(provenance.collect({"seed": 1, "name": "<b>"}, datetime.now(UTC), provenance.checkout()))
    assert shown[0].startswith("<details")
    assert "&lt;b&gt;" in shown[0]
    assert "<b>" not in shown[0]
    assert '<th scope="row">peak memory</th>' in shown[0]
