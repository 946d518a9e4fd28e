"""Resampling in integers: the same samples on every machine. ``docs/exact-codec.md`` defines it (Resampling).

A sinc below a Blackman-Harris window (Harris, On the use of windows for harmonic analysis, Proc. IEEE 66, 1978, table
1: four terms, 92 dB) of 96 periods of the lower rate on either side: up to 11/12 of that rate's half all passes, and
what would alias is 90 dB lower.
"""

import functools
import math
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs.exact import spec
from codecbook.errors import UnsupportedInput

_HALF_PERIODS, _NODES = 96, 512  # of the filter: on either side, and in each
_CUTOFF = 23, 24  # of half the lower rate
_FILTER_UNIT, _INPUT_UNIT = 22, 23
_INPUT_MAX = 8 << _INPUT_UNIT
_WINDOW = "0.35875", "0.48829", "0.14128", "0.01168"
_PI = "3.14159265358979323846264338327950288419716939937510582097494459"
_AT_ONCE = 1 << 21  # coefficients held, 16 MB


@functools.cache
def filter_nodes() -> np.ndarray:
    """Return half of the filter in 2^-22, int64, 512 nodes a period: as `spec.sine_nodes`, on no maths library."""
    last = _HALF_PERIODS * _NODES
    with localcontext() as context:
        context.prec = 60
        pi, terms = Decimal(_PI), [Decimal(term) for term in _WINDOW]
        cosine = Decimal(1) / 2  # of pi / 3, which is halved until `last` of it are pi
        for _ in range((last // 3).bit_length() - 1):
            cosine = ((1 + cosine) / 2).sqrt()
        cosines = [Decimal(1), cosine]
        while len(cosines) < 2 * last:
            cosines.append(2 * cosine * cosines[-1] - cosines[-2])
        top, bottom = _CUTOFF
        turn = top * last // (bottom * _NODES)  # from one node to the next, of the sinc's angle
        values = [Decimal(top) / bottom]
        for i in range(1, last + 1):
            sine = cosines[(last // 2 - turn * i) % (2 * last)]
            window = sum(term * cosines[n * i % (2 * last)] for n, term in enumerate(terms))
            values.append(sine * window * _NODES / (pi * i))
        return np.array([int((value * (1 << _FILTER_UNIT)).to_integral_value()) for value in values], dtype=np.int64)


class ExactResampler:
    """Resamples block by block, to the same samples as all at once; called as soxr's ``ResampleStream``.

    float64 holds every sum, in whatever order: the filter's integers add up to less than 2^24, and samples are below
    2^27.
    """

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        self._wide = max(self._up, self._down)
        self._back = -(-_HALF_PERIODS * self._wide // self._up)  # input samples on either side of an output's place
        self._taps = 2 * self._back + 2
        self._held = np.zeros((self._back, channels))  # zeros, as before a recording's beginning
        self._first = -self._back  # the input sample that `_held` begins with
        self._samples = self._done = 0  # of the input, of the output
        phases = np.arange(self._up)
        self._table = self._coefficients(phases) if self._up * self._taps <= _AT_ONCE else None

    def resample_chunk(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Return the float32 samples ``[S', C]`` that can be said once these ``[S, C]`` are there; all, at the `last`.

        Raises UnsupportedInput: a sample beyond 8, where 1 is full scale.
        """
        integers = np.floor(samples.astype(np.float64) * (1 << _INPUT_UNIT) + 0.5)
        peak = np.abs(integers).max(initial=0.0)
        if not peak <= _INPUT_MAX:
            raise UnsupportedInput(
                f"A sample is {peak / (1 << _INPUT_UNIT):g}, and exact codecs take samples up to 8, where 1 is full "
                "scale; divide the recording by its greatest sample."
            )
        self._samples += len(integers)
        silence = np.zeros((self._taps if last else 0, integers.shape[1]))
        self._held = np.concatenate([self._held, integers, silence])
        if last:
            end = max(1, (2 * self._samples * self._up + self._down) // (2 * self._down)) if self._samples else 0
        else:  # an output's last tap is `back + 1` after its place
            known = self._first + len(self._held) - self._back - 1
            end = max(self._done, -(-known * self._up // self._down))
        step = max(1, _AT_ONCE // self._taps)
        parts = [self._outputs(start, min(start + step, end)) for start in range(self._done, end, step)]
        self._done = end
        unused = self._done * self._down // self._up - self._back - self._first
        self._held, self._first = self._held[unused:], self._first + unused
        return np.concatenate(parts) if parts else np.zeros((0, integers.shape[1]), dtype=np.float32)

    def _outputs(self, start: int, end: int) -> np.ndarray:
        """Return float32 ``[end - start, C]``."""
        places, phases = np.divmod(np.arange(start, end) * self._down, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(self._held, self._taps, axis=0)
        taken = windows[places - self._back - self._first]  # [n, C, taps]
        rows = self._coefficients(phases) if self._table is None else self._table[phases]
        shift = _FILTER_UNIT + _INPUT_UNIT - spec.SAMPLE_UNIT
        sums = np.floor(np.einsum("ncj,nj->nc", taken, rows) * 2.0**-shift + 0.5)
        return (np.clip(sums, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX) * 2.0**-spec.SAMPLE_UNIT).astype(np.float32)

    def _coefficients(self, phases: np.ndarray) -> np.ndarray:
        """Return the filter's integers, float64 ``[n, taps]``, for outputs these parts of an input sample later."""
        nodes = filter_nodes()
        taps = np.arange(self._taps) - self._back
        distance = np.abs(phases[:, None] - taps * self._up) * _NODES
        place, rest = np.divmod(distance, self._wide)
        inside = place < len(nodes) - 1
        place = np.where(inside, place, 0)
        value = nodes[place] + (nodes[place + 1] - nodes[place]) * rest // self._wide
        scaled = (2 * value * self._up + self._wide) // (2 * self._wide)
        return np.where(inside, scaled, 0).astype(np.float64)


def convert(clip: Clip, sample_rate_hz: int, channels: int) -> Clip:
    """Return a clip as `codecbook.audio.convert` does, errors included, at a length that is rounded halves up."""
    clip = audio.convert(clip, channels=channels)
    if clip.sample_rate_hz == sample_rate_hz:
        return clip
    audio.check_rates(clip.sample_rate_hz, sample_rate_hz)
    resampler = ExactResampler(clip.sample_rate_hz, sample_rate_hz, channels)
    samples = np.ascontiguousarray(resampler.resample_chunk(clip.samples.T, last=True).T)
    return replace(clip, samples=samples, sample_rate_hz=sample_rate_hz)
