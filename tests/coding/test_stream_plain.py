"""docs/stream-format.md and docs/exact-lm.md are complete: a decoder made from them alone reads all streams."""

import zlib
from binascii import crc_hqx

import plain_decoder
import pytest
import stream_cases as cases

from codecbook.coding import inspect
from codecbook.coding.stream import StreamReader, encode_tokens
from codecbook.coding.stream.header import Parity
from codecbook.errors import CorruptInput
from codecbook.lm.exact.files import save_exact


@pytest.mark.parametrize("kind", cases.KINDS)
def test_raw_streams_of_every_kind(kind):
    tokens = cases.KINDS[kind]
    header, codes, frames, scales = plain_decoder.decode(cases.encoded(tokens, segment_s=0.5))
    assert codes == [level.tolist() for level in tokens.codes]
    assert (tuple(frames), tuple(scales)) == (tokens.segment_frames, tokens.scales)
    assert header["codec"] == tokens.codec
    assert header["sizes"] == list(tokens.codebook_sizes)
    assert header["rates"] == list(tokens.frame_rates_hz)
    assert header["num_samples"] == (2**40 - 1 if tokens.num_samples is None else tokens.num_samples)


def test_streams_of_exact_codecs():
    tokens = cases.parallel(9)
    data = encode_tokens(tokens, exact_sha256="ab" * 32, audio_sha256="cd" * 32)
    header, codes, _, _ = plain_decoder.decode(data)
    assert codes == [level.tolist() for level in tokens.codes]
    assert (header["exact_sha256"], header["audio_sha256"]) == (b"\xab" * 6, b"\xcd" * 16)


@pytest.mark.parametrize("parity", [Parity(10, 1), Parity(3, 2, 2), Parity(2, 3, 5)])
@pytest.mark.parametrize("segment_s", [0.1, 0.5, 9.0])
def test_streams_with_parity(parity, segment_s):
    tokens = cases.parallel(230, sizes=(16, 1000))
    header, codes, _, _ = plain_decoder.decode(encode_tokens(tokens, segment_s=segment_s, parity=parity))
    assert codes == [level.tolist() for level in tokens.codes]
    assert header["parity"] == [parity.count, parity.parity, parity.groups]


@pytest.mark.parametrize("adapt_step", [0, 222])
@pytest.mark.parametrize(
    ("tokens", "model"),
    [
        (cases.parallel(30), cases.exact_model),
        (cases.tree(6, size=16), lambda: cases.exact_model(5, codebooks=7)),
        (cases.parallel(20, sizes=(16,)), cases.rotary_model),
        (cases.parallel(3, sizes=(65_536,)), lambda: cases.exact_model(6, codebooks=2, size=256)),
    ],
    ids=["frames", "tree", "rotary", "bytes"],
)
def test_streams_behind_a_language_model(tokens, model, adapt_step, tmp_path):
    save_exact(tmp_path / "lm", model())
    data = cases.encoded(tokens, model(), 0.4, adapt_step)
    _, codes, _, _ = plain_decoder.decode(data, plain_decoder.PlainLM(tmp_path / "lm"))
    assert codes == [level.tolist() for level in tokens.codes]


def with_other_end(data: bytes) -> bytes:
    """Add 1 to the last byte of a stream of one segment, and compute every checksum anew.

    The coder's last interval often has room for this: the codes stay what they were.
    """
    report = inspect(data)
    ((start, end, _),), stream_id = report.segments, report.header.stream_id
    place = end - report.payload_bytes
    payload = bytearray(data[place:end])
    payload[-1] += 1
    head = data[start : place - 6] + zlib.crc32(payload).to_bytes(4, "little")
    return data[:start] + head + crc_hqx(stream_id + head, 0).to_bytes(2, "little") + payload + data[end:]


def test_codes_have_one_payload_for_both_decoders(tmp_path, monkeypatch):
    model = cases.exact_model()
    save_exact(tmp_path / "lm", model)
    plain_lm = plain_decoder.PlainLM(tmp_path / "lm")
    tokens = cases.parallel(4)
    altered = with_other_end(cases.encoded(tokens, model))
    with pytest.raises(plain_decoder.Refused, match="end of the payload"):
        plain_decoder.decode(altered, plain_lm)
    with pytest.raises(CorruptInput), StreamReader(altered, model) as reader:
        reader.read()
    with StreamReader(altered, model) as reader:
        (damage,) = reader.segments()
    assert damage.kind == "coder"
    assert "computes otherwise here, or this coder did not write them" in str(damage)
    # nothing else is wrong with it
    check = plain_decoder.check
    monkeypatch.setattr(plain_decoder, "check", lambda good, what: what == "end of the payload" or check(good, what))
    assert plain_decoder.decode(altered, plain_lm)[1] == [level.tolist() for level in tokens.codes]


def test_it_checks_what_it_reads():
    data = bytearray(cases.encoded(cases.parallel(50)))
    data[150] ^= 1
    with pytest.raises(plain_decoder.Refused):
        plain_decoder.decode(bytes(data))
