"""The rooms of the package stand in an order, and each imports only from those above it."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "codecbook"
# from the foundation up; a room is a file or a folder
ROOMS = (
    "errors", "command_line", "__main__", "paths", "files", "lazy", "compiled", "audio_files",
    "audio", "recordings", "clips", "tokens", "models", "training",
    "codecs", "lm", "coding", "measure", "probes", "book",
)  # fmt: skip
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
MODULES = {".".join(("codecbook", *file.with_suffix("").parts)).removesuffix(".__init__"): file for file in FILES}
FOLDERS = sorted({file.parent for file in FILES} - {Path()})


def room_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported_rooms(source: str) -> set[str]:
    """Return the rooms of codecbook that a file imports, wherever in the file it does."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    rooms = {name.split(".")[1] for name in names if name.startswith("codecbook.")}
    return rooms - {"__version__"}


def test_every_room_has_its_place() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_room_imports_only_from_rooms_above_it(file: Path) -> None:
    imported = imported_rooms((PACKAGE / file).read_text())
    if file == Path("__init__.py"):
        assert not imported, "importing codecbook imports nothing, so that it is instant"
        return
    above = ROOMS[: ROOMS.index(room_of(file)) + 1]
    assert imported <= set(above), f"{room_of(file)} may import {above}"


def imported_modules(file: Path) -> set[str]:
    """Return the modules of codecbook that a file imports, those for type checkers and in functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & MODULES.keys()
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= inner & MODULES.keys() or {str(node.module)} & MODULES.keys()
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: imported_modules(file) - {name} for name, file in MODULES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names the circle


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_has_at_most_15_files(folder: Path) -> None:
    assert len(list((PACKAGE / folder).glob("*.py"))) <= 15


@pytest.mark.parametrize("room", [folder for folder in FOLDERS if len(folder.parts) == 1], ids=str)
def test_each_room_says_in_30_lines_what_lives_there(room: Path) -> None:
    text = (PACKAGE / room / "README.md").read_text()
    assert len(text.splitlines()) <= 30
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        assert (PACKAGE / room / name).exists(), f"{name}, which the README of {room} names, is not there"
    missing = {path.name for path in (PACKAGE / room).iterdir() if path.suffix == ".py" and path.name not in text} - {
        "__init__.py",
        "__main__.py",
    }
    assert not missing, f"the README of {room} says nothing of these"


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import codecbook.book.pages.render", {"book"}),
        ("from codecbook import audio, tokens", {"audio", "tokens"}),
        ("def late():\n    from codecbook.lm.models import Model", {"lm"}),
        ("import numpy\nfrom numpy import codecbook", set()),
    ],
)
def test_imports_are_found_in_every_form(source: str, rooms: set[str]) -> None:
    assert imported_rooms(source) == rooms
