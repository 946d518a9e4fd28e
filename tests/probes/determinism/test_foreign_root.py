import json
from pathlib import Path
from typing import Any

import pytest

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.probes.determinism import foreign_apt
from codecbook.probes.determinism.foreign_root import (
    ARCHITECTURES,
    MANIFEST,
    ForeignRoot,
    command,
    find_root,
    roots_folder,
)

CONTENT: dict[str, Any] = {
    "format": 1, "arch": "arm64", "suite": "trixie", "python": "3.13.5", "packages": {"numpy": "2.2.4"},
    "has_torch": True, "size_mb": 1.5,
}  # fmt: skip


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a root of Arm64 that looks whole, and an emulator."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qemu-aarch64").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(foreign_apt, "_TOOL_FOLDERS", ())
    root = tmp_path / "roots" / "arm64"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "python3.13").touch()
    (root / "sp" / "torch").mkdir(parents=True)
    (root / MANIFEST).write_text(json.dumps(CONTENT))
    return root.parent


def test_the_folder_of_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CODECBOOK_ROOTS", str(tmp_path / "here"))
    assert roots_folder() == tmp_path / "here"
    monkeypatch.delenv("CODECBOOK_ROOTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert roots_folder() == tmp_path / "codecbook" / "roots"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert roots_folder() == tmp_path / ".cache" / "codecbook" / "roots"


def test_a_whole_root_is_found(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ForeignRoot(
        "arm64", roots / "arm64", str(roots.parent / "bin" / "qemu-aarch64"), "trixie", "3.13.5", {"numpy": "2.2.4"},
        True, 1.5,
    )  # fmt: skip
    assert find_root("arm64", roots) == expected
    monkeypatch.setenv("CODECBOOK_ROOTS", str(roots))
    assert find_root("arm64") == expected


def test_a_static_emulator_is_preferred(roots: Path) -> None:
    static = roots.parent / "bin" / "qemu-aarch64-static"
    static.touch(mode=0o755)
    assert find_root("arm64", roots).emulator == str(static)


def test_a_missing_root_says_how_to_make_it(roots: Path) -> None:
    with pytest.raises(CodecbookError, match=rf"run: python -m .*foreign make s390x --folder {roots}"):
        find_root("s390x", roots)
    with pytest.raises(UnsupportedInput, match="'vax'; choose of arm64"):
        find_root("vax", roots)


@pytest.mark.parametrize("text", ["", '{"format": 1, "arch"', "[]", '"text"', "\x00"])
def test_a_damaged_manifest_is_refused(roots: Path, text: str) -> None:
    (roots / "arm64" / MANIFEST).write_text(text)
    with pytest.raises(CorruptInput, match=r"damaged.*remove the folder.*make arm64"):
        find_root("arm64", roots)


@pytest.mark.parametrize("field", ["suite", "python", "packages", "has_torch", "size_mb"])
def test_a_manifest_has_every_field(roots: Path, field: str) -> None:
    (roots / "arm64" / MANIFEST).write_text(json.dumps({k: v for k, v in CONTENT.items() if k != field}))
    with pytest.raises(CorruptInput, match=field):
        find_root("arm64", roots)


@pytest.mark.parametrize("change", [{"size_mb": "much"}, {"size_mb": None}, {"packages": 3}])
def test_a_manifest_has_fields_of_their_types(roots: Path, change: dict) -> None:
    (roots / "arm64" / MANIFEST).write_text(json.dumps(CONTENT | change))
    with pytest.raises(CorruptInput, match="damaged"):
        find_root("arm64", roots)


@pytest.mark.parametrize("change", [{"format": 2}, {"arch": "s390x"}])
def test_another_format_or_processor_is_refused(roots: Path, change: dict) -> None:
    (roots / "arm64" / MANIFEST).write_text(json.dumps(CONTENT | change))
    with pytest.raises(UnsupportedInput, match=r"not of 1 and 'arm64'; remove"):
        find_root("arm64", roots)


def test_missing_files_are_noticed(roots: Path) -> None:
    (roots / "arm64" / "sp" / "torch").rmdir()
    with pytest.raises(CorruptInput, match="torch is missing"):
        find_root("arm64", roots)
    (roots / "arm64" / "usr" / "bin" / "python3.13").unlink()
    with pytest.raises(CorruptInput, match=r"python3\.13 is missing"):
        find_root("arm64", roots)


def test_a_missing_emulator_is_named(roots: Path) -> None:
    (roots.parent / "bin" / "qemu-aarch64").unlink()
    with pytest.raises(UnsupportedInput, match=r"qemu-aarch64-static.*Debian package qemu-user-static"):
        find_root("arm64", roots)


def _variables(words: list[str]) -> dict[str, str]:
    pairs = [words[n + 1] for n, word in enumerate(words) if word == "-E"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_the_command_names_everything_foreign(roots: Path) -> None:
    root = find_root("arm64", roots)
    words = command(
        root, ["-m", "x", "-E"], [Path("/a"), "/b"], {"OMP_NUM_THREADS": "1", "PYTHONHOME": "/c=d"}
    )
    folder = str(roots / "arm64")
    assert words[:5] == [root.emulator, "-cpu", "max", "-L", folder]
    start = words.index(f"{folder}/usr/bin/python3.13")
    assert words[start + 1 :] == ["-m", "x", "-E"]
    variables = _variables(words[:start])
    assert variables["PYTHONPATH"] == f"/a:/b:{folder}/sp"
    assert variables["PYTHONHOME"] == "/c=d", "the caller's variables come last"
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["PYTHONNOUSERSITE"] == "1"
    libraries = f"{folder}/usr/lib/aarch64-linux-gnu"
    assert variables["LD_LIBRARY_PATH"].split(":")[:2] == [f"{libraries}/openblas-pthread", libraries]
    assert command(root, [], cpu="neoverse-n1")[1:3] == ["-cpu", "neoverse-n1"]


def test_a_root_without_torch_has_no_packages_of_its_own(roots: Path) -> None:
    (roots / "arm64" / MANIFEST).write_text(json.dumps(CONTENT | {"has_torch": False}))
    assert _variables(command(find_root("arm64", roots), []))["PYTHONPATH"] == ""


def test_colons_in_folders_are_refused(roots: Path) -> None:
    with pytest.raises(UnsupportedInput, match="colon"):
        command(find_root("arm64", roots), [], ["/a:b"])


def test_architectures_are_consistent() -> None:
    assert all(name == architecture.name for name, architecture in ARCHITECTURES.items())
    assert ARCHITECTURES["s390x"].byte_order == "big"
    assert {architecture.word_bits for architecture in ARCHITECTURES.values()} == {32, 64}
