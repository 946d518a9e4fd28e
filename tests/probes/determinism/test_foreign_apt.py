from pathlib import Path

import pytest

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.probes.determinism import foreign_apt
from codecbook.probes.determinism.foreign_apt import (
    Source,
    debian_source,
    find_tool,
    make_links_relative,
    parse_deb822,
    parse_list,
    run_tool,
)

LIST = """# deb http://old.example/debian bookworm main
deb http://a.example/debian bookworm main contrib # a remark
deb-src http://a.example/debian bookworm main
deb [ arch=amd64,arm64 signed-by=/usr/share/keyrings/x.gpg ] https://b.example/ stable main
deb [arch=amd64] https://c.example/flat ./
deb
"""
DEB822 = """Types: deb deb-src
# http://snapshot.example/20250520
URIs: http://a.example/debian http://b.example/debian
suites: trixie
 trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
Components: main
"""


def test_one_line_sources() -> None:
    assert parse_list(LIST) == [
        Source("http://a.example/debian", "bookworm", ("main", "contrib")),
        Source("https://b.example/", "stable", ("main",), "/usr/share/keyrings/x.gpg"),
        Source("https://c.example/flat", "./", ()),
    ]


def test_deb822_sources() -> None:
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert parse_deb822(DEB822) == [
        Source(f"http://{host}.example/debian", suite, ("main",), key)
        for host in "ab"
        for suite in ("trixie", "trixie-updates")
    ]


def test_nothing_is_no_source() -> None:
    assert (
        parse_list("")
        == parse_deb822("")
        == parse_deb822("\n\n# only a remark\n continuation of nothing")
        == []
    )


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """A Debian's settings, without sources."""
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    (tmp_path / "release").write_text(
        'ID=debian\nPRETTY_NAME="Debian 13 (trixie)"\nVERSION_CODENAME=trixie\n'
    )
    return tmp_path / "apt"


def test_debians_own_archive_is_preferred(apt: Path) -> None:
    release = apt.parent / "release"
    (apt / "sources.list.d" / "a-vendor.list").write_text("deb http://vendor.example/apt trixie main")
    assert debian_source(apt=apt, release=release).uri == "http://vendor.example/apt"
    (apt / "sources.list.d" / "debian.sources").write_text(DEB822)
    found = debian_source(apt=apt, release=release)
    assert (found.uri, found.suite) == ("http://a.example/debian", "trixie")
    assert debian_source("sid", apt, release).suite == "sid"


def test_a_suite_by_its_role_and_a_list_of_mirrors(apt: Path, tmp_path: Path) -> None:
    mirrors = tmp_path / "mirrors"
    mirrors.write_text(
        "# nearest first\nhttps://near.example/debian\tpriority:1\nhttps://far.example/debian\n"
    )
    (apt / "sources.list").write_text(f"deb mirror+file:{mirrors} testing main\ndeb cdrom:[x]/ trixie main\n")
    found = debian_source(apt=apt, release=tmp_path / "release")
    assert (found.uri, found.suite) == ("https://near.example/debian", "testing")


def test_other_systems_and_no_sources_are_refused(apt: Path) -> None:
    release = apt.parent / "release"
    with pytest.raises(UnsupportedInput, match=r"main.*Name the mirror"):
        debian_source(apt=apt, release=release)
    release.write_text("ID=arch\n")
    with pytest.raises(UnsupportedInput, match="runs 'arch', not Debian"):
        debian_source(apt=apt, release=release)
    with pytest.raises(UnsupportedInput, match="unknown system"):
        debian_source(apt=apt, release=apt / "missing")


def test_tools_are_found_beside_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setattr(foreign_apt, "_TOOL_FOLDERS", (str(tmp_path),))
    assert find_tool("tool") == ""
    (tmp_path / "tool").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "tool").chmod(0o755)
    assert find_tool("tool") == str(tmp_path / "tool")
    assert run_tool([find_tool("tool")], "Tool", folder=tmp_path).strip() == str(tmp_path)


def test_a_tools_failure_is_told(tmp_path: Path) -> None:
    script = "echo I: going on; echo E: no such suite >&2; exit 3"
    with pytest.raises(CodecbookError, match=r"Tool failed with status 3.*E: no such suite"):
        run_tool(["/bin/sh", "-c", script], "Tool")
    with pytest.raises(CodecbookError, match="could not be started"):
        run_tool([str(tmp_path / "none")], "Tool")
    with pytest.raises(CodecbookError, match=r"longer than 0\.2 s"):
        run_tool(["/bin/sh", "-c", "exec sleep 20"], "Tool", timeout_s=0.2)


def test_links_stay_within_the_root(tmp_path: Path) -> None:
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib" / "t").mkdir(parents=True)
    (tmp_path / "lib" / "t" / "ld.so").write_text("loader")
    (tmp_path / "lib64" / "ld.so").symlink_to("/lib/t/ld.so")
    (tmp_path / "lib64" / "folder").symlink_to("/lib/t")
    (tmp_path / "lib64" / "near").symlink_to("ld.so")
    make_links_relative(tmp_path)
    assert str((tmp_path / "lib64" / "ld.so").readlink()) == "../lib/t/ld.so"
    assert (tmp_path / "lib64" / "near").read_text() == "loader"
    assert (tmp_path / "lib64" / "folder" / "ld.so").read_text() == "loader"
