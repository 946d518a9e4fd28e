"""Write files that are there complete or not at all, and read JSON from outside.

What Python's `json` lets pass, such as a thousand nested lists, ``NaN`` or ``1e999``, fails only where it is used, in
many ways. Here all of it is one error.
"""

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from codecbook.errors import CodecbookError, CorruptInput

_MAX_JSON_BYTES = 16 << 20
MAX_JSON_DEPTH = 64

_Kind = TypeVar("_Kind", dict, list)

_PROBE_BYTES = 1 << 16  # more than the blocks of a file system
_LONGEST_NAME = 255  # bytes, of Linux's and macOS' own file systems
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename what was written there once the block has succeeded.

    A reader sees the old file or the whole new one, whatever interrupts the writer; after an exception nothing
    is left behind and the old file is untouched. Missing folders are made. Of two writers that may not overwrite,
    one succeeds. What a process that was killed left half-written is removed when another one writes to the folder.
    Where `path` is a link and `overwrite` is True, the file that it leads to is replaced.

    Raises:
        CodecbookError: The file exists and `overwrite` is False, or what is in its place is no file (a folder, a
            device, a pipe), or a part of the name is too long.
        OSError: The file system does not take it; the error names `path`.
    """
    target = target_of(path, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent.absolute())
    temporary = target.parent / _temporary_name()
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # else a power cut may keep the rename and lose the contents
        if overwrite:
            temporary.replace(target_of(target, overwrite))  # what stands there may be another thing by now
        else:
            _claim(temporary, target)
    except OSError as error:
        # of a full disk, the error of a write names nothing
        if str(error.filename) == str(temporary) or (error.filename is None and error.errno in _FULL):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: str | Path, content: bytes | str, overwrite: bool = False) -> Path:
    """Write bytes, or text as UTF-8, by way of `new_file`, and raise as it does; return the path."""
    with new_file(path, overwrite) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Path(path)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_error(path: Path) -> OSError | None:
    """Return the error that the system gives where bytes are added to a file; None if it takes them.

    For files of libraries that say only that writing failed. The file is not to be used afterwards.
    """
    try:
        with path.open("ab") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def check_target(path: str | Path, overwrite: bool = False) -> None:
    """Refuse, before long work, a place where `new_file` could not write after it; nothing is left there."""
    check_folder(target_of(path, overwrite).parent)


def check_folder(folder: str | Path) -> None:
    """Refuse, before long work, a folder in which no files could be made after it; nothing is left there.

    It need not be there yet, as long as the nearest folder above it that is there can be written to.

    Raises:
        CodecbookError: What is in its place, or above it, is no folder.
        OSError: It is read-only, full, or not permitted; the error names `folder`.
    """
    above = _folder_above(Path(folder))
    probe = above / _temporary_name()
    error = write_error(probe)
    with contextlib.suppress(OSError):  # it could not be made
        probe.unlink()
    if error is not None:
        raise OSError(error.errno, error.strerror, str(folder))


def refuse_same_file(source: str | Path, target: str | Path) -> None:
    """Refuse to replace what is being read, however the two paths are spelt and whatever links lead there."""
    with contextlib.suppress(OSError):  # one of them is not there
        if Path(source).samefile(target):
            raise CodecbookError(f"{target} is the file that is read, {source}; choose another name to write to.")


def _folder_above(folder: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    above = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())
    if not above.is_dir():
        raise CodecbookError(f"{above} is no folder, so nothing can be written into it; name another one.")
    return above


def _temporary_name() -> str:
    """Return a name that is short, whatever the target's is, and tells which process makes the file."""
    return f".codecbook-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"


@functools.cache
def _machine() -> str:
    """Return a digest of what process numbers belong to: a host, and on Linux a container."""
    name = os.uname().nodename
    with contextlib.suppress(OSError):
        name += f" {Path('/proc/self/ns/pid').stat().st_ino}"
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@functools.lru_cache(maxsize=4096)  # once a folder: some hold a hundred thousand files
def _remove_stale(folder: Path) -> None:
    """Remove half-written files of processes that are no more."""
    name = re.compile(rf"\.codecbook-{_machine()}-(\d{{1,9}})-[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # a folder may be written and not be listed
        for entry in entries:
            if (match := name.fullmatch(entry.name)) and _is_gone(int(match[1])):
                Path(entry.path).unlink(missing_ok=True)


def _is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # and not a PermissionError: it is another user's
    return False


def target_of(path: str | Path, overwrite: bool = False) -> Path:
    """Return the file to be made or replaced, `path` or where it leads to as a link, or raise as `new_file` does."""
    path = Path(path)
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)), default="")
    if (length := len(os.fsencode(longest))) > _LONGEST_NAME:
        raise CodecbookError(f"The name {longest} is too long: {length} bytes of at most {_LONGEST_NAME}; shorten it.")
    _folder_above(path.parent)
    if path.is_dir():
        raise CodecbookError(f"{path} is a folder; name a file inside it.")
    if path.exists() and not path.is_file():
        raise CodecbookError(f"{path} is a device, a pipe or a socket, which is never replaced; name a file.")
    if not os.path.lexists(path):
        return path
    if not overwrite:
        raise _exists(path)
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise CodecbookError(f"{path} is a link that leads back to itself; remove it, or choose another name.")
    return target


def _claim(temporary: Path, target: Path) -> None:
    """Give a file its name, unless the name is taken: in one step, since another writer may want it too."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:  # the file system has no hard links: take the name with an empty file
        try:
            target.open("xb").close()
        except FileExistsError as error:
            raise _exists(target) from error
        try:
            temporary.replace(target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _exists(path: Path) -> CodecbookError:
    return CodecbookError(f"{path} exists; pass overwrite=True, or choose another name.")


def read_json(path: str | os.PathLike[str], kind: type[_Kind], remedy: str, max_bytes: int = _MAX_JSON_BYTES) -> _Kind:
    """Return the content of a JSON file, of which no more than `max_bytes` are read; see `parse_json`."""
    with Path(path).open("rb") as file:
        data = file.read(max_bytes + 1)
    return parse_json(data, kind, str(path), remedy, max_bytes)


def parse_json(
    data: bytes | str,
    kind: type[_Kind],
    source: str,
    remedy: str,
    max_bytes: int = _MAX_JSON_BYTES,
    finite: bool = True,
) -> _Kind:
    """Return the content of a JSON text, UTF-8 where it is bytes.

    `kind`, ``dict`` or ``list``, is what the text must be. Errors name its `source`, and end with the `remedy` ("fetch
    the model again"). `finite` False lets numbers pass that are not, where they are a finding. Raises CorruptInput: the
    text is longer than `max_bytes`, no JSON, nested deeper than `MAX_JSON_DEPTH`, of another kind, or holds a number
    that is not finite, or half of a surrogate pair.
    """
    if len(data) > max_bytes:
        raise CorruptInput(f"{source} is longer than {max_bytes} bytes, which is too long for what it is; {remedy}.")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_refuse_constant if finite else None)
        _check_json(value, finite)
    except RecursionError as error:
        raise CorruptInput(f"{source} is nested too deeply for JSON of its kind; {remedy}.") from error
    except ValueError as error:  # malformed JSON and malformed UTF-8 alike
        raise CorruptInput(f"{source} is no JSON text ({error}); {remedy}.") from error
    if not isinstance(value, kind):
        wanted = "object" if kind is dict else "list"
        raise CorruptInput(f"{source} holds no JSON {wanted}, but {_described(value)}; {remedy}.")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _check_json(value: Any, finite: bool, levels: int = MAX_JSON_DEPTH) -> None:
    """Raise ValueError for what no text of ours holds."""
    if levels == 0:
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} deep")
    if isinstance(value, dict | list):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_json(item, finite, levels - 1)
    elif isinstance(value, str):
        value.encode()  # half of a surrogate pair is neither written nor printed anywhere
    elif finite and isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is too large")


def _described(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:20]}..."
