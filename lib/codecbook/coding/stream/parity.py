"""Segments of parity: what any of a group of segments are restored from when they are lost.

A maximum-distance-separable erasure code over bytes, byte `i` of the parity from byte `i` of each segment: with `m`
segments of parity, any `m` of a group may be lost. Source of the matrix: Bloemer et al., An XOR-based erasure-resilient
coding scheme, ICSI TR-95-048 (1995).
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import reedsolo

from codecbook.coding.stream.header import Parity, StreamHeader


def parity_groups(parity: Parity, num_segments: int) -> list[int]:
    """Return in which order the groups of a block of so many segments follow it.

    The group of the last segment comes last: a burst across the end of a block hits each group but once.
    """
    count = min(parity.groups, num_segments)
    return [(num_segments + i) % count for i in range(count)]


def parity_number(parity: Parity, block: int, row: int, group: int) -> int:
    """Return the number of a segment of parity: of a block, which of its group, and the group in the block."""
    return (block * parity.parity + row) * parity.groups + group


def group_of(header: StreamHeader, number: int) -> range:
    """Return the numbers of the segments that a segment of parity stands for."""
    assert header.parity is not None, "a stream with parity"
    row, group = divmod(number, header.parity.groups)
    start = row // header.parity.parity * header.parity.count * header.parity.groups
    end = min(start + header.parity.count * header.parity.groups, header.num_segments)
    return range(start + group, end, header.parity.groups)


@functools.cache
def _products() -> np.ndarray:
    """Return all products in the field of 256 elements with the polynomial 0x11d, uint8 ``[256, 256]``."""
    logs, powers, _ = reedsolo.init_tables(0x11D)
    logs = np.array(list(logs))
    table = np.array(list(powers), dtype=np.uint8)[logs[:, None] + logs]
    table[0], table[:, 0] = 0, 0
    return table


@functools.cache
def _inverses() -> np.ndarray:
    return np.argmax(_products() == 1, axis=1).astype(np.uint8)


def _factor(parity: int, member: int) -> int:
    """Return what a member is multiplied by in a segment of parity, an entry of a Cauchy matrix: never 0."""
    return int(_inverses()[(255 - parity) ^ member])


def parity_of(members: Sequence[bytes], parity: int) -> bytes:
    """Return the payload of a group's segment of parity number `parity`, as long as the longest of the members."""
    total = np.zeros(max(map(len, members)), dtype=np.uint8)
    for number, member in enumerate(members):
        total[: len(member)] ^= _products()[_factor(parity, number)][np.frombuffer(member, dtype=np.uint8)]
    return total.tobytes()


def restore(members: Mapping[int, bytes], parities: Mapping[int, bytes], lengths: Sequence[int]) -> dict[int, bytes]:
    """Return the members of a group that are lost; nothing where there are more of them than parities.

    Args:
        members: Those that are there, by number in the group.
        parities: Payloads of the segments of parity that are there, by number.
        lengths: Of all members, in bytes.
    """
    lost = [number for number in range(len(lengths)) if number not in members]
    if not lost or len(lost) > len(parities):
        return {}
    products, inverses = _products(), _inverses()
    numbers = sorted(parities)[: len(lost)]
    # each row says: the sum of lost members times these factors is these bytes
    factors = np.array([[_factor(parity, number) for number in lost] for parity in numbers], dtype=np.uint8)
    sums = np.stack([np.frombuffer(parities[parity], dtype=np.uint8) for parity in numbers])
    for row, parity in enumerate(numbers):
        for number, member in members.items():
            sums[row, : len(member)] ^= products[_factor(parity, number)][np.frombuffer(member, dtype=np.uint8)]
    for i in range(len(lost)):  # by elimination; all square parts of a Cauchy matrix can be inverted in this order
        scale = inverses[factors[i, i]]
        factors[i], sums[i] = products[scale][factors[i]], products[scale][sums[i]]
        for row in range(len(lost)):
            if row != i:
                scale = factors[row, i]
                factors[row] ^= products[scale][factors[i]]
                sums[row] ^= products[scale][sums[i]]
    return {number: sums[i, : lengths[number]].tobytes() for i, number in enumerate(lost)}
