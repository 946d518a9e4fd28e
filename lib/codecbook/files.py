"""Write files that are there complete or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from codecbook.errors import CodecbookError

_PROBE_BYTES = 1 << 16  # more than the blocks of a file system


@contextlib.contextmanager
def new_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename what was written there once the block has succeeded.

    A reader sees the old file or the whole new one, whatever interrupts the writer; after an exception nothing
    is left behind and the old file is untouched. Missing folders are made. Of two writers that may not overwrite,
    one succeeds.

    Args:
        path: Where the file shall be.
        overwrite: Replace a file that exists; where `path` is a link, the file that it leads to.

    Yields:
        A path of no file yet, in the same folder (a rename is atomic within one file system only).

    Raises:
        CodecbookError: The file exists and `overwrite` is False, or what is in its place is no file (a folder, a
            device, a pipe).
    """
    target = _target(Path(path), overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # else a power cut may keep the rename and lose the contents
        if overwrite:
            temporary.replace(_target(target, overwrite))  # what stands there may be another thing by now
        else:
            _claim(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: str | Path, content: bytes | str, overwrite: bool = False) -> Path:
    """Write bytes, or text as UTF-8, by way of `new_file`; return the path.

    Raises:
        CodecbookError: As `new_file`.
    """
    with new_file(path, overwrite) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Path(path)


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


def refuse_existing_file(path: str | Path, overwrite: bool = False) -> None:
    """Refuse a place where `new_file` would not write; to be called before long work as well.

    Raises:
        CodecbookError: As `new_file`.
    """
    _target(Path(path), overwrite)


def _target(path: Path, overwrite: bool) -> Path:
    """Return the file to be made or replaced: `path`, or where it leads to as a link."""
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
        raise CodecbookError(
            f"{path} is a link that leads back to itself; remove it, or choose another name."
        )
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
