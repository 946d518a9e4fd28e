"""Fields of a header, one after the other: how each kind of them is written and read."""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from codecbook.coding.stream.header import MAX_NAME_BYTES, Parity, digest_bytes
from codecbook.errors import UnsupportedInput

_NO_SAMPLES = (1 << 40) - 1


class Fields:
    """Reads fields; IndexError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.place += count
        if self.place > len(self.data):
            raise IndexError("it ends within a field")
        return self.data[self.place - count : self.place]

    def fixed(self, count: int) -> int:
        """Read an integer of so many bytes."""
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        """Read an integer in groups of 7 bits; ValueError: more than ten bytes."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number is longer than ten bytes")

    def scaled(self, value_of: Callable[[int], float]) -> float:
        """Read a number by an integer that it follows from, or a number of any other value."""
        step = self.varint()
        return struct.unpack("<d", self.take(8))[0] if step == 1 else value_of(step // 2)

    def text(self, usual: str) -> str:
        """Read a text, of which there may be a usual one."""
        length = self.varint()
        return self.take(length - 1).decode() if length else usual


def varint(value: int) -> bytes:
    """Write an integer of 0 or more in groups of 7 bits; OverflowError: a negative one."""
    if value < 0:
        raise OverflowError(f"{value} is negative")
    data = bytearray()
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def scaled(value: float, step: int, value_of: Callable[[int], float]) -> bytes:
    """Write a number by an integer that it follows from to the bit, or as it is."""
    return varint(2 * step) if step and value_of(step) == value else b"\x01" + struct.pack("<d", value)


def text(value: str, usual: str) -> bytes:
    """Write a text, of which there may be a usual one."""
    data = value.encode()
    if len(data) > MAX_NAME_BYTES:
        raise UnsupportedInput(f"{len(data)} bytes of a name are longer than a header's {MAX_NAME_BYTES}; shorten it.")
    return b"\x00" if value == usual else varint(len(data) + 1) + data


class Kind(NamedTuple):
    """How fields of a kind are read and written."""

    read: Callable[[Fields], Any]
    write: Callable[[Any], bytes]


def fixed(count: int) -> Kind:
    """Return the kind of integers of so many bytes."""
    return Kind(lambda fields: fields.fixed(count), lambda value: value.to_bytes(count, "little"))


def digest(count: int) -> Kind:
    """Return the kind of the first bytes of a SHA-256, of which there is one."""
    return Kind(lambda fields: fields.take(count).hex(), lambda value: digest_bytes(value, count))


def _thousandth(step: int) -> float:
    return step / 1000


def _samples(value: int | None) -> bytes:
    if value is not None and not 0 <= value < _NO_SAMPLES:
        raise OverflowError(f"num_samples={value} is outside 0..{_NO_SAMPLES - 1}")
    return (_NO_SAMPLES if value is None else value).to_bytes(5, "little")


VARINT = Kind(Fields.varint, varint)
NUMBER = Kind(
    lambda fields: fields.scaled(_thousandth),
    lambda value: scaled(value, round(value * 1000) if 0 < value < 1e12 else 0, _thousandth),
)
SAMPLES = Kind(lambda fields: None if (count := fields.fixed(5)) == _NO_SAMPLES else count, _samples)
STREAM_ID = Kind(lambda fields: fields.take(4), lambda value: value.ljust(4, b"\0"))
PARITY = Kind(
    lambda fields: Parity(*(fields.varint() for _ in range(3))),
    lambda value: b"".join(map(varint, (value.count, value.parity, value.groups))),
)
