"""Pictures of clips: waveforms."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codecbook.audio import Clip
from codecbook.book.figures.style import BLUE, RC, new_figure
from codecbook.errors import UnsupportedInput

_ENVELOPE_BINS = 600


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


def _draw_waveform(axes: Axes, clip: Clip) -> None:
    """Draw the first channel's envelope into `axes`."""
    samples = clip.samples[0]
    edges = np.linspace(0, len(samples), min(_ENVELOPE_BINS, len(samples)) + 1).astype(int)
    lowest = np.minimum.reduceat(samples, edges[:-1])
    highest = np.maximum.reduceat(samples, edges[:-1])
    times_s = edges[:-1] / clip.sample_rate_hz
    axes.fill_between(times_s, lowest, highest, color=BLUE, linewidth=0.6)
