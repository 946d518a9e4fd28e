"""Tools that only pretend stand in for those that take a network and minutes; test_foreign.py uses real roots."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.probes.determinism import foreign_apt
from codecbook.probes.determinism.foreign_make import WHEELS, make_root
from codecbook.probes.determinism.foreign_root import MANIFEST, command, find_root

FACTS = {
    "byte_order": "little", "word_bits": 64, "python": "3.11.2", "packages": {"numpy": "1.24.2"}, "product": 360.0,
    "seconds": 0.1,
}  # fmt: skip
MIRROR: dict[str, Any] = {"mirror": "http://mirror.example/debian", "suite": "bookworm"}


class Tools:
    """Programs on PATH that write what they were called with into a log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        folder.mkdir()
        self.write("gpgv", "")
        self.write(
            "debootstrap",
            'for word; do case "$word" in /*) mkdir -p "$word/var/cache/apt/archives" "$word/tmp"',
        )
        self.append("debootstrap", 'touch "$word/var/cache/apt/archives/python3.deb";; esac; done')
        self.write("dpkg-deb", 'mkdir -p "$3/usr/bin" "$3/usr/share/doc"; touch "$3/usr/bin/python3.11"')
        self.append("dpkg-deb", 'ln -s python3.11 "$3/usr/bin/python3"')
        self.python(FACTS)
        self.write("pip", 'while [ "$1" != --target ]; do shift; done; mkdir -p "$2/torch"')

    def write(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> "{self.log}"\n{script}\n')
        path.chmod(0o755)

    def append(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(path.read_text() + script + "\n")

    def python(self, facts: dict) -> None:
        """Let the emulated Python say this of itself."""
        self.write("qemu-aarch64-static", f"cat <<'EOF'\n{json.dumps(facts)}\nEOF")

    def called(self, name: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(name + " ")]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{tools.folder}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tools.folder / "pip"))
    return tools


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    return tmp_path / "roots"


def _left(roots: Path) -> list[str]:
    return sorted(path.name for path in roots.iterdir())


def test_a_root_is_made_once(tools: Tools, roots: Path) -> None:
    lines: list[str] = []
    root = make_root("arm64", roots, on_progress=lines.append, **MIRROR)
    assert root == find_root("arm64", roots)
    assert (root.python, root.suite, root.packages, root.has_torch) == (
        "3.11.2",
        "bookworm",
        {"numpy": "1.24.2"},
        False,
    )
    (call,) = tools.called("debootstrap")
    assert "--arch=arm64" in call
    assert "--force-check-gpg" in call
    assert call.endswith(MIRROR["mirror"])
    assert lines[0].startswith("arm64: fetching Debian bookworm from http://mirror.example")
    assert lines[-1].startswith("arm64: ready after")
    assert _left(roots) == ["arm64"]
    assert _left(roots / "arm64") == [MANIFEST, "usr"], "what no Python uses is removed"
    assert not (roots / "arm64" / "usr" / "share" / "doc").exists()
    assert make_root("arm64", roots, on_progress=lines.append) == root
    assert lines[-1].startswith("arm64: exists")
    assert len(tools.called("debootstrap")) == 1


def test_torch_is_added_to_a_root(tools: Tools, roots: Path) -> None:
    make_root("arm64", roots, **MIRROR)
    tools.python(FACTS | {"packages": {"numpy": "2.2.6", "torch": "2.7.1"}})
    root = make_root("arm64", roots, with_torch=True)
    assert root.has_torch
    assert root.packages["torch"] == "2.7.1"
    (call,) = tools.called("pip")
    assert "--python-version 3.11 --platform manylinux" in call
    assert call.endswith(" ".join(WHEELS))
    assert len(tools.called("debootstrap")) == 1
    assert f"{root.folder}/sp" in " ".join(command(root, []))
    assert make_root("arm64", roots) == root, "a root with more is good enough"
    assert _left(roots) == ["arm64"]


def test_all_wheels_have_exact_versions() -> None:
    assert all(wheel.count("==") == 1 for wheel in WHEELS)


@pytest.mark.parametrize("tool", ["debootstrap", "dpkg-deb", "qemu-aarch64-static"])
def test_nothing_is_left_after_a_failing_tool(tools: Tools, roots: Path, tool: str) -> None:
    tools.append(tool, "echo E: the disk is full >&2; exit 7")
    with pytest.raises(CodecbookError, match=r"failed with status 7.*E: the disk is full"):
        make_root("arm64", roots, **MIRROR)
    assert _left(roots) == []


def test_a_failing_pip_leaves_the_root_as_it_was(tools: Tools, roots: Path) -> None:
    root = make_root("arm64", roots, **MIRROR)
    tools.append("pip", "exit 1")
    with pytest.raises(CodecbookError, match=r"pip for arm64 with Python 3\.11 failed"):
        make_root("arm64", roots, with_torch=True)
    assert find_root("arm64", roots) == root
    assert _left(root.folder) == [MANIFEST, "usr"]


@pytest.mark.parametrize("wrong", [{"byte_order": "big"}, {"word_bits": 32}, {"product": 359.0}])
def test_a_python_that_is_not_what_it_should_be_is_not_kept(tools: Tools, roots: Path, wrong: dict) -> None:
    tools.python(FACTS | wrong)
    with pytest.raises(CodecbookError, match="not \\('little', 64, 360"):
        make_root("arm64", roots, **MIRROR)
    assert _left(roots) == []


def test_a_python_that_says_nothing_is_not_kept(tools: Tools, roots: Path) -> None:
    tools.write("qemu-aarch64-static", "")
    with pytest.raises(CodecbookError, match="printed ''"):
        make_root("arm64", roots, **MIRROR)
    assert _left(roots) == []


def test_packages_without_python_are_refused(tools: Tools, roots: Path) -> None:
    tools.write("dpkg-deb", 'mkdir -p "$3/usr/bin"')
    with pytest.raises(CodecbookError, match="no python3"):
        make_root("arm64", roots, **MIRROR)
    assert _left(roots) == []


def test_a_damaged_root_is_made_anew(tools: Tools, roots: Path) -> None:
    root = make_root("arm64", roots, **MIRROR)
    (root.folder / MANIFEST).write_text("{")
    assert make_root("arm64", roots, **MIRROR) == root
    assert len(tools.called("debootstrap")) == 2
    assert _left(roots) == ["arm64"]


@pytest.mark.usefixtures("tools")
def test_what_is_no_root_is_not_touched(roots: Path) -> None:
    (roots / "arm64").mkdir(parents=True)
    (roots / "arm64" / "thesis.txt").write_text("precious")
    with pytest.raises(UnsupportedInput, match="no foreign root"):
        make_root("arm64", roots, **MIRROR)
    assert _left(roots / "arm64") == ["thesis.txt"]


@pytest.mark.usefixtures("tools")
def test_a_root_of_another_suite_is_not_replaced(roots: Path) -> None:
    make_root("arm64", roots, **MIRROR)
    with pytest.raises(UnsupportedInput, match="of suite bookworm, not trixie"):
        make_root("arm64", roots, suite="trixie")


def test_missing_tools_name_their_packages(
    tools: Tools, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("debootstrap", "gpgv"):
        (tools.folder / name).unlink()
    monkeypatch.setenv("PATH", str(tools.folder))
    monkeypatch.setattr(foreign_apt, "_TOOL_FOLDERS", ())
    with pytest.raises(UnsupportedInput, match="install the Debian packages debootstrap gpgv"):
        make_root("arm64", roots, **MIRROR)
    with pytest.raises(UnsupportedInput, match="qemu-user-static"):
        make_root("s390x", roots, **MIRROR)
    assert not roots.exists()


def test_only_arm64_has_torch(roots: Path) -> None:
    with pytest.raises(UnsupportedInput, match=r"no PyTorch for s390x.*\['arm64'\]"):
        make_root("s390x", roots, with_torch=True)
