import io

import numpy as np
import pytest

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.coding.ecdc_raw import pack_codes, packed_bytes, unpack_codes
from codecbook.errors import CorruptInput, UnsupportedInput


def package_pack(codes: np.ndarray, bits: int) -> bytes:
    from encodec.binary import BitPacker

    file = io.BytesIO()
    packer = BitPacker(bits, file)
    for value in codes.T.ravel().tolist():
        packer.push(value)
    packer.flush()
    return file.getvalue()


@pytest.mark.parametrize("bits", [1, 3, 4, 8, 10, 16, 32])
@pytest.mark.parametrize(("K", "T"), [(1, 1), (3, 7), (8, 75), (2, 0)])
def test_equals_the_package(bits: int, K: int, T: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, size=(K, T))
    data = pack_codes(codes, bits)
    assert data == package_pack(codes, bits)
    assert len(data) == packed_bytes(K * T, bits)
    np.testing.assert_array_equal(unpack_codes(data, K, T, bits), codes)


def test_literal_bytes() -> None:
    # 1, 1023, 512 of 10 bits, the first in the lowest bits
    assert pack_codes(np.array([[1, 512], [1023, 0]]), 10) == bytes([0x01, 0xFC, 0x0F, 0x20, 0x00])


@pytest.mark.parametrize("codes", [np.array([[1024]]), np.array([[-1]])])
def test_codes_out_of_range(codes: np.ndarray) -> None:
    with pytest.raises(CorruptInput, match=r"outside 0\.\.1023"):
        pack_codes(codes, 10)


def test_other_inputs() -> None:
    with pytest.raises(UnsupportedInput, match="float64"):
        pack_codes(np.zeros((1, 1)), 10)
    with pytest.raises(UnsupportedInput, match="bits=0"):
        unpack_codes(b"", 1, 0, 0)
    with pytest.raises(CorruptInput, match="take 2 bytes; the stream has 3"):
        unpack_codes(b"abc", 1, 1, 10)
    with pytest.raises(CorruptInput, match="not zero"):
        unpack_codes(b"\x00\x04", 1, 1, 10)
