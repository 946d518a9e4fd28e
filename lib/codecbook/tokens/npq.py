"""Read and write NPQ token files: a header (`codecbook.tokens.npq_layouts`), then codes frame by frame.

tokens = read_npq("clip.npq")
with open_npq("corpus.npq") as corpus:  # a window takes the memory of a window, whatever the file's size
    for frames in corpus.windows(4096):
        ...
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import new_file
from codecbook.tokens.npq_layouts import (
    MAX_HEADER_BYTES,
    STORAGE_DTYPES,
    NpqHeader,
    build_header,
    parse_header,
    smallest_storage,
)
from codecbook.tokens.tokens import Tokens, tokens_from_frames

__all__ = ["NpqHeader", "NpqReader", "inspect_npq", "open_npq", "read_npq", "write_npq"]

_WRITE_FRAMES = 1 << 16


class NpqReader:
    """An open NPQ file whose header has been checked against the file's size; use it in a ``with`` block.

    Frames are read, not memory-mapped: a file that shrinks while it is open then gives an error, where a mapping
    would end the process with SIGBUS.

    Attributes:
        path: The file.
        header: What its header says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingInput(f"There is no NPQ file at {self.path}; check the path.")
        self._file: BinaryIO = self.path.open("rb")
        try:
            self.header = parse_header(self._file.read(MAX_HEADER_BYTES), self.path.stat().st_size)
        except CodecbookError as error:
            self._file.close()
            raise type(error)(f"{self.path}: {error}") from None
        except BaseException:
            self._file.close()
            raise

    def read_frames(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the frames ``start <= t < stop`` as int64 ``[stop - start, K]``.

        Args:
            start: First frame.
            stop: One past the last frame; None is the end.

        Raises:
            UnsupportedInput: Not ``0 <= start <= stop <= T``.
            CorruptInput: A code outside its codebook, or the file has shrunk since it was opened.
        """
        stop = self.header.num_frames if stop is None else stop
        if not 0 <= start <= stop <= self.header.num_frames:
            raise UnsupportedInput(
                f"{self.path}: frames {start} to {stop} were asked for; choose within 0 to {self.header.num_frames}."
            )
        count = self.header.num_codebooks
        dtype = self.header.dtype
        self._file.seek(self.header.header_bytes + start * count * dtype.itemsize)
        stored = np.fromfile(self._file, dtype, (stop - start) * count)
        if stored.size != (stop - start) * count:
            raise CorruptInput(
                f"{self.path}: the payload ends within frames {start} to {stop}, although the file was long enough "
                "when it was opened; something is writing to it: open it again when that is done."
            )
        frames = stored.reshape(stop - start, count)
        self._check_codes(frames, start)
        return frames.astype(np.int64)

    def windows(self, num_frames: int) -> Iterator[np.ndarray]:
        """Yield all frames in turn as int64 ``[num_frames, K]``, the last window being what is left.

        Raises:
            UnsupportedInput: `num_frames` is below 1.
            CorruptInput: As `read_frames`.
        """
        if num_frames < 1:
            raise UnsupportedInput(f"A window of {num_frames} frames was asked for; give 1 or more.")
        for start in range(0, self.header.num_frames, num_frames):
            yield self.read_frames(start, min(start + num_frames, self.header.num_frames))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "NpqReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_codes(self, frames: np.ndarray, start: int) -> None:
        for k, size in enumerate(self.header.codebook_sizes):
            codes = frames[:, k]
            if codes.size and codes.max() >= size:
                at = int(np.argmax(codes >= size))
                raise CorruptInput(
                    f"{self.path}: payload: code {codes[at]} of codebook {k} in frame {start + at} is outside "
                    f"0..{size - 1} (field vocab[{k}] = {size}); the file is damaged: copy or make it again."
                )


def open_npq(path: str | Path) -> NpqReader:
    """Open an NPQ file for reading windows of frames; see `NpqReader`.

    Raises:
        MissingInput: No such file.
        CorruptInput: It contradicts its format; names the field.
        UnsupportedInput: Another format, version, channel mode or dtype.
    """
    return NpqReader(path)


def inspect_npq(path: str | Path) -> NpqHeader:
    """Return the header of an NPQ file, checked against its size; the payload is not read.

    Raises:
        MissingInput: No such file.
        CorruptInput: It contradicts its format; names the field.
        UnsupportedInput: Another format, version, channel mode or dtype.
    """
    with open_npq(path) as reader:
        return reader.header


def read_npq(path: str | Path) -> Tokens:
    """Read an NPQ file of any layout.

    The layout and how the codes are stored are not part of the tokens; `inspect_npq` tells them. NPQ2's channel
    mode becomes `Tokens.channels`, and for mid/side `Tokens.mid_codebooks`: the codebooks of side follow.

    Raises:
        MissingInput: No such file.
        CorruptInput: It contradicts its format: truncated, trailing bytes, an implausible field
            (named), a code outside its codebook.
        UnsupportedInput: Another format, version, channel mode or dtype.
    """
    with open_npq(path) as reader:
        header = reader.header
        return tokens_from_frames(
            reader.read_frames(),
            header.codebook_sizes,
            header.frame_rate_hz,
            channels=header.channels,
            source_bitrate_kbps=header.source_bitrate_kbps,
            mid_codebooks=header.mid_codebooks,
        )


def write_npq(
    path: str | Path, tokens: Tokens, *, layout: str | None = None, storage: str | None = None, overwrite: bool = False
) -> Path:
    """Write tokens as NPQ, complete or not at all.

    A file that was read and is written with its own layout and storage (``inspect_npq(path).layout``,
    ``.storage``) is the same to the byte; without these arguments that
    holds for v1 and mid/side files whose writer chose the storage by the same rule.

    Kept: codes, codebook sizes, one frame rate and the source's bitrate (both rounded to float32), and in NPQ2 mono
    or mid/side. Lost: codec, weights, sampling rate, number of samples, bandwidth, segments and scales, so a
    codec with segments (EnCodec 48 kHz) cannot decode what comes back; `codecbook.tokens.parquet` keeps all.

    Args:
        path: Where to write; missing folders are made.
        tokens: Of one common rate.
        layout: ``"v1"`` or ``"npq2"``; None takes NPQ2 for mid/side, else v1.
        storage: ``"u8"``, ``"u16"`` or ``"u32"``; None takes the smallest that holds the codebooks
            (u32 from 65,536 codes on, as existing writers do).
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        UnsupportedInput: Codebooks of several rates, another layout or storage, or one that cannot hold the tokens.
        CodecbookError: The file exists and `overwrite` is False.
    """
    frames = _frames_of_one_rate(tokens)
    layout = layout or ("v1" if tokens.mid_codebooks is None else "npq2")
    storage = storage or smallest_storage(tokens.codebook_sizes)
    if storage not in STORAGE_DTYPES:
        raise UnsupportedInput(f"storage={storage!r} is unknown; choose one of {', '.join(STORAGE_DTYPES)}.")
    _check_channels(tokens, layout)
    header = NpqHeader(
        layout=layout,
        codebook_sizes=tokens.codebook_sizes,
        frame_rate_hz=tokens.frame_rates_hz[0],
        num_frames=len(frames),
        storage=storage,
        source_bitrate_kbps=tokens.source_bitrate_kbps,
        mid_codebooks=tokens.mid_codebooks,
    )
    head = build_header(header)
    with new_file(path, overwrite) as temporary, temporary.open("xb") as file:
        file.write(head)
        for start in range(0, len(frames), _WRITE_FRAMES):  # in parts, so that the narrow copy stays small
            file.write(frames[start : start + _WRITE_FRAMES].astype(header.dtype).tobytes())
    return Path(path)


def _frames_of_one_rate(tokens: Tokens) -> np.ndarray:
    if len(set(tokens.frame_rates_hz)) != 1 or len({len(codes) for codes in tokens.codes}) != 1:
        raise UnsupportedInput(
            f"NPQ holds frames of one rate; these codebooks have {[len(codes) for codes in tokens.codes]} codes at "
            f"{[f'{rate:g}' for rate in tokens.frame_rates_hz]} Hz. Write them with codecbook.tokens.parquet, or "
            "flatten them with codecbook.tokens.layout."
        )
    return tokens.to_frames()


def _check_channels(tokens: Tokens, layout: str) -> None:
    if layout == "npq2" and tokens.mid_codebooks is None and tokens.channels == 2:
        raise UnsupportedInput(
            "NPQ2 knows mono and mid/side, and these tokens are of stereo without mid_codebooks; use layout='v1', "
            "which says nothing of channels."
        )
    if layout != "npq2" and tokens.mid_codebooks is not None:
        raise UnsupportedInput(
            f"Layout {layout!r} cannot say that {tokens.mid_codebooks} of {tokens.num_codebooks} codebooks are mid's; "
            "use layout='npq2'."
        )
