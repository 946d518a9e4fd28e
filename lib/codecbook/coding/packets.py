"""Tokens as packets for live use: each is decoded on its own, and says of lost ones before it what matters most.

A packet is ``number`` (16 bits, little-endian, from 0, after 65,535 from 0 again), ``check`` (16 bits, little-endian),
and a body. The body is the packet's frames, raw at fixed width (`codecbook.tokens.bits`) or coded by an exact language
model that starts anew in each packet (`codecbook.coding.exact.frames`), then the parity, if any, at fixed width.

**Parity.** Packets form groups of `group_packets`, 0 to m-1, m to 2m-1, and so on. The last packet of a group, plus
`after_packets`, carries for every frame of a packet and every leading codebook the sum of the group's codes modulo the
codebook's size; the other packets carry none. Where one packet of a group is lost, its leading codebooks are the parity
less the codes of the others; with groups of one packet the parity is these codes themselves, sent again.

**Check.** CRC-16 (polynomial 0x1021, initially 0: `binascii.crc_hqx`) of the key, the number and the body. The key is
the first 8 bytes of the SHA-256 of what sender and receiver agree on, as text in lines (`PacketFormat.key`), among it
the session's number. A packet that is damaged, or of another session, format or model, passes with probability 2^-16.

Source of the idea: repetition of a coarser coding in later packets, RFC 2198; parity over packets, RFC 5109.
"""

import binascii
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codecbook.coding.exact import frames as exact_frames
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import Tokens
from codecbook.tokens.bits import pack_bits, packed_bytes, unpack_bits
from codecbook.tokens.tokens import TokenFormat, require_positive

_HEAD = struct.Struct("<HH")
HEADER_BYTES = _HEAD.size
_NUMBERS = 1 << 16


@dataclass(frozen=True)
class PacketFormat:
    """What sender and receiver of a session agree on before it begins.

    Raises UnsupportedInput: codebooks of different rates, or settings out of range.
    """

    tokens: TokenFormat
    session: int = 0  # so that packets of another session are refused
    packet_frames: int = 3  # frames in a packet: 40 ms at 75 Hz
    parity_codebooks: int = 2  # leading codebooks that later packets protect; 0 for none
    group_packets: int = 1  # packets that share a parity; 1 sends their codes again
    after_packets: int = 3  # packets after a group until its parity is sent
    lm: ExactLM | None = None  # codes the frames, for all codebooks; None sends raw codes

    def __post_init__(self) -> None:
        for name in ("packet_frames", "group_packets", "after_packets"):
            require_positive(name, getattr(self, name))
        if len(set(self.tokens.frame_rates_hz)) > 1:
            raise UnsupportedInput(f"Rates {self.tokens.frame_rates_hz} Hz share no frames; use a codec of one rate.")
        if not 0 <= self.parity_codebooks <= self.tokens.num_codebooks:
            raise UnsupportedInput(f"parity_codebooks={self.parity_codebooks} exceeds 0..{self.tokens.num_codebooks}.")
        if self.lm is not None and self.lm.codebook_sizes != self.tokens.codebook_sizes:
            raise UnsupportedInput(
                f"The model codes {self.lm.codebook_sizes}, not {self.tokens.codebook_sizes}; send so many, or lm=None."
            )

    @property
    def packet_s(self) -> float:
        """Seconds in a packet."""
        return self.packet_frames / self.tokens.frame_rates_hz[0]

    @property
    def delay_packets(self) -> int:
        """For how many packets after a lost one a receiver waits for its parity."""
        return self.group_packets - 1 + self.after_packets if self.parity_codebooks else 0

    @cached_property
    def key(self) -> bytes:
        """What the check of every packet covers, so that those of another session or format fail."""
        agreed = (
            "codecbook packets 1", self.session, self.tokens.codec, self.tokens.weights_sha256,
            ",".join(map(str, self.tokens.codebook_sizes)), self.packet_frames, self.parity_codebooks,
            self.group_packets, self.after_packets, self.lm.sha256 if self.lm else "",
        )  # fmt: skip
        return hashlib.sha256("\n".join(map(str, agreed)).encode()).digest()[:8]

    def group_of(self, number: int) -> int | None:
        """Return the first packet of the group whose parity a packet carries; None where it carries none."""
        first = number - self.delay_packets
        return first if self.parity_codebooks and first >= 0 and first % self.group_packets == 0 else None

    @property
    def parity_sizes(self) -> tuple[int, ...]:
        """Sizes of the codebooks of a frame's part of a parity."""
        return self.tokens.codebook_sizes[: self.parity_codebooks]


@dataclass(frozen=True)
class Received:
    """What came of a clip's packets."""

    tokens: Tokens  # 0 where codes are lost
    lost: np.ndarray  # which codes are, bool [K, T]
    packets: int  # that arrived and passed their check, each counted once
    refused: int  # that did not pass: damaged, of another session, or beyond the end


def send(tokens: Tokens, known: PacketFormat) -> list[bytes]:
    """Return the packets of a clip, in order; the last one is filled up with the last frame.

    Raises UnsupportedInput: tokens of another format, or in segments of the codec's own, such as those of 48 kHz.
    """
    if tokens.format.codebook_sizes != known.tokens.codebook_sizes or tokens.scales or tokens.segment_frames:
        raise UnsupportedInput(
            f"Tokens have codebooks {tokens.codebook_sizes} and {len(tokens.segment_frames)} segments of their codec, "
            f"and the packets codebooks {known.tokens.codebook_sizes} without; send tokens of that format."
        )
    frames = tokens.to_frames()
    rows = np.minimum(np.arange(-(-len(frames) // known.packet_frames) * known.packet_frames), len(frames) - 1)
    codes = frames[rows].reshape(-1, known.packet_frames, tokens.num_codebooks)  # [P, F, K]
    packets = []
    for number, own in enumerate(codes):
        coded = exact_frames.encode_frames(known.lm, own).payload if known.lm else pack_bits(own, tokens.codebook_sizes)
        if (first := known.group_of(number)) is not None:
            coded += pack_bits(_parity(codes[first : first + known.group_packets], known), known.parity_sizes)
        sent = number % _NUMBERS
        packets.append(_HEAD.pack(sent, _check(known, sent, coded)) + coded)
    return packets


def receive(
    packets: Iterable[bytes], known: PacketFormat, num_frames: int, wait_packets: int | None = None
) -> Received:
    """Put together what arrives of a clip's packets, in any order and any of them twice.

    Args:
        packets: Whatever arrived, in the order in which it did.
        known: What the sender was given.
        num_frames: Frames of the clip.
        wait_packets: How many packets a live receiver is behind: one that comes after a packet with a number that is
            more than this higher is too late. None takes every packet, however late.
    """
    F, K = known.packet_frames, known.tokens.num_codebooks
    count, newest, refused = -(-num_frames // F), 0, 0
    codes = np.zeros((count, F, K), dtype=np.int64)
    have = np.zeros((count, K), dtype=bool)
    parities: dict[int, np.ndarray] = {}
    for packet in packets:
        number = _number(packet, known, newest)
        if number is None or number >= count:
            refused += 1
            continue
        newest = max(newest, number)
        if have[number, 0] or (wait_packets is not None and number < newest - wait_packets):
            continue
        try:
            codes[number], parity = _opened(packet[HEADER_BYTES:], known, number)
        except CorruptInput:  # by chance the check of a damaged packet holds
            refused += 1
            continue
        have[number] = True
        if parity is not None:
            parities[number - known.delay_packets] = parity
    whole, n = have[:, 0].copy(), known.parity_codebooks
    for first, parity in parities.items():
        group = np.arange(first, first + known.group_packets)
        missing = group[~whole[group]]
        if len(missing) == 1:
            rest = _parity(codes[group[whole[group]]], known)
            codes[missing[0], :, :n] = (parity - rest) % known.tokens.codebook_sizes[:n]
            have[missing[0], :n] = True
    lost = ~np.repeat(have, F, axis=0)[:num_frames].T
    rows = codes.reshape(-1, K)[:num_frames]
    return Received(known.tokens.tokens(tuple(rows.T.copy())), lost, int(whole.sum()), refused)


def _parity(codes: np.ndarray, known: PacketFormat) -> np.ndarray:
    """Return the parity of some packets' codes ``[P, F, K]``, int64 ``[F, n]``."""
    n = known.parity_codebooks
    return codes[:, :, :n].sum(axis=0) % known.tokens.codebook_sizes[:n]


def _check(known: PacketFormat, sent: int, body: bytes) -> int:
    return binascii.crc_hqx(known.key + sent.to_bytes(2, "little") + body, 0)


def _number(packet: bytes, known: PacketFormat, newest: int) -> int | None:
    """Return a packet's number, of those with its 16 bits the nearest to the newest one; None where its check fails."""
    if len(packet) < HEADER_BYTES:
        return None
    sent, check = _HEAD.unpack_from(packet)
    if check != _check(known, sent, packet[HEADER_BYTES:]):
        return None
    number = newest + (sent - newest + _NUMBERS // 2) % _NUMBERS - _NUMBERS // 2
    return number if number >= 0 else None


def _opened(body: bytes, known: PacketFormat, number: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a packet's frames ``[F, K]`` and parity ``[F, n]``, if any; else CorruptInput."""
    F, parity = known.packet_frames, None
    if known.group_of(number) is not None:
        end = max(0, len(body) - packed_bytes(known.parity_sizes, F))
        parity, body = unpack_bits(body[end:], known.parity_sizes, F), body[:end]
    if known.lm:
        return exact_frames.decode_frames(known.lm, body, F)[0], parity
    return unpack_bits(body, known.tokens.codebook_sizes, F), parity
