"""Audio files as they lie on the disk: opened, and read block by block to their very end, whatever their headers say.

libsndfile reads as far as the first header goes. Beyond that there are files that somebody joined (``cat a.mp3 b.mp3``,
chained Ogg), of which it gives the first part, and wav that a program wrote to a pipe, which could not know the length.
"""

import itertools
import logging
import mmap
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.paths import path_as_text

# of what libsndfile reads: what recordings, not samples of instruments or laboratories, are kept in
AUDIO_SUFFIXES = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".sph", ".voc",
)  # fmt: skip
# the silence that mp3 encoders add and mp3 decoders drop makes headers differ from what can be read by so much
HEADER_SLACK_SAMPLES = 4 * 1152
_UNKNOWN_SAMPLES = 1 << 62  # libsndfile says 2^63 - 1 where a flac was written to a pipe
_BLOCK_SAMPLES = 1 << 18
_HEADER_BYTES = 1 << 16
_COPIED_BYTES = 1 << 20
_PCM16_SCALE = 32768.0
_LEAST_PCM16_PEAK = 256.0  # whole numbers up to here are some -42 dB of 16 bit: too few to be sure
_LOUDEST_PEAK = 8.0  # 18 dB above full scale: no mix is
# where a file of each kind begins anew: an mp3 at its frame with the number of frames (behind 9 to 32 bytes of side
# information), flac at its magic and first block, Ogg at pages that begin a stream
_MP3_START = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xeb].(?:.{9}|.{17}|.{32})(?:Xing|Info)", re.DOTALL)
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)
_OGG_START = re.compile(rb"OggS\x00\x02", re.DOTALL)

_log = logging.getLogger(__name__)


class _Sequential(soundfile.SoundFile):
    """A file that is read from front to back: soundfile seeks after each block otherwise, which not all formats can."""

    def seekable(self) -> bool:
        return False


class AudioFile:
    """An audio file that is open, to be read once from its beginning to its end; its content counts, not its suffix.

    Samples are float32 with full scale 1.0. Whole numbers beyond it in a float file, left by programs that forget to
    scale, are taken for the 16-bit values that they are; other values far beyond it are logged.

    Attributes:
        sample_rate_hz, channels: Of its first part.
        promised_samples: Per channel, by the header; None where that is not known (joined, or written to a pipe).
        note: Once it is read: what was done to the samples that a reader of tables should know; mostly empty.

    Raises MissingInput, UnsupportedInput, CorruptInput: there is no such file; it is a folder, a device or a pipe; it
    is no audio.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.note = ""
        self._scale = 1.0
        name = path_as_text(self.path)
        if self.path.is_dir():
            raise UnsupportedInput(f"{name} is a folder; pass one file, or use codecbook.clips.load_folder.")
        if self.path.exists() and not self.path.is_file():
            raise UnsupportedInput(f"{name} is a device, a pipe or a socket; write the audio to a file first.")
        if not self.path.exists():
            raise MissingInput(f"There is no audio file at {name}; check the path.")
        self._starts = _part_starts(self.path)
        self._first = self._open_first()
        self.sample_rate_hz, self.channels = self._first.samplerate, self._first.channels
        is_known = len(self._starts) == 1 and self._first.frames < _UNKNOWN_SAMPLES
        self.promised_samples = self._first.frames if is_known else None

    def __enter__(self) -> "AudioFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._first.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 ``[S, C]``, S up to some seconds, or raise CorruptInput where the file ends early."""
        if len(self._starts) > 1:
            self._say(f"{len(self._starts)} recordings joined in one file, read one after the other")
        if self._first.subtype in ("FLOAT", "DOUBLE"):
            self._check_range()
        yield from self._blocks_of(self._first)
        bounds = itertools.pairwise([*self._starts, self.path.stat().st_size])
        next(bounds)
        for number, (start, end) in enumerate(bounds, start=2):
            with self._open_copy(start, end) as part:
                if (part.samplerate, part.channels) != (self.sample_rate_hz, self.channels):
                    raise CorruptInput(
                        f"{path_as_text(self.path)} is joined from files that do not fit: {self.channels} channel(s) "
                        f"at {self.sample_rate_hz} Hz, and part {number} has {part.channels} at {part.samplerate} Hz; "
                        "split it."
                    )
                yield from self._blocks_of(part)

    def _blocks_of(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        count = 0
        try:
            # never beyond the header's count: a joined flac ends in an error there
            while asked := min(_BLOCK_SAMPLES, file.frames - count):
                samples = file.read(asked, dtype="float32", always_2d=True)
                if not len(samples):
                    break
                count += len(samples)
                yield samples if self._scale == 1.0 else samples * np.float32(self._scale)
        except RuntimeError as error:
            raise self._unreadable(error) from error
        if HEADER_SLACK_SAMPLES < file.frames - count < _UNKNOWN_SAMPLES:
            raise CorruptInput(f"{path_as_text(self.path)} is truncated: {count} of {file.frames} samples; copy again.")

    def _open_first(self) -> soundfile.SoundFile:
        try:
            # bytes: names need not be UTF-8
            file = _Sequential(os.fsencode(self.path))  # pyright: ignore[reportArgumentType]
        except (RuntimeError, TypeError) as error:  # libsndfile's errors are RuntimeErrors; ".raw" is a TypeError
            raise self._unreadable(error) from error
        length_at = _missing_length(self.path) if file.frames == 0 and file.format.startswith("WAV") else None
        if length_at is None:
            return file
        file.close()
        return self._open_copy(0, self.path.stat().st_size, length_at)

    def _open_copy(self, start: int, end: int, length_at: int | None = None) -> soundfile.SoundFile:
        """Open what lies between two bytes of the file, with the length of its samples where that is missing."""
        # a real file: libsndfile reads through Python's as well, but would take Ctrl-C there for the end
        with self.path.open("rb") as source, tempfile.TemporaryFile() as copy:
            source.seek(start)
            while chunk := source.read(min(end - source.tell(), _COPIED_BYTES)):
                copy.write(chunk)
            if length_at is not None:
                length = min(copy.tell() - length_at - 4, 0xFFFFFFFF)
                copy.seek(length_at)
                copy.write(length.to_bytes(4, "little"))
            copy.seek(0)
            try:
                return _Sequential(os.dup(copy.fileno()))
            except RuntimeError as error:
                raise self._unreadable(error, f", from byte {start} on, where another file was joined") from error

    def _unreadable(self, error: Exception, where: str = "") -> CorruptInput:
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
        return CorruptInput(
            f"{path_as_text(self.path)} could not be read as audio{where} ({reason.strip()}); expected one of "
            f"{', '.join(AUDIO_SUFFIXES)}, complete and unprotected. If a player opens it, export it from there as wav "
            "or flac."
        )

    def _check_range(self) -> None:
        """Find float samples that are not what full scale 1.0 makes of them."""
        peak, whole = 0.0, True
        for block in self._blocks_of(self._first):
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            whole = whole and np.array_equal(block, np.rint(block))
        self._first.seek(0)
        if whole and _LEAST_PCM16_PEAK < peak <= _PCM16_SCALE:
            self._scale = 1 / _PCM16_SCALE
            self._say(f"float samples are whole numbers up to {peak:.0f}, so 16-bit values: divided by 32768")
        elif peak > _LOUDEST_PEAK:
            _log.warning(
                "%s: samples reach %g, and full scale is 1; divide them by what they were scaled with (32768 for "
                "16-bit values), and save again",
                path_as_text(self.path),
                peak,
            )

    def _say(self, note: str) -> None:
        self.note = "; ".join(filter(None, [self.note, note]))
        _log.warning("%s: %s", path_as_text(self.path), note)


def _part_starts(path: Path) -> list[int]:
    """Return the bytes at which the files begin of which a file is joined; mostly 0 alone."""
    if path.stat().st_size == 0:
        return [0]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data[:4]
        if start == b"fLaC":
            found = [match.start() for match in _FLAC_START.finditer(data)]
        elif start == b"OggS":
            found = _ogg_starts(data)
        elif start[:3] == b"ID3" or start[:1] == b"\xff" or path.suffix.lower() == ".mp3":
            found = [match.start() for match in _MP3_START.finditer(data)]
        else:
            found = []
    return [0, *found[1:]]  # the first is the beginning, or what stands before it is read along


def _ogg_starts(data: mmap.mmap) -> list[int]:
    """Return where chained streams begin; pages that begin streams side by side follow one another."""
    starts: list[int] = []
    end = -1
    for match in _OGG_START.finditer(data):
        at = match.start()
        if at != end:
            starts.append(at)
        count = int.from_bytes(data[at + 26 : at + 27], "big")  # 0 where the file ends within this header
        lengths = data[at + 27 : at + 27 + count]
        end = at + 27 + len(lengths) + sum(lengths)
    return starts


def _missing_length(path: Path) -> int | None:
    """Return where a wav holds the length of its samples, if that is 0 and samples follow; else None."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 12
        while at < _HEADER_BYTES and (chunk := _chunk(file, at)):
            name, end = chunk
            if name == b"data":
                follows = end == at + 8 and end < size and not _are_chunks(file, end, size)
                return at + 4 if follows else None
            at = end
    return None


def _are_chunks(file: BinaryIO, at: int, size: int) -> bool:
    """Say whether chunks fill the rest of a file: what follows no samples, and is none itself."""
    while at < size:
        chunk = _chunk(file, at)
        if chunk is None or not re.fullmatch(rb"[ -~]{4}", chunk[0]):
            return False
        at = chunk[1]
    return at <= size + 1


def _chunk(file: BinaryIO, at: int) -> tuple[bytes, int] | None:
    """Return the name of a chunk of a wav and where it ends; None where the file ends before."""
    file.seek(at)
    head = file.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head[4:], "little")
    return head[:4], at + 8 + length + length % 2
