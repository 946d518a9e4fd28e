"""Answers of listeners as CSV files, one a session: written after each answer, by a page or here, and read back.

Columns: ``schema`` (``codecbook-answers-1``), ``test`` (``abx`` or ``mushra``), ``title``, ``listener``, ``session``
(8 hex digits), ``trial`` (from 1; of MUSHRA the round), ``item`` (the recording), ``condition`` (of A/B/X what X was),
``score`` (0 to 100, MUSHRA), ``vote`` (A/B/X), ``played_s`` (for how long the condition was heard, in seconds) and
``time_utc`` (ISO 8601). A text that a spreadsheet would take for a formula has an apostrophe before it in the file.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import write_file
from codecbook.paths import path_as_text

SCHEMA = "codecbook-answers-1"
HIDDEN = "hidden reference"
COLUMNS = (
    "schema", "test", "title", "listener", "session", "trial", "item", "condition", "score", "vote", "played_s",
    "time_utc",
)  # fmt: skip
_KEY = ["test", "title", "session", "trial", "item", "condition"]  # of a score; a trial of A/B/X has one row
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_BYTES = 4 << 20
_LONGEST_TEXT = 300


def write_answers(rows: Iterable[Mapping[str, Any]], path: str | Path, overwrite: bool = False) -> Path:
    """Write rows as a page does, checked as `read_answers` checks them; return the path."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow([_safe(str(row.get(name, ""))) for name in COLUMNS])
    _read(text.getvalue(), Path(path))
    return write_file(path, text.getvalue(), overwrite)


def file_name(row: Mapping[str, Any]) -> str:
    """Return the name of the file of a session, from a row of it: letters, digits and hyphens, whatever it holds."""
    parts = [
        re.sub(r"[^a-z0-9]+", "-", str(row[name]).lower()).strip("-")[:40] for name in ("test", "title", "session")
    ]
    return "-".join(part or "test" for part in parts) + ".csv"


def read_answers(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Read answers of one or several listeners.

    Args:
        paths: CSV files, or folders, of which all ``*.csv`` are read.

    Returns:
        The rows of all files in order of time: `COLUMNS` without ``schema``; ``trial`` int, ``score`` and ``played_s``
        float (``score`` NaN for A/B/X), ``time_utc`` a time with zone, the others text.

    Raises:
        MissingInput: No such file, or none in a folder.
        CorruptInput: Not such a file, a value that is out of range, or the same answer twice.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    files = [file for path in given for file in (sorted(path.glob("*.csv")) if path.is_dir() else [path])]
    missing = [path_as_text(file) for file in files if not file.is_file()]
    if missing or not files:
        raise MissingInput(
            f"No answers in {', '.join(missing or map(path_as_text, given)) or 'nothing'}; give CSV files, or a folder."
        )
    table = pd.DataFrame([row for file in files for row in _read(_text(file), file)])
    twice = table[table.duplicated(_KEY, keep=False)]
    if len(twice):
        first = twice.iloc[0]
        raise CorruptInput(
            f"{len(twice)} answers are there twice, as {first.session}, {first.trial}, {first['item']!r}; drop one."
        )
    return table.sort_values("time_utc", kind="stable", ignore_index=True)


def _text(file: Path) -> str:
    if file.stat().st_size > _MOST_BYTES:
        raise UnsupportedInput(f"{path_as_text(file)} has {file.stat().st_size} bytes, more than answers; check it.")
    try:
        return file.read_bytes().decode("utf-8-sig")  # a spreadsheet may have put its mark in front
    except UnicodeDecodeError as error:
        raise CorruptInput(f"{path_as_text(file)} is no UTF-8 text ({error.reason}); save it as CSV UTF-8.") from error


def _read(text: str, file: Path) -> list[dict[str, Any]]:
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        raise CorruptInput(f"{path_as_text(file)} is no CSV table ({error}); take the file as it was saved.") from error
    if tuple(head) != COLUMNS:
        raise CorruptInput(f"{path_as_text(file)} has the columns {head[:20]}, not {list(COLUMNS)}; do not edit it.")
    return [_row(row, f"{path_as_text(file)}, line {i}") for i, row in enumerate(rows, start=2)]


def _row(cells: list[str], where: str) -> dict[str, Any]:
    """Return one row with its values checked."""

    def refuse(name: str, wanted: str) -> CorruptInput:
        return CorruptInput(f"{where}: {name} is {row.get(name)!r}, not {wanted}; take the file as it was saved.")

    row: dict[str, Any] = {
        name: value[1:] if value[:1] == "'" else value for name, value in zip(COLUMNS, cells, strict=False)
    }
    if len(cells) != len(COLUMNS):
        raise CorruptInput(f"{where} has {len(cells)} cells, not {len(COLUMNS)}; take the file as it was saved.")
    for name in ("title", "listener", "item", "condition"):
        if not row[name].strip() or len(row[name]) > _LONGEST_TEXT or _CONTROL.search(row[name]):
            raise refuse(name, f"a text of 1 to {_LONGEST_TEXT} characters on one line")
    if row["schema"] != SCHEMA:
        raise refuse("schema", f"{SCHEMA} of this release")
    if row["test"] not in ("abx", "mushra"):
        raise refuse("test", "abx or mushra")
    if not re.fullmatch(r"[0-9a-f]{8}", row["session"]):
        raise refuse("session", "8 hex digits")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", row["trial"]):
        raise refuse("trial", "a whole number from 1")
    for name, most in {"played_s": 1e6, "score": 100.0}.items():
        if name == "score" and row["test"] == "abx":
            continue
        if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", row[name]) or float(row[name]) > most:
            raise refuse(name, f"a number from 0 to {most:g}")
    if (row["vote"] == "") != (row["test"] == "mushra") or (row["score"] == "") != (row["test"] == "abx"):
        raise refuse("vote", "given for A/B/X alone, as a score is for MUSHRA alone")
    try:
        row["time_utc"] = datetime.fromisoformat(row["time_utc"])
        if row["time_utc"].tzinfo is None:
            raise ValueError
    except ValueError:
        raise refuse("time_utc", "a time with its zone, such as 2026-01-01T12:00:00.000Z") from None
    del row["schema"]
    return row | {
        "trial": int(row["trial"]), "played_s": float(row["played_s"]), "score": float(row["score"] or "nan"),
    }  # fmt: skip


def _safe(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, on one line."""
    text = _CONTROL.sub(" ", text)
    return f"'{text}" if text[:1] in tuple("=+-@'") else text
