"""Where the project's own data lie, and where more may be found.

The package is used from a checkout, so the folders are found relative to this file. The environment variable
``CODECBOOK_DATA`` names another data folder; ``CODECBOOK_EXTRA`` names a folder of further recordings and
golden files that tests and notebooks use where it exists.
"""

import os
import re
from pathlib import Path

from codecbook.errors import CodecbookError


def repository_dir() -> Path:
    """Return the root of the checkout that this package is imported from."""
    return Path(__file__).resolve().parents[2]


def data_dir() -> Path:
    """Return the folder that holds ``clips``, ``models`` and ``tokens``.

    Raises CodecbookError: the folder does not exist (the package was installed without its checkout).
    """
    folder = Path(os.environ.get("CODECBOOK_DATA") or repository_dir() / "data")
    if not folder.is_dir():
        raise CodecbookError(f"The data folder {folder} does not exist; run from a checkout, or set CODECBOOK_DATA.")
    return folder


def extra_dir() -> Path | None:
    """Return the folder that ``CODECBOOK_EXTRA`` names, None where it is not set.

    Raises CodecbookError: it names no folder.
    """
    value = os.environ.get("CODECBOOK_EXTRA")
    if not value:
        return None
    folder = Path(value).expanduser().resolve()
    if not folder.is_dir():
        raise CodecbookError(f"CODECBOOK_EXTRA is {value!r}, which is no folder; correct or unset it.")
    return folder


def path_as_text(path: str | Path) -> str:
    r"""Return a path as text that CSV, JSON, HTML and Parquet can hold, and that stays on one line.

    To the system a name is bytes. Those that are no UTF-8, control characters and the backslash itself are written
    ``\xNN`` with two hexadecimal digits, all else as it is; `path_from_text` gives the path back.

    Example:
        >>> path_as_text("caf\udce9.wav")  # Python's way to hold the byte E9
        'caf\\xe9.wav'
    """
    return re.sub(r"[\x00-\x1f\x7f\\\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", os.fspath(path))


def path_from_text(text: str) -> Path:
    """Return the path that `path_as_text` gave the text of."""
    return Path(re.sub(r"\\x([0-9a-f]{2})", lambda found: os.fsdecode(bytes([int(found[1], 16)])), text))
