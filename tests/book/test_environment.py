import pandas as pd
import pytest

from codecbook.book import environment
from codecbook.clips import catalogue


def test_packages_compares_with_the_lock(monkeypatch):
    monkeypatch.setattr(environment, "pinned_versions", lambda: {"numpy": "0.0.1", "pytest": "9"})
    table = environment.packages(["numpy", "no-such-package-here"]).set_index("package")
    assert table.loc["numpy", "pinned"] == "0.0.1"
    assert not table.loc["numpy", "as_pinned"]
    assert table.loc["no-such-package-here"].tolist() == ["", "", False]
    assert environment.missing_packages(table.reset_index()) == ["no-such-package-here"]


def test_a_build_tag_is_no_difference(monkeypatch):
    monkeypatch.setattr(environment, "installed_version", lambda name: "2.13.0+cpu")
    monkeypatch.setattr(environment, "pinned_versions", lambda: {"torch": "2.13.0"})
    assert environment.packages(["torch"])["as_pinned"].tolist() == [True]


def test_pinned_versions_reads_every_line_of_the_lock():
    pinned = environment.pinned_versions()
    assert pinned["torch"] == "2.13.0"
    assert len(pinned) > 100
    assert all(version and version[0].isdigit() for version in pinned.values())


def test_every_absent_tool_has_a_remedy(monkeypatch):
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    table = environment.optional_tools()
    assert not table.set_index("tool").loc["Chromium", "here"]
    assert (table.loc[~table["here"], "remedy"] != "").all()
    assert (table.loc[table["here"], "remedy"] == "").all()


def test_clips_by_domain_counts_the_catalogue():
    table = environment.clips_by_domain(catalogue()).set_index("domain")
    assert table["clips"].to_dict() == {"music": 8, "speech": 16}
    assert table.loc["music", "sample_rates_hz"] == "48000"
    assert table["duration_s"].sum() == pytest.approx(sum(entry.duration_s for entry in catalogue()))


def test_codec_table_says_what_is_bundled():
    table = environment.codec_table(["units_25hz", "mimi"]).set_index("codec")
    assert table["bundled"].to_dict() == {"units_25hz": True, "mimi": False}
    assert table.loc["units_25hz", "codebooks"] == 1
    assert pd.isna(table.loc["mimi", "codebooks"])
    assert "pretrained" in table.loc["mimi", "weights"]


def test_clips_that_are_missing_or_damaged_are_named(monkeypatch, tmp_path):
    entries = catalogue()
    assert environment.broken_clips(entries[:1] + entries[-1:]) == []
    assert environment.broken_clips(entries[:1]) == ["no clip of music"]
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / entries[-1].file).write_bytes(b"fLaC")
    missing, damaged = environment.broken_clips(entries[:1] + entries[-1:])
    assert "is missing" in missing
    assert "has SHA-256" in damaged


def test_a_machine_without_bundled_weights_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    assert environment.codec_table(["units_25hz", "fsq_50hz"])["bundled"].sum() == 0
