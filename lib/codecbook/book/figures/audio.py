"""Pictures of clips: waveforms, alone or above their spectrogram."""

from collections.abc import Iterable, Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from codecbook.audio import Clip
from codecbook.book.figures.style import BLUE, RC, new_figure
from codecbook.errors import UnsupportedInput

_ENVELOPE_BINS = 600
_IMAGE_FRAMES = 420
_IMAGE_BINS = 160
_WINDOW_S = 0.032
_FLOOR_DB = -80.0  # drawn darkest


def waveforms(clips: Mapping[str, Clip]) -> Figure:
    """Draw clips below each other on a common time and amplitude axis (full scale = 1).

    Long clips are drawn as the envelope between lowest and highest sample of each pixel, so that a single wrong
    sample stays visible. Of several channels the first is drawn.
    """
    if not clips or not all(clip.num_samples for clip in clips.values()):
        raise UnsupportedInput(f"Of {list(clips)} some clip holds no samples, or there are none; leave it out.")
    longest_s = max(clip.duration_s for clip in clips.values())
    peak = max(1e-4, *(float(np.abs(clip.samples[0]).max()) for clip in clips.values()))
    with new_figure(7.2, 0.5 + 1.05 * len(clips)) as figure:
        panels = figure.subplots(len(clips), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (label, clip) in zip(panels, clips.items(), strict=True):
            _draw_waveform(axes, clip)
            axes.set(title=label, ylim=(-1.05 * peak, 1.05 * peak), xlim=(0, longest_s))
        panels[-1].set_xlabel("Time (s)")
        figure.supylabel("Amplitude (full scale = 1)", fontsize=RC["axes.labelsize"])
    return figure


def overview(clip: Clip, peak: float, reference: float) -> Figure:
    """Draw one clip's waveform above its spectrogram, small enough to stand beside a player.

    Common to the clips that are compared are `peak`, the amplitude at the edge of the waveform panel, and `reference`,
    the power that counts as 0 dB (`loudest_power`).
    """
    small = {"axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8}
    with new_figure(5.2, 2.0, **small) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.2))
        _draw_waveform(top, clip)
        top.set(ylim=(-1.05 * peak, 1.05 * peak), yticks=[])
        top.grid(visible=False)
        level_db = 10 * np.log10(np.maximum(_power(clip) / reference, 10 ** (_FLOOR_DB / 10)))
        bottom.grid(visible=False)
        bottom.imshow(
            level_db, origin="lower", aspect="auto", extent=(0, clip.duration_s, 0, clip.sample_rate_hz / 2000),
            vmin=_FLOOR_DB, vmax=0, cmap=mpl.colormaps["magma"].resampled(64),
            interpolation="none",  # hands the array itself to SVG, and the browser scales it
        )  # fmt: skip
        bottom.set(xlabel="Time (s)", ylabel="kHz", xlim=(0, clip.duration_s))
    return figure


def loudest_power(clips: Iterable[Clip]) -> float:
    """Return the power of the loudest bin over all clips' spectrograms, 1.0 for silence."""
    return max(float(_power(clip).max()) for clip in clips) or 1.0


def _draw_waveform(axes: Axes, clip: Clip) -> None:
    """Draw the first channel's envelope into `axes`."""
    samples = clip.samples[0]
    edges = np.linspace(0, len(samples), min(_ENVELOPE_BINS, len(samples)) + 1).astype(int)
    lowest = np.minimum.reduceat(samples, edges[:-1])
    highest = np.maximum.reduceat(samples, edges[:-1])
    times_s = edges[:-1] / clip.sample_rate_hz
    axes.fill_between(times_s, lowest, highest, color=BLUE, linewidth=0.6)


def _power(clip: Clip) -> np.ndarray:
    """Return the power spectrogram of the first channel, thinned to at most 160 x 420 cells."""
    length = max(16, round(_WINDOW_S * clip.sample_rate_hz))
    samples = clip.samples[0].astype(np.float64)
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    transform = ShortTimeFFT(hann(length, sym=False), hop=max(1, length // 4), fs=clip.sample_rate_hz)
    power = np.abs(transform.stft(samples)) ** 2
    return _thin(_thin(power, _IMAGE_FRAMES).T, _IMAGE_BINS).T


def _thin(power: np.ndarray, most: int) -> np.ndarray:
    """Reduce the last axis to at most `most` cells by the maximum, which keeps short events visible."""
    count = power.shape[-1]
    if count <= most:
        return power
    return np.maximum.reduceat(power, np.linspace(0, count, most, endpoint=False).astype(int), axis=-1)
