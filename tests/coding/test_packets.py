"""Packets: what comes back of those that arrive, whatever is lost, late, twice, damaged or foreign."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from codecbook.coding import packets
from codecbook.coding.packets import HEADER_BYTES, PacketFormat, Received, receive, send
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig
from codecbook.tokens import Tokens
from codecbook.tokens.tokens import tokens_from_frames

V, K, T = 11, 3, 32


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    codes = np.random.default_rng(1).integers(V, size=(T, K))
    return tokens_from_frames(codes, V, 75.0, codec="made up", sample_rate_hz=24000)


@pytest.fixture(scope="module")
def model() -> ExactLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        shape = {"dim": 32, "layers": 1, "heads": 4, "hidden": 48, "head_dim": 16, "head_hidden": 24}
        made = RVQTransformer(RVQTransformerConfig((V,) * K, window_frames=8, conditioning="in_frame", **shape))
    return export_exact(made.eval(), [np.random.default_rng(2).integers(V, size=(20, K))])


def formats(tokens: Tokens, model: ExactLM) -> list[PacketFormat]:
    return [
        PacketFormat(tokens.format, parity_codebooks=n, group_packets=m, after_packets=after, lm=lm)
        for n, m, after in ((0, 1, 1), (2, 1, 3), (1, 2, 2), (3, 3, 1))
        for lm in (None, model)
    ]


def assert_true_where_there(got: Received, tokens: Tokens) -> None:
    assert got.lost.shape == (tokens.num_codebooks, len(tokens.codes[0]))
    sent, came = np.stack(tokens.codes), np.stack(got.tokens.codes)
    assert np.array_equal(sent[~got.lost], came[~got.lost])
    assert not came[got.lost].any()


def test_all_packets_give_the_tokens_back(tokens: Tokens, model: ExactLM):
    for known in formats(tokens, model):
        sent = send(tokens, known)
        assert len(sent) == 11
        got = receive(sent, known, T)
        assert got.tokens.same_codes(tokens)
        assert not got.lost.any()
        assert (got.packets, got.refused) == (11, 0)


def test_a_packet_to_the_byte():
    tokens = tokens_from_frames(np.array([[1, 2], [3, 0], [0, 3], [2, 1]]), 4, 50.0)
    known = PacketFormat(tokens.format, session=5, packet_frames=2, parity_codebooks=1, after_packets=1)
    first, second = send(tokens, known)
    agreed = b"codecbook packets 1\n5\n\n\n4,4\n2\n1\n1\n1\n"
    assert known.key == hashlib.sha256(agreed).digest()[:8]
    # frames (1,2), (3,0): bits lowest first 10 01 11 00; then (0,3), (2,1): 00 11 01 10, and codebook 0 again, 10 11
    assert first == (0).to_bytes(2, "little") + crc16(known.key + b"\0\0\x39").to_bytes(2, "little") + b"\x39"
    assert second == (1).to_bytes(2, "little") + crc16(known.key + b"\1\0\x6c\x0d").to_bytes(2, "little") + b"\x6c\x0d"


def crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def test_each_lost_packet_is_mended_from_its_parity(tokens: Tokens, model: ExactLM):
    for known in formats(tokens, model):
        sent, n = send(tokens, known), known.parity_codebooks
        for lost in range(len(sent)):
            got = receive(sent[:lost] + sent[lost + 1 :], known, T)
            assert_true_where_there(got, tokens)
            group = lost // known.group_packets * known.group_packets
            is_covered = n > 0 and group + known.delay_packets < len(sent)
            here = slice(3 * lost, min(3 * lost + 3, T))
            assert got.lost[:n, here].all() == (not is_covered) or n == 0
            assert got.lost[n:, here].all()
            assert got.lost.sum() == got.lost[:, here].sum()


def test_what_is_lost_for_good_is_said(tokens: Tokens, model: ExactLM):
    random = np.random.default_rng(3)
    for known in formats(tokens, model):
        sent = send(tokens, known)
        for _ in range(30):
            kept = np.flatnonzero(random.random(len(sent)) < 0.6)
            assert_true_where_there(receive([sent[i] for i in kept], known, T), tokens)


def test_nothing_arrives(tokens: Tokens, model: ExactLM):
    for known in formats(tokens, model):
        got = receive([], known, T)
        assert got.lost.all()
        assert got.packets == 0


def test_order_and_duplicates_do_not_matter(tokens: Tokens, model: ExactLM):
    random = np.random.default_rng(4)
    for known in formats(tokens, model):
        sent = send(tokens, known)
        kept = random.permutation(np.repeat([0, 1, 3, 4, 5, 8, 9], 2))
        ordered = receive([sent[i] for i in sorted(set(kept.tolist()))], known, T)
        mixed = receive([sent[i] for i in kept], known, T)
        assert mixed.tokens.same_codes(ordered.tokens)
        assert np.array_equal(mixed.lost, ordered.lost)
        assert mixed.packets == 7


def test_what_comes_too_late_for_a_live_receiver_is_lost(tokens: Tokens):
    known = PacketFormat(tokens.format, parity_codebooks=0)
    sent = send(tokens, known)
    order = [0, 2, 1, 3, 5, 6, 7, 4, 8, 9, 10]  # 1 is one packet late, 4 three
    assert not receive([sent[i] for i in order], known, T).lost.any()
    got = receive([sent[i] for i in order], known, T, wait_packets=2)
    assert np.flatnonzero(got.lost[0]).tolist() == [12, 13, 14]


def test_every_flipped_bit_is_refused(tokens: Tokens, model: ExactLM):
    for known in formats(tokens, model)[2:4]:
        packet = send(tokens, known)[4]
        for bit in range(8 * len(packet)):
            data = bytearray(packet)
            data[bit // 8] ^= 1 << bit % 8
            got = receive([bytes(data)], known, T)
            assert got.lost.all()
            assert (got.packets, got.refused) == (0, 1)


def test_rubbish_is_refused(tokens: Tokens):
    known, random = PacketFormat(tokens.format), np.random.default_rng(5)
    rubbish = [random.bytes(random.integers(0, 40)) for _ in range(3000)]
    sent = send(tokens, known)
    rubbish += [packet[:n] for packet in sent for n in range(len(packet))] + [packet + b"\0" for packet in sent]
    got = receive(rubbish, known, T)
    assert got.lost.all()
    assert got.refused == len(rubbish)


def test_a_packet_that_passes_its_check_by_chance_has_no_codes(tokens: Tokens, model: ExactLM):
    """Bytes of a sender that keeps to the check and not to the format."""
    for known in formats(tokens, model):
        for body in (b"", b"\xff" * 5, b"\xff" * 200):
            check = packets._check(known, 0, body)
            packet = packets._HEAD.pack(0, check) + body
            assert receive([packet], known, T).packets == 0


@pytest.mark.parametrize(
    "other",
    [
        lambda known: replace(known, session=8),
        lambda known: replace(known, group_packets=2),
        lambda known: replace(known, tokens=replace(known.tokens, weights_sha256="b" * 64)),
    ],
)
def test_packets_of_another_session_or_format_are_refused(tokens: Tokens, other: Callable):
    known = PacketFormat(tokens.format, session=7)
    got = receive(send(tokens, known), other(known), T)
    assert got.lost.all()
    assert got.refused == 11


def test_numbers_begin_again(tokens: Tokens, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packets, "_NUMBERS", 16)
    long = tokens.format.tokens([np.tile(level, 7)[:200] for level in tokens.codes])
    known = PacketFormat(tokens.format)
    sent = send(long, known)
    got = receive(sent[:30] + sent[36:], known, 200)  # a hole that is shorter than half of all numbers
    assert_true_where_there(got, long)
    assert got.packets == len(sent) - 6


def test_packets_beyond_the_end_are_refused(tokens: Tokens):
    known = PacketFormat(tokens.format)
    got = receive(send(tokens, known), known, 12)
    assert got.lost.shape == (K, 12)
    assert (got.packets, got.refused) == (4, 7)


def test_overhead_is_header_and_parity(tokens: Tokens):
    def size(**settings) -> int:
        return sum(map(len, send(tokens, PacketFormat(tokens.format, **settings))))

    raw = 11 * 5  # 3 frames of 3 codebooks of 4 bits
    assert size(parity_codebooks=0) == raw + 11 * HEADER_BYTES
    assert size(parity_codebooks=1, after_packets=3) == raw + 11 * HEADER_BYTES + 8 * 2
    assert size(parity_codebooks=1, group_packets=2, after_packets=2) == raw + 11 * HEADER_BYTES + 4 * 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"packet_frames": 0}, "packet_frames=0"),
        ({"group_packets": 0}, "group_packets=0"),
        ({"after_packets": 1.5}, "after_packets=1.5"),
        ({"parity_codebooks": 4}, "parity_codebooks=4 exceeds 0..3"),
    ],
)
def test_settings_out_of_range_are_refused(tokens: Tokens, settings: dict, said: str):
    with pytest.raises(UnsupportedInput, match=said):
        PacketFormat(tokens.format, **settings)


def test_what_does_not_fit_is_refused(tokens: Tokens, model: ExactLM):
    with pytest.raises(UnsupportedInput, match="The model codes"):
        PacketFormat(tokens.leading(2).format, lm=model)
    with pytest.raises(UnsupportedInput, match="share no frames"):
        PacketFormat(replace(tokens.format, frame_rates_hz=(75.0, 75.0, 25.0)))
    with pytest.raises(UnsupportedInput, match="segments"):
        send(replace(tokens, segment_frames=(20, 12)), PacketFormat(tokens.format))
    with pytest.raises(UnsupportedInput, match="codebooks"):
        send(tokens.leading(2), PacketFormat(tokens.format))
