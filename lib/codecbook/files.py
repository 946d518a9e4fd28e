"""Write files that are there complete or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from codecbook.errors import CodecbookError


@contextlib.contextmanager
def new_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename what was written there once the block has succeeded.

    A reader sees the old file or the whole new one, whatever interrupts the writer; after an exception nothing
    is left behind and the old file is untouched. Missing folders are made.

    Args:
        path: Where the file shall be.
        overwrite: Replace a file that exists.

    Yields:
        A path of no file yet, in the same folder (a rename is atomic within one file system only).

    Raises:
        CodecbookError: The file exists and `overwrite` is False, or a folder is in its place.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # else a power cut may keep the rename and lose the contents
        _refuse_existing(path, overwrite)  # another writer may have finished meanwhile
        temporary.replace(path)
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


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise CodecbookError(f"{path} is a folder; name a file inside it.")
    if path.exists() and not overwrite:
        raise CodecbookError(f"{path} exists; pass overwrite=True, or choose another name.")
