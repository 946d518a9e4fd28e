"""Resampling in integers: against loops written from ``docs/exact-codec.md``, block by block, and by ear's measures."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import soundfile

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.exact.resample import ExactResampler, convert, filter_nodes
from codecbook.codecs.exact.rounding import calibration_signal
from codecbook.coding import compress, compress_file
from codecbook.errors import UnsupportedInput


@functools.cache
def F(i: int) -> int:  # noqa: N802 (name of the text)
    """A node of the filter, by another library's functions."""
    with mpmath.workdps(40):
        u, pi = mpmath.mpf(i) / 512, mpmath.pi
        v = u / 96
        w = mpmath.mpf("0.35875") + sum(
            mpmath.mpf(a) * mpmath.cos(n * pi * v) for n, a in enumerate(("0.48829", "0.14128", "0.01168"), 1)
        )
        value = w * mpmath.sin(pi * u * 23 / 24) / (pi * u) if i else mpmath.mpf(23) / 24
        return int(mpmath.nint(2**22 * value))


def plain(x: list[int], from_hz: int, to_hz: int) -> list[int]:
    """Resample integers of unit 23, as the text says."""
    divisor = int(np.gcd(from_hz, to_hz))
    U, D = to_hz // divisor, from_hz // divisor
    W, out = max(U, D), []
    for t in range(max(1, (2 * len(x) * U + D) // (2 * D))):
        total = 0
        for n, sample in enumerate(x):
            a = 512 * abs(t * D - n * U)
            i = a // W
            if i < 49152:
                V = F(i) + ((F(i + 1) - F(i)) * (a - i * W)) // W
                total += sample * ((2 * V * U + W) // (2 * W))
        out.append(max(-(2**23) + 1, min(2**23 - 1, (total + 2**24) >> 25)))
    return out


def noise(num_samples: int, channels: int = 1) -> np.ndarray:
    """Float32 ``[C, S]`` on the grid of 24-bit files."""
    return (calibration_signal(num_samples, channels) * 2.0**-21).astype(np.float32)


def test_nodes_are_those_of_the_text() -> None:
    nodes = filter_nodes()
    assert len(nodes) == 49153
    assert nodes[-1] == 0
    for i in (0, 1, 2, 511, 512, 513, 5000, 24576, 49151, 49152, *range(700, 49000, 997)):
        assert nodes[i] == F(i)


@pytest.mark.parametrize("rates", [(44_100, 24_000), (16_000, 24_000), (48_000, 24_000), (24_001, 24_000), (8, 1)])
@pytest.mark.parametrize("num_samples", [1, 130])
def test_loops_written_from_the_text_give_the_same(rates: tuple[int, int], num_samples: int) -> None:
    x = noise(300)[:, 300 - num_samples :] if num_samples == 1 else noise(num_samples)
    expected = plain([round(float(v) * 2**23) for v in x[0]], *rates)
    resampled = convert(Clip(x, rates[0]), rates[1], 1)
    assert resampled.sample_rate_hz == rates[1]
    np.testing.assert_array_equal(resampled.samples[0].astype(np.float64) * 2**20, expected)


@pytest.mark.parametrize(
    ("rates", "digest"),
    [
        ((44_100, 24_000), "f35f20044a3710f7"),
        ((16_000, 24_000), "05f54645e16ec18b"),
        ((44_101, 16_000), "7a8349307ae9fecf"),
    ],
)
def test_samples_are_the_same_on_every_machine(rates: tuple[int, int], digest: str) -> None:
    samples = convert(Clip(noise(20_000, 2), rates[0]), rates[1], 2).samples
    integers = (samples.astype(np.float64) * 2**20).astype("<i4")
    assert hashlib.sha256(integers.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("rates", [(44_100, 24_000), (8_000, 48_000), (47_999, 24_000)])
def test_blocks_give_what_all_at_once_gives(rates: tuple[int, int]) -> None:
    x = noise(9_000, 2).T
    whole = ExactResampler(*rates, 2).resample_chunk(x, last=True)
    resampler, parts, start = ExactResampler(*rates, 2), [], 0
    for length in (0, 1, 3_000, 2, 5, 4_000):
        parts.append(resampler.resample_chunk(x[start : start + length]))
        start += length
    parts += [resampler.resample_chunk(x[start:]), resampler.resample_chunk(x[:0], last=True)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("rates", [(44_100, 24_000), (16_000, 24_000), (96_000, 16_000), (44_101, 24_000)])
def test_tones_stay_and_what_the_lower_rate_cannot_hold_goes(rates: tuple[int, int]) -> None:
    def level_db(x: np.ndarray) -> float:
        return 10 * np.log10(np.mean(x[500:-500] ** 2) / 0.125)

    from_hz, to_hz = rates
    time = np.arange(from_hz) / from_hz
    for hz in (440.0, 11 / 12 * min(rates) / 2):
        tone = (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)
        out = convert(Clip(tone[None], from_hz), to_hz, 1).samples[0]
        assert len(out) == to_hz
        assert level_db(out - 0.5 * np.sin(2 * np.pi * hz * np.arange(to_hz) / to_hz)) < -100
    if to_hz < from_hz:
        tone = (0.5 * np.sin(2 * np.pi * 1.005 * to_hz / 2 * time)).astype(np.float32)
        assert level_db(convert(Clip(tone[None], from_hz), to_hz, 1).samples[0]) < -90


def test_sums_stay_within_what_the_text_promises() -> None:
    for rates in ((44_100, 24_000), (24_001, 24_000), (256, 1), (1, 256)):
        resampler: Any = ExactResampler(*rates, 1)
        phases = np.arange(min(rates[1] // np.gcd(*rates), 500))
        assert np.abs(resampler._coefficients(phases)).sum(axis=1).max() < 2**24


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match=r"A sample is 8\.5, and exact codecs take samples up to 8"):
        convert(Clip(np.full((1, 10), 8.5, dtype=np.float32), 16_000), 24_000, 1)
    with pytest.raises(UnsupportedInput, match="more than a factor of 256"):
        convert(Clip(np.zeros((1, 10), dtype=np.float32), 10), 24_000, 1)


def test_a_file_at_another_rate_has_one_stream(tmp_path: Path) -> None:
    """By clip, by path, and piece by piece; in the float codec's samples it would be another one."""
    codec = load_codec("fsq_50hz", exact=True)
    x = noise(1_100_000)  # longer than what is read at once
    soundfile.write(tmp_path / "a.wav", x[0], 44_100, "PCM_24")
    compress_file(tmp_path / "a.wav", tmp_path / "a.cbs", codec, lm=None)
    data = (tmp_path / "a.cbs").read_bytes()
    assert data == compress(tmp_path / "a.wav", codec, lm=None) == compress(x, codec, lm=None, sample_rate_hz=44_100)
    assert codec.encode(tmp_path / "a.wav") == codec.encode(codec.convert(Clip(x, 44_100)))
