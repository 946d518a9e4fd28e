"""What is wrong with a stream, and where."""

from dataclasses import dataclass

DAMAGE_KINDS = ("missing", "header", "payload", "coder", "intervals", "tokens", "position")


@dataclass(frozen=True)
class Damage:
    """A segment, or several that follow each other, whose codes are lost.

    Attributes:
        kind: ``"missing"`` (not found in the stream), ``"header"`` (the segment's own header is damaged or not the one
            that was written), ``"payload"`` (its bytes are damaged or cut off), ``"coder"`` (its bytes pass their
            checksum and cannot be decoded), ``"intervals"`` (the language model computes other intervals here than
            where the stream was made), ``"tokens"`` (decoded codes do not pass their checksum), ``"position"`` (it
            contradicts its neighbours).
        segment: Number of the first, from 0.
        num_segments: How many.
        first_row: Their first row.
        num_rows: Their rows.
        first_byte: Where in the stream their bytes begin, or should.
        end_byte: Where these end, exclusive; equal to `first_byte` where nothing is there.
        start_s: Beginning of the audio that is lost, in seconds.
        end_s: Its end, in seconds.
        reason: In words.
    """

    kind: str
    segment: int
    num_segments: int
    first_row: int
    num_rows: int
    first_byte: int
    end_byte: int
    start_s: float
    end_s: float
    reason: str

    def __str__(self) -> str:
        last = self.segment + self.num_segments - 1
        name = f"Segment {self.segment}" if self.num_segments == 1 else f"Segments {self.segment} to {last}"
        return (
            f"{name} ({self.start_s:.3f} to {self.end_s:.3f} s, bytes {self.first_byte} to {self.end_byte}): "
            f"{self.reason}"
        )
