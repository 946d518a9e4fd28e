"""Clips as FLAC in memory and in data URIs."""

import base64
import io
from collections.abc import Iterable

import numpy as np
import soundfile

from codecbook.audio import Clip
from codecbook.errors import UnsupportedInput


def flac_bytes(clip: Clip, gain: float = 1.0) -> bytes:
    """Encode a clip as 16-bit FLAC.

    Args:
        clip: 1 to 8 channels; samples beyond full scale are clipped.
        gain: Factor before quantisation; `common_gain` gives one that prevents clipping.

    Raises:
        UnsupportedInput: No samples, or more channels than FLAC holds.
    """
    if clip.num_samples == 0 or not 1 <= clip.num_channels <= 8:
        raise UnsupportedInput(
            f"Clip {clip.name!r} has {clip.num_channels} channels and {clip.num_samples} samples; FLAC takes 1 to 8 "
            "channels and at least one sample. Leave it out, or mix it down."
        )
    buffer = io.BytesIO()
    samples = np.clip(clip.samples.T * np.float32(gain), -1.0, 1.0)
    soundfile.write(buffer, samples, clip.sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def flac_uri(clip: Clip, gain: float = 1.0) -> str:
    """Return a clip as a data URI that a player takes as its source."""
    return "data:audio/flac;base64," + base64.b64encode(flac_bytes(clip, gain)).decode()


def common_gain(clips: Iterable[Clip]) -> float:
    """Return the factor, at most 1, that keeps the loudest of the clips below full scale.

    One factor for all: clipping only the clip that overshoots, or turning down only that one, would be heard.
    """
    return 1.0 / max(1.0, *(float(np.abs(clip.samples).max(initial=0.0)) for clip in clips))
