"""Files and folders that parameters name: inputs of a stage, as its notebook is.

What a parameter names goes by its own name:

=======================  ============================================================================
name                     what a value that is not empty names
=======================  ============================================================================
``*_dir``                a folder; where its help begins with "file or folder", either
``*_file``, ``*_path``   a file; a file or a folder
``weights``              a file or a folder, unless it is ``bundled``, ``pretrained`` or ``random``
``codecs``, ``codec``    the same behind ``=``, ``name=WEIGHTS``
=======================  ============================================================================

Paths are made absolute in one place, `resolved`: ``~`` is the home folder, and what is relative starts where the value
was given. What lies there goes into a run by its names, sizes and times, see `inventory`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecbook.errors import MissingInput, UnsupportedInput
from codecbook.paths import extra_dir

_KINDS_OF_WEIGHTS = re.compile(r"bundled|pretrained|random(:.*)?")
# what a notebook that takes more where CODECBOOK_EXTRA is set has in its code, or in a parameter
_USES_EXTRA = re.compile(r"CODECBOOK_EXTRA|extra_dir|import environment|lyra")


def resolved(name: str, value: Any, base: Path, *, help_text: str | None = None) -> Any:
    """Return a parameter's value with its paths absolute, from `base` on, and refuse those that lead nowhere.

    All but text and lists of text come back as they are. The parameter's help says whether a folder is meant; None
    checks only that it exists.
    """
    if isinstance(value, list):
        return [resolved(name, item, base, help_text=help_text) for item in value]
    if not isinstance(value, str):
        return value
    before, path = _parted(name, value)
    return before + str(_checked(name, path, base, help_text)) if path else value


def named_paths(name: str, value: Any) -> list[Path]:
    """Return the files and folders that a resolved value names."""
    items = value if isinstance(value, list) else [value]
    paths = [_parted(name, item)[1] for item in items if isinstance(item, str)]
    return [Path(path) for path in paths if path]


@dataclass(frozen=True)
class Inventory:
    """What lies at some paths."""

    digest: str = ""  # SHA-256 over names, sizes and times of change, in hexadecimal digits; empty without a path
    complete: bool = True  # all of it was looked at


def inventory(paths: Iterable[Path], limit: int = 20_000) -> Inventory:
    """Take down what lies at some paths, folders with all that is below them; hidden names are left out.

    Of more than `limit` files and folders, a tenth of a second of work, the first ones in the order of their paths
    count, and the times of the folders among them, which change with any name that comes or goes there.
    """
    paths = list(paths)
    if not paths:
        return Inventory()
    digest, folder_times = hashlib.sha256(), []
    folders: set[tuple[int, int]] = set()  # a link may lead back up
    pending = [(str(path), "") for path in reversed(paths)]
    while pending and limit > 0:
        limit -= 1
        path, name = pending.pop()
        try:
            status = os.stat(path)  # noqa: PTH116 - paths of any bytes, thousands of them
            names = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else None  # noqa: PTH208
        except OSError as error:  # a link to nothing, a folder that may not be read
            digest.update(f"{name}\0{error.errno}\n".encode("utf-8", "surrogateescape"))
            continue
        facts = (status.st_size, status.st_mtime_ns) if names is None else "folder"
        digest.update(f"{name}\0{facts}\n".encode("utf-8", "surrogateescape"))
        if names is not None and (status.st_dev, status.st_ino) not in folders:
            folders.add((status.st_dev, status.st_ino))
            folder_times.append(status.st_mtime_ns)
            pending += [(f"{path}/{n}", f"{name}/{n}") for n in reversed(names) if not n.startswith(".")]
    if pending:
        digest.update(repr(folder_times).encode())
    return Inventory(digest.hexdigest(), not pending)


def stage_inputs(code: str, parameters: Iterable[tuple[str, Any]]) -> list[Path]:
    """Return what a stage takes besides the checkout's own files: what its parameters name, and ``CODECBOOK_EXTRA``.

    `code` is its notebook's; the parameters are names with resolved values, and with the notebook's own of the others.
    """
    parameters = list(parameters)
    extra = extra_dir()
    texts = [code, *(str(value) for _, value in parameters)]
    taken = [extra] if extra is not None and any(map(_USES_EXTRA.search, texts)) else []
    return [path for name, value in parameters for path in named_paths(name, value)] + taken


def _parted(name: str, value: str) -> tuple[str, str]:
    """Return what stands before the path that a value names, and the path, empty where it names none."""
    if name in ("codec", "codecs"):
        codec, sign, value = value.partition("=")
        return codec + sign, "" if _KINDS_OF_WEIGHTS.fullmatch(value) else value
    is_path = name.endswith(("_dir", "_file", "_path"))
    return "", value if is_path or (name == "weights" and not _KINDS_OF_WEIGHTS.fullmatch(value)) else ""


def _checked(name: str, text: str, base: Path, help_text: str | None) -> Path:
    wanted = {"_dir": "folder", "file": "file"}.get(name[-4:], "file or folder")
    if help_text is None or help_text.startswith("file or folder"):
        wanted = "file or folder"
    weights_too = "" if name.endswith(("_dir", "_file", "_path")) else ", or bundled, pretrained or random"
    remedy = f"give a {wanted} that exists{weights_too}; relative paths start in {base}."
    try:
        path = (base / Path(text).expanduser()).resolve()
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a user who does not exist
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise MissingInput(f"{name} is {text!r}, which {reason}; {remedy}") from error
    folder = stat.S_ISDIR(mode)
    if (wanted == "folder" and not folder) or (wanted == "file" and folder):
        raise UnsupportedInput(f"{name} is {text!r}, a {'folder' if folder else 'file'}; {remedy}")
    if not os.access(path, os.R_OK | (os.X_OK if folder else 0)):
        raise UnsupportedInput(f"{name} is {text!r}, which you may not read; {remedy}")
    return path
