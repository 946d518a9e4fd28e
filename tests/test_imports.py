"""The rooms of the package stand in an order, and each imports only from those above it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "codecbook"
# from the foundation up; a room is a file or a folder
ROOMS = (
    "errors", "command_line", "paths", "files", "lazy", "compiled", "audio", "clips", "tokens", "codecs", "lm",
    "coding", "measure", "probes", "book",
)  # fmt: skip
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


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


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import codecbook.book.render", {"book"}),
        ("from codecbook import audio, tokens", {"audio", "tokens"}),
        ("def late():\n    from codecbook.lm.models import Model", {"lm"}),
        ("import numpy\nfrom numpy import codecbook", set()),
    ],
)
def test_imports_are_found_in_every_form(source: str, rooms: set[str]) -> None:
    assert imported_rooms(source) == rooms
