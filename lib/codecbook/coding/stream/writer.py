"""Write a stream while its codes come: `StreamWriter`."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from codecbook.coding.stream.header import (
    MAX_ROWS,
    MAX_SEGMENT_CODES,
    ROW_ORDERS,
    TAIL_BYTES,
    StreamHeader,
    pack_header,
    pack_index,
    pack_tail,
)
from codecbook.coding.stream.segment import SegmentContent, pack_segment
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact import ExactLM
from codecbook.tokens import TokenFormat
from codecbook.tokens.layout import Layout

DEFAULT_SEGMENT_S = 10.0
"""Seconds of audio that one damaged byte can cost, and after which the language model begins anew."""


def new_header(
    known: TokenFormat,
    model: ExactLM | None = None,
    lm_name: str = "",
    *,
    segment_s: float = DEFAULT_SEGMENT_S,
    codec_segment_frames: int = 0,
    codec_segment_stride: int = 0,
    has_scales: bool = False,
) -> StreamHeader:
    """Make the header of a stream that is yet to be written.

    Args:
        known: Of the codec.
        model: Exact language model; None codes raw.
        lm_name: Its name, by which a decoder looks for it.
        segment_s: Seconds in a segment of the stream; whole segments of the codec, one at least.
        codec_segment_frames: Frames of a full segment of the codec; 0 for a codec without.
        codec_segment_stride: Samples from one of the codec's own segments to the next.
        has_scales: Whether the codec normalises.

    Raises:
        UnsupportedInput: Codebooks that a stream does not hold or the language model was not made for, rates without
            common frames, or a length of segments out of range.
    """
    order = stream_order(known, model)
    columns = len(Layout(order, known).codebook_sizes)
    if not segment_s > 0:
        raise UnsupportedInput(f"segment_s={segment_s} is no length of a segment; give seconds above 0.")
    rows = min(segment_s * known.frame_rates_hz[0], float(MAX_SEGMENT_CODES))
    unit = codec_segment_frames or 1
    return StreamHeader(
        format=known,
        order=order,
        coder="raw" if model is None else "exact",
        lm_name=lm_name,
        lm_sha256="" if model is None else model.sha256,
        rows_per_segment=max(1, min(round(rows / unit), MAX_SEGMENT_CODES // (unit * columns))) * unit,
        codec_segment_frames=codec_segment_frames,
        codec_segment_stride=codec_segment_stride,
        has_scales=has_scales,
    )


def stream_order(known: TokenFormat, model: ExactLM | None) -> str:
    """Return the order in which a stream holds such tokens: the first whose columns the language model codes.

    Raises:
        UnsupportedInput: There is none.
    """
    columns: dict[str, tuple[int, ...]] = {}
    for order in ROW_ORDERS:
        try:
            columns[order] = Layout(order, known).codebook_sizes
        except UnsupportedInput:
            continue
    if not columns:
        raise UnsupportedInput(
            f"Codebooks at {[f'{rate:g}' for rate in known.frame_rates_hz]} Hz have no common frames; a stream "
            "holds codebooks of one rate, or of rates that double from one to the next."
        )
    if model is None:
        return next(iter(columns))
    for order, sizes in columns.items():
        if sizes == tuple(model.codebook_sizes):
            return order
    raise UnsupportedInput(
        f"The language model codes {_sizes(model.codebook_sizes)}, and these tokens have "
        f"{' or '.join(dict.fromkeys(map(_sizes, columns.values())))}; choose the bandwidth or the codec that it was "
        "trained for, or lm=None for raw coding."
    )


def _shortest(frames: Sequence[int], longest: int) -> int:
    """Return the last of the codec's segments, all checked to be no longer than the one before them."""
    for count in frames:
        if not 1 <= count <= longest:
            raise UnsupportedInput(
                f"A segment of the codec of {count} frames comes where 1 to {longest} fit; all are of one length, but "
                "for shorter ones at the end."
            )
        longest = count
    return longest


def _sizes(sizes: Sequence[int]) -> str:
    if len(set(sizes)) == 1:
        return f"{len(sizes)} codebook(s) of {sizes[0]} codes"
    return f"codebooks of {list(sizes)} codes"


class StreamWriter:
    """Write segments as soon as they are full; what is kept is one segment and 12 bytes for each one written.

    The file must be able to seek: the header, which stands first, is written last.

    Args:
        file: Binary, open for writing, empty from where it is on.
        header: Of `new_header`.
        model: The exact language model that `header` names; None for raw.

    Raises:
        UnsupportedInput: The file cannot seek, or `model` is not the header's.
    """

    def __init__(self, file: BinaryIO, header: StreamHeader, model: ExactLM | None = None) -> None:
        if (model.sha256 if model else "") != header.lm_sha256:
            raise UnsupportedInput("The language model is not the one that the stream's header names; pass that one.")
        if not file.seekable():
            raise UnsupportedInput("A stream is written to a file that can seek, not to a pipe; name a file.")
        self._file = file
        self._header = replace(header, num_rows=0, num_segments=0, num_samples=None)
        self._model = model
        self._start = file.tell()
        # what is not written yet: rows, and the codec's segments that they make up
        self._pending: list[np.ndarray] = []
        self._frames: list[int] = []
        self._scales: list[float] = []
        # of each segment, 12 bytes in all
        self._places, self._crcs = array("Q"), array("I")
        self._rows = 0
        self._longest_next = header.codec_segment_frames
        self._columns = header.columns
        file.write(bytes(len(pack_header(header))))
        self._bytes = len(pack_header(header))

    def write(self, rows: np.ndarray, codec_segment_frames: Sequence[int] = (), scales: Sequence[float] = ()) -> None:
        """Take the next rows; for a codec with segments of its own, whole ones.

        These are full until the recording ends: none is longer than the one before it, as times are counted in full
        ones.

        Args:
            rows: Integers ``[T, K]`` in the header's order, any number of them.
            codec_segment_frames: Rows of each of the codec's segments.
            scales: One gain per segment of the codec; for a codec with a gain but no segments, always that gain.

        Raises:
            CorruptInput: A code outside its codebook.
            UnsupportedInput: Another shape, or segments that the header does not allow.
        """
        rows = self._checked(rows)
        gains = np.asarray(scales, dtype=np.float32).tolist()
        if self._header.has_codec_segments:
            if sum(codec_segment_frames) != len(rows):
                raise UnsupportedInput(
                    f"Segments of {list(codec_segment_frames)} frames do not make {len(rows)} rows; write whole ones."
                )
            self._longest_next = _shortest(codec_segment_frames, self._longest_next)
            self._frames += codec_segment_frames
            self._scales += gains[: len(codec_segment_frames)]
        elif len(rows):
            self._scales = gains
        self._pending.append(rows)
        full = self._header.rows_per_segment // max(1, self._header.codec_segment_frames)
        while (len(self._frames) if self._header.has_codec_segments else sum(map(len, self._pending))) >= full:
            self._emit(full)

    def close(self, num_samples: int | None = None) -> StreamHeader:
        """Write what is left, the footer, and at last the header; the file itself stays open.

        Args:
            num_samples: Length of the audio in samples per channel, None where unknown.

        Returns:
            The header as it was written.
        """
        if any(map(len, self._pending)):
            self._emit(self._header.rows_per_segment)
        if not self._crcs:
            self._bind(SegmentContent(np.zeros((0, len(self._columns)), dtype=np.int64)))
        header = replace(self._header, num_rows=self._rows, num_segments=len(self._crcs), num_samples=num_samples)
        block = pack_header(header)
        footer = block + pack_index(list(zip(self._places, self._crcs, strict=True)), header.stream_id)
        tail = pack_tail(self._bytes, self._bytes + len(footer) + TAIL_BYTES)
        self._file.write(footer + tail)
        end = self._file.tell()
        self._file.seek(self._start)
        self._file.write(block)
        self._file.seek(end)
        return header

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        array = np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != len(self._columns) or array.dtype.kind not in "iu":
            raise UnsupportedInput(
                f"Rows of this stream are integers [T, {len(self._columns)}]; received {array.dtype} "
                f"{list(array.shape)}."
            )
        outside = (array < 0) | (array >= np.asarray(self._columns))
        if outside.any():
            row, column = (int(at) for at in np.argwhere(outside)[0])
            raise CorruptInput(
                f"Code {array[row, column]} of row {row}, column {column} is outside 0..{self._columns[column] - 1}; "
                "the tokens are damaged, or of another codec."
            )
        return array.astype(np.int64, copy=False)

    def _emit(self, count: int) -> None:
        """Write a segment of this many rows, or of the codec's segments; of fewer where no more are there."""
        rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        frames, scales = (), self._scales
        if self._header.has_codec_segments:
            frames, scales = tuple(self._frames[:count]), self._scales[:count]
            self._frames, self._scales = self._frames[count:], self._scales[count:]
            count = sum(frames)
        content = SegmentContent(rows[:count], frames, tuple(scales))
        self._pending = [rows[count:]] if len(rows) > count else []
        if self._rows + len(content.rows) > MAX_ROWS:
            raise UnsupportedInput(f"A stream holds up to {MAX_ROWS} rows; begin another one.")
        if not self._crcs:
            self._bind(content)
        # limits of a header that knows no totals yet would refuse every segment
        header = replace(self._header, num_rows=MAX_ROWS, num_segments=MAX_ROWS)
        segment, data = pack_segment(header, self._model, len(self._crcs), self._rows, content)
        self._file.write(data)
        self._places.append(self._bytes)
        self._crcs.append(segment.crc)
        self._bytes += len(data)
        self._rows += len(content.rows)

    def _bind(self, content: SegmentContent) -> None:
        """Derive the stream's id from its settings and its first segment: equal input makes equal bytes."""
        digest = hashlib.sha256(pack_header(self._header))
        digest.update(np.asarray(content.scales, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(content.rows, dtype="<u4").tobytes())
        self._header = replace(self._header, stream_id=digest.digest()[:8])
