"""Read any part of a stream, wherever it is: bytes, a file's path, or an open file."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from codecbook.errors import CorruptInput, UnsupportedInput

StreamLike = bytes | bytearray | memoryview | str | Path | BinaryIO
_BLOCK_BYTES = 1 << 20


class StreamSource:
    """A stream's bytes, read where they are wanted; nothing is kept.

    Args:
        stream: The bytes, a path, or a binary file that can seek.

    Raises:
        CorruptInput: There is no such file.
        UnsupportedInput: Something else, or a file that cannot seek.
    """

    def __init__(self, stream: StreamLike) -> None:
        self._owned = isinstance(stream, str | Path)
        if isinstance(stream, str | Path):
            path = Path(stream)
            if not path.is_file():
                raise CorruptInput(f"There is no stream at {path}; check the path.")
            self._file: BinaryIO = path.open("rb")
        elif isinstance(stream, bytes | bytearray | memoryview):
            self._file = io.BytesIO(stream)
        else:
            self._file = stream
        try:
            self.size = self._file.seek(0, io.SEEK_END)
        except (AttributeError, OSError, TypeError) as error:
            raise UnsupportedInput(
                f"A stream is given as bytes, a path or a binary file that can seek; received "
                f"{type(stream).__name__}."
            ) from error

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes; fewer where the stream ends before."""
        if offset >= self.size or count <= 0 or offset < 0:
            return b""
        self._file.seek(offset)
        return self._file.read(min(count, self.size - offset))

    def find(self, marker: bytes, start: int) -> Iterator[int]:
        """Yield where a marker occurs, from `start` on, in memory that does not grow."""
        while start < self.size:
            block = self.read(start, _BLOCK_BYTES)
            place = block.find(marker)
            while place >= 0:
                yield start + place
                place = block.find(marker, place + 1)
            if start + len(block) >= self.size:
                return
            start += len(block) - len(marker) + 1

    def close(self) -> None:
        """Close a file that was opened here."""
        if self._owned:
            self._file.close()
