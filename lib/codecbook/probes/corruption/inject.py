"""Damage to bytes: drawn from a seed, and kept as what was done, so that it can be done again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codecbook.errors import UnsupportedInput

BYTE_KINDS = ("flip", "low_bit", "substitute")
"""Of single bytes: one random bit flipped, the lowest (as encodec's ``precision_eval`` does), another random value."""
RUN_KINDS = ("burst", "zero", "delete", "insert", "truncate", "splice")
"""Of bytes in a row: random ones, zeros, none, further ones; all from there on missing, or those of another stream."""
CHUNK_KINDS = ("lose", "repeat", "swap")
"""Of whole chunks: one missing, twice there, or in the place of the next."""
KINDS = BYTE_KINDS + RUN_KINDS + CHUNK_KINDS


class Edit(NamedTuple):
    """Bytes that were replaced."""

    start: int  # the first of them in the original
    end: int  # one past the last; `start` where bytes were only added
    content: bytes  # what stands there instead


@dataclass(frozen=True)
class Mutation:
    """What was done to some bytes."""

    kind: str  # one of `KINDS`
    seed: int
    where: str  # name of the part that was aimed at
    edits: tuple[Edit, ...]  # in order, apart from each other

    @property
    def first_byte(self) -> int:
        """Where the first change is in the original; -1 where chance changed nothing."""
        return self.edits[0].start if self.edits else -1

    def apply(self, data: bytes) -> bytes:
        """Return the damaged bytes; `data` are those that the mutation was drawn for."""
        parts, place = [], 0
        for edit in self.edits:
            parts += [data[place : edit.start], edit.content]
            place = edit.end
        return b"".join((*parts, data[place:]))


def draw(
    data: bytes,
    kind: str,
    seed: int,
    *,
    places: Sequence[range] = (),
    size: int = 1,
    rate: float | None = None,
    chunks: Sequence[range] = (),
    other: bytes = b"",
    where: str = "anywhere",
) -> Mutation:
    """Draw a mutation; equal arguments give equal ones.

    Args:
        data: The undamaged bytes.
        kind: One of `KINDS`.
        seed: Of what is left to chance.
        places: Bytes that may be hit, or where a run may begin; all of them by default.
        size: How many bytes: hit, or in the run (of ``"truncate"`` and ``"splice"`` without meaning).
        rate: Of `BYTE_KINDS`, the share of the places that is hit, each by itself, instead of `size` of them.
        chunks: Whole chunks in order, for `CHUNK_KINDS`.
        other: Another stream, for ``"splice"``: it goes on where it has the same share of its own bytes behind it.
        where: What to call the places in the record.

    Raises UnsupportedInput: an unknown kind, nothing that can be hit, or fewer than two chunks.
    """
    random = np.random.default_rng(seed)
    spots = np.concatenate([np.asarray(part) for part in places]) if places else np.arange(len(data))
    if kind not in KINDS:
        raise UnsupportedInput(f"There is no mutation {kind!r}; choose one of {', '.join(KINDS)}.")
    if not len(spots):
        raise UnsupportedInput(f"There are no bytes to hit in {where!r}; choose another part.")
    if kind in CHUNK_KINDS:
        edits = _of_chunks(data, kind, random, chunks)
    elif kind in BYTE_KINDS:
        if rate is None:
            hit = random.choice(spots, min(size, len(spots)), replace=False)
        else:
            hit = spots[random.random(len(spots)) < rate]
        if kind == "substitute":
            masks = random.integers(1, 256, len(hit))
        else:
            masks = 1 << (random.integers(8, size=len(hit)) if kind == "flip" else np.zeros(len(hit), dtype=int))
        pairs = sorted(zip(hit.tolist(), masks.tolist(), strict=True))
        edits = [Edit(place, place + 1, bytes([data[place] ^ mask])) for place, mask in pairs]
    else:
        start = int(random.choice(spots))
        end = min(start + size, len(data))
        content = {
            "burst": random.bytes(end - start), "insert": random.bytes(size), "zero": bytes(end - start),
            "splice": other[len(other) * start // len(data) :],
        }.get(kind, b"")  # fmt: skip
        end = {"insert": start, "truncate": len(data), "splice": len(data)}.get(kind, end)
        edits = [Edit(start, end, content)]
    return Mutation(kind, seed, where, tuple(edits))


def _of_chunks(data: bytes, kind: str, random: np.random.Generator, chunks: Sequence[range]) -> list[Edit]:
    if len(chunks) < 2:
        raise UnsupportedInput(f"{kind!r} takes a stream of two chunks or more; received {len(chunks)}.")
    index = int(random.integers(len(chunks) - (kind == "swap")))
    first = chunks[index]
    content = data[first.start : first.stop]
    if kind == "lose":
        return [Edit(first.start, first.stop, b"")]
    if kind == "repeat":
        return [Edit(first.stop, first.stop, content)]
    second = chunks[index + 1]
    between = data[first.stop : second.start]
    return [Edit(first.start, second.stop, data[second.start : second.stop] + between + content)]
