import json
import struct

import pytest

from codecbook.coding.counts import GRID_DIALECTS
from codecbook.coding.ecdc.header import EcdcHeader, dialect_of, read_ecdc_header, write_ecdc_header
from codecbook.errors import CorruptInput, UnsupportedInput

GOOD = {"m": "encodec_24khz", "al": 48000, "nc": 4, "lm": True, "fp": 65536, "mr": 1, "acv": 4, "tau": 1.0}


def stream(values: object, version: int = 0) -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack(">4sBI", b"ECDC", version, len(text)) + text


def test_headers_are_those_of_the_writers() -> None:
    upstream = EcdcHeader("encodec_24khz", 48000, 4, uses_lm=False)
    text = b'{"m": "encodec_24khz", "al": 48000, "nc": 4, "lm": false}'
    assert write_ecdc_header(upstream) == b"ECDC\0" + struct.pack(">I", len(text)) + text
    grid = EcdcHeader("encodec_24khz", 48000, 4, True, 65536, 1, 4, 1.0)
    assert write_ecdc_header(grid) == stream(GOOD)
    for header in (upstream, grid):
        data = write_ecdc_header(header)
        assert read_ecdc_header(data + b"body") == (header, len(data))
    assert (upstream.coding, grid.coding, grid.is_chunked) == ("raw", "grid", True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lmh": "ab" * 32}, UnsupportedInput, "encodec-rs"),
        ({"cs": 1, "acv": 1}, UnsupportedInput, "encodec-rs"),
        ({"cst": 1, "acv": 2}, UnsupportedInput, "encodec-rs"),
        ({"fl": 150, "acv": 5}, UnsupportedInput, "encodec-rs"),
        ({"acv": 5}, UnsupportedInput, "acv = 5"),
        ({"other": 1}, UnsupportedInput, "unknown keys"),
        ({"acv": 0}, CorruptInput, "contradicts itself"),
        ({"acv": True}, CorruptInput, "acv = True"),
        ({"lm": False}, CorruptInput, "contradicts itself"),
        ({"lm": 1}, CorruptInput, "lm = '1'"),
        ({"m": 7}, CorruptInput, "m = '7'"),
        ({"al": 0}, CorruptInput, "al = 0"),
        ({"al": -1}, CorruptInput, "al = -1"),
        ({"al": 1.5}, CorruptInput, "al = 1.5"),
        ({"al": 1 << 60}, CorruptInput, "al = "),
        ({"nc": 0}, CorruptInput, "nc = 0"),
        ({"nc": "4"}, CorruptInput, "nc = 4"),
        ({"fp": 0}, CorruptInput, "fp = 0"),
        ({"mr": 0}, CorruptInput, "mr = 0"),
        ({"tau": 0}, CorruptInput, "tau = 0"),
        ({"tau": "1"}, CorruptInput, "tau = 1"),
        ({"tau": float("nan")}, CorruptInput, "JSON"),
    ],
)
def test_bad_values(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_ecdc_header(stream(GOOD | change))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", CorruptInput, "ends after 0 bytes"),
        (b"ECD", CorruptInput, "ends after 3 bytes"),
        (b"ECDX" + stream(GOOD)[4:], UnsupportedInput, "begins with b'ECDX'"),
        (b"RIFF", UnsupportedInput, "begins with"),
        (stream(GOOD, version=1), UnsupportedInput, "version 1"),
        (stream(GOOD)[:-1], CorruptInput, "claims"),
        (struct.pack(">4sBI", b"ECDC", 0, 2**32 - 1) + b"{}", CorruptInput, "claims 4294967295"),
        (stream(b"\xff\xfe"), CorruptInput, "JSON"),
        (stream(b"[" * 60000), CorruptInput, "JSON"),
        (stream(b"9" * 60000), CorruptInput, "JSON"),
        (stream([1]), CorruptInput, "no JSON object"),
        (stream({"m": "a", "al": 1}), CorruptInput, "lacks nc, lm"),
    ],
)
def test_bad_bytes(data: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_ecdc_header(data)


def test_a_model_without_a_name_is_not_written() -> None:
    with pytest.raises(UnsupportedInput, match="'unset'"):
        write_ecdc_header(EcdcHeader("unset", 1, 1, False))


def test_fp_tells_the_dialect() -> None:
    for dialect in GRID_DIALECTS.values():
        header = EcdcHeader("m", 1, 1, True, dialect.fp_scale, dialect.min_range, 4, 1.0)
        assert dialect_of(header) == dialect
    strange = EcdcHeader("m", 1, 1, True, 4096, 3, 4, 0.5)
    with pytest.raises(UnsupportedInput, match="fp = 4096 is of no known dialect"):
        dialect_of(strange)
    told = dialect_of(strange, qstep=0.25, lm_dtype="float64")
    assert (told.qstep, told.fp_scale, told.min_range, told.lm_dtype, told.tau) == (0.25, 4096, 3, "float64", 0.5)


def test_environment_fills_in_what_the_header_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "ENCODEC_LOGIT_QSTEP": "1/32",
        "ENCODEC_DETERMINISTIC_LM_DTYPE": "FP64",
        "ENCODEC_AC_FP_SCALE": "1024",
        "ENCODEC_AC_MIN_RANGE": "7",
        "ENCODEC_LM_TAU": "0.5",
        "ENCODEC_USE_NEAR_UNIFORM": "0",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    full = dialect_of(EcdcHeader("m", 1, 1, True, 65536, 1, 4, 1.0))
    assert (full.qstep, full.lm_dtype, full.fp_scale, full.min_range, full.tau) == (1 / 32, "float64", 65536, 1, 1.0)
    early = dialect_of(EcdcHeader("m", 1, 1, True, acv=4), qstep=0.125)
    assert (early.qstep, early.fp_scale, early.min_range, early.tau) == (0.125, 1024, 7, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENCODEC_LOGIT_QSTEP", "1/0"),
        ("ENCODEC_LOGIT_QSTEP", "fine"),
        ("ENCODEC_DETERMINISTIC_LM_DTYPE", "bfloat16"),
        ("ENCODEC_USE_NEAR_UNIFORM", "yes"),
    ],
)
def test_bad_environment(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UnsupportedInput, match=name):
        dialect_of(EcdcHeader("m", 1, 1, True, 65536, 1, 4, 1.0))
