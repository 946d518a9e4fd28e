"""What a reader hands out: a segment of a stream, and the tokens of many."""

from dataclasses import dataclass

from codecbook.coding.stream_damage import Damage
from codecbook.coding.stream_segment import SegmentContent
from codecbook.tokens import Tokens


@dataclass(frozen=True)
class StreamSegment:
    """A segment as it was read, or several that follow each other and are missing.

    Attributes:
        index: Number of the first.
        num_segments: How many; 1 unless they are missing.
        first_row: Rows before it.
        num_rows: Rows in it.
        content: Its rows, and what belongs to them; None where `damage` says why.
        damage: What is wrong with it, or None.
    """

    index: int
    num_segments: int
    first_row: int
    num_rows: int
    content: SegmentContent | None
    damage: Damage | None


@dataclass(frozen=True)
class StreamTokens:
    """Tokens of a stream, or of a stretch of it.

    Attributes:
        tokens: Code 0 stands for each one that is lost, and scale 0 for each scale.
        first_row: Rows of the stream before these.
        start_s: Where these begin, in seconds.
        damage: What is lost.
        notes: What is wrong with parts of the stream that are there twice, so that nothing was lost.
    """

    tokens: Tokens
    first_row: int
    start_s: float
    damage: tuple[Damage, ...]
    notes: tuple[str, ...]
