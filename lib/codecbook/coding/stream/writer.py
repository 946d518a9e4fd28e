"""Write a stream while its codes come: `StreamWriter`."""

import contextlib
import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from codecbook.coding.stream.header import MAX_ROWS, MAX_SEGMENT_CODES, ROW_ORDERS, Parity, StreamHeader
from codecbook.coding.stream.parity import parity_groups, parity_number, parity_of
from codecbook.coding.stream.segment import Segment, code_rows
from codecbook.coding.stream.version2 import pack_footer, pack_header, pack_parity, pack_segment
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import TokenFormat
from codecbook.tokens.layout import Layout
from codecbook.tokens.tokens import checked_codes

DEFAULT_SEGMENT_S = 10.0
"""Seconds of audio that one damaged byte can cost, and after which the language model begins anew."""


def stream_order(known: TokenFormat, model: ExactLM | None) -> str:
    """Return the order in which a stream holds such tokens: the first whose columns the language model codes, if any.

    Raises UnsupportedInput: there is none.
    """
    columns: dict[str, tuple[int, ...]] = {}
    for order in ROW_ORDERS:
        with contextlib.suppress(UnsupportedInput):
            columns[order] = Layout(order, known).codebook_sizes
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
        f"The language model codes codebooks of {model.codebook_sizes}, and these tokens have {[*columns.values()]}; "
        "choose the bandwidth or the codec that it was trained for, or lm=None for raw coding."
    )


class StreamWriter:
    """Write segments as soon as they are full; what is kept is one segment and 4 bytes for each one written.

    With parity, the segments that it is made of are kept as well, until it is written.

    The file must be able to seek: the header, which stands first, is written last.

    Args:
        file: Binary, open for writing, empty from its position on.
        known: Of the tokens.
        model: Exact language model for these codebooks; None codes raw, at fixed width.
        lm_name: Its name, by which a decoder looks for it.
        segment_s: Seconds in a segment of the stream; whole segments of the codec, one at least.
        codec_segment_frames: Frames of a full segment of the codec; 0 for a codec without.
        codec_segment_stride: Samples from one of the codec's own segments to the next.
        has_scales: Whether the codec normalises.
        parity: How many segments that restore others are added; None for none.
        exact_sha256: Of the integers of an exact codec, hex; `close` is then given the hash of its audio.
        adapt_step: With which a bias on the model's logits learns within each segment, 1 to 1023 in 2^-8 bit; or 0.

    Raises UnsupportedInput: rates without common frames, more than 1024 columns or codebooks of a single code, other
    codebooks than the model's, a length of segments out of range, or a file that cannot seek.
    """

    def __init__(
        self,
        file: BinaryIO,
        known: TokenFormat,
        model: ExactLM | None = None,
        lm_name: str = "",
        *,
        segment_s: float = DEFAULT_SEGMENT_S,
        codec_segment_frames: int = 0,
        codec_segment_stride: int = 0,
        has_scales: bool = False,
        parity: Parity | None = None,
        exact_sha256: str = "",
        adapt_step: int = 0,
    ) -> None:
        if not file.seekable():
            raise UnsupportedInput("A stream is written to a file that can seek, not to a pipe; name a file.")
        if not segment_s > 0:
            raise UnsupportedInput(f"segment_s={segment_s} is no length of a segment; give seconds above 0.")
        layout = Layout(stream_order(known, model), known)
        rows = min(segment_s * known.frame_rates_hz[0], float(MAX_SEGMENT_CODES))
        unit = codec_segment_frames or 1
        most = MAX_SEGMENT_CODES // (unit * len(layout.codebook_sizes))
        self.header = StreamHeader(
            format=known, order=layout.order, coder="raw" if model is None else "exact",
            lm_name=lm_name, lm_sha256="" if model is None else model.sha256,
            rows_per_segment=max(1, min(round(rows / unit), most)) * unit,
            codec_segment_frames=codec_segment_frames, codec_segment_stride=codec_segment_stride, has_scales=has_scales,
            parity=parity, exact_sha256=exact_sha256, audio_sha256="00" * 16 if exact_sha256 else "",
            adapt_step=adapt_step,
        )  # fmt: skip
        self._file, self._model, self._start = file, model, file.tell()
        # what is not written yet: rows, and the codec's segments that they make up
        self._pending: list[np.ndarray] = []
        self._frames: list[int] = []
        self._scales: list[float] = []
        self._count, self._rows = 0, 0
        self._lengths = array("I")  # of all segments, of parity too
        self._block: list[bytes] = []  # segments for which there is no parity yet
        self._longest_next = codec_segment_frames
        file.write(bytes(len(pack_header(self.header))))

    def write(self, rows: np.ndarray, codec_segment_frames: Sequence[int] = (), scales: Sequence[float] = ()) -> None:
        """Take the next rows, integers ``[T, K]`` in the header's order; of a codec with segments, whole ones.

        These are full until the recording ends: none is longer than the one before it, as times are counted in full
        ones. `scales` has one gain per segment of the codec, or for a codec with a gain but no segments, always that
        gain.

        Raises:
            CorruptInput: A code outside its codebook.
            UnsupportedInput: Another shape, or segments that the header does not allow.
        """
        rows = checked_codes(rows, self.header.columns, "Rows of the stream")
        gains = np.asarray(scales, dtype=np.float32).tolist()
        longest_of_codec = self.header.codec_segment_frames
        if longest_of_codec:
            if sum(codec_segment_frames) != len(rows):
                raise UnsupportedInput(
                    f"Segments of {list(codec_segment_frames)} frames do not make {len(rows)} rows; write whole ones."
                )
            for longest, count in pairwise((self._longest_next, *codec_segment_frames)):
                if not 1 <= count <= longest:
                    raise UnsupportedInput(
                        f"A segment of the codec of {count} frames comes where 1 to {longest} fit; all are of one "
                        "length, but for shorter ones at the end."
                    )
            self._frames += codec_segment_frames
            self._scales += gains[: len(codec_segment_frames)]
            self._longest_next = (self._longest_next, *codec_segment_frames)[-1]
        elif len(rows):
            self._scales = gains
        self._pending.append(rows)
        full = self.header.rows_per_segment // max(1, longest_of_codec)
        segments = []
        while (len(self._frames) if longest_of_codec else sum(map(len, self._pending))) >= full:
            segments.append(self._taken(full))
        self._emit(segments)

    def close(self, num_samples: int | None = None, audio_sha256: str = "") -> None:
        """Write what is left, the footer, and at last the header; the file itself stays open.

        `num_samples` is the length of the audio in samples per channel, None where unknown; `audio_sha256` the hash
        of what an exact codec decodes, hex.
        """
        if any(map(len, self._pending)):
            self._emit([self._taken(self.header.rows_per_segment)])
        if not self._count:
            self._bind(Segment(0, 0, np.zeros((0, len(self.header.columns)), dtype=np.int64)))
        if self._block:
            self._add_parity(self._count - 1)
        self.header = replace(
            self.header, num_rows=self._rows, num_segments=self._count, num_samples=num_samples,
            audio_sha256=audio_sha256[: len(self.header.audio_sha256)],
        )  # fmt: skip
        self._file.write(pack_footer(self.header, self._lengths))
        end = self._file.tell()
        self._file.seek(self._start)
        self._file.write(pack_header(self.header))
        self._file.seek(end)

    def _taken(self, count: int) -> Segment:
        """Take a segment of this many rows, or of the codec's segments; of fewer where no more are there."""
        rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        frames, scales = (), self._scales
        if self.header.codec_segment_frames:
            frames, scales = tuple(self._frames[:count]), self._scales[:count]
            self._frames, self._scales = self._frames[count:], self._scales[count:]
            count = sum(frames)
        segment = Segment(self._count, self._rows, rows[:count], frames, tuple(scales))
        self._pending = [rows[count:]] if len(rows) > count else []
        if self._rows + segment.num_rows > MAX_ROWS:
            raise UnsupportedInput(f"A stream holds up to {MAX_ROWS} rows; begin another one.")
        self._count += 1
        self._rows += segment.num_rows
        return segment

    def _emit(self, segments: Sequence[Segment]) -> None:
        if segments and segments[0].index == 0:
            self._bind(segments[0])
        coded = code_rows(self.header, self._model, [segment.rows for segment in segments])
        for segment, rows in zip(segments, coded, strict=True):
            data = pack_segment(self.header, segment, *rows)
            self._append(data)
            if parity := self.header.parity:
                self._block.append(data)
                if len(self._block) == parity.count * parity.groups:
                    self._add_parity(segment.index)

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._lengths.append(len(data))

    def _add_parity(self, last: int) -> None:
        """Write what restores the segments since the last time; `last` is the newest."""
        parity = self.header.parity
        assert parity is not None, "the caller has looked"
        block = last // (parity.count * parity.groups)
        for row in range(parity.parity):
            for group in parity_groups(parity, len(self._block)):
                members = self._block[group :: parity.groups]
                number, payload = parity_number(parity, block, row, group), parity_of(members, row)
                self._append(pack_parity(self.header, number, list(map(len, members)), payload))
        self._block = []

    def _bind(self, first: Segment) -> None:
        """Derive the stream's id from its settings and its first segment: equal input makes equal bytes."""
        digest = hashlib.sha256(pack_header(self.header))
        digest.update(np.asarray(first.scales, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(first.rows, dtype="<u4").tobytes())
        self.header = replace(self.header, stream_id=digest.digest()[:4])
