"""Takes: clips that a listener switches between, their files and their levels."""

import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile

from codecbook.audio import Clip, loudness_lufs
from codecbook.errors import UnsupportedInput

_LEVEL_MIN_S = 0.4  # one block of ITU-R BS.1770-4; the loudness of less is not defined


@dataclass(frozen=True)
class Take:
    """One clip of a player, and the choices that lead to it.

    ``Take({"codec": "encodec_24khz", "bitrate": "6 kbps"}, clip)`` stands beside ``Take({"codec": "original"}, clip)``:
    takes need not have the same selectors. A player offers the options of a selector that occur beside what is chosen
    in the selectors before it.
    """

    choice: Mapping[str, str]  # selector -> option, at least one
    clip: Clip
    note: str = ""  # one line that is shown while this take is heard
    detail: str = ""  # HTML made by our own code, shown likewise: never text from outside


Takes = Sequence[Take] | Mapping[str, Clip] | Mapping[str, Mapping[str, Clip]]


def as_takes(takes: Takes, selector: str = "version") -> list[Take]:
    """Return takes from `Take` objects, from clips by version, or from clips by version and recording.

    Versions are chosen by a selector of a name that is given.

    Raises:
        UnsupportedInput: No takes, one without a choice or samples, or two with the same choice.
    """
    if isinstance(takes, Mapping):
        takes = _from_table(
            {label: {"": row} if isinstance(row, Clip) else row for label, row in takes.items()}, selector
        )
    if not takes:
        raise UnsupportedInput("A player needs takes; received none.")
    for take in takes:
        if not take.choice or take.clip.num_samples == 0:
            raise UnsupportedInput(f"A take needs a choice and samples: {dict(take.choice)}, {take.clip.num_samples}.")
    choices = [tuple(sorted(take.choice.items())) for take in takes]
    if twice := [choice for choice in choices if choices.count(choice) > 1]:
        raise UnsupportedInput(f"Two takes are chosen by {dict(twice[0])}; add what tells them apart to their choices.")
    return list(takes)


def _from_table(versions: Mapping[str, Mapping[str, Clip]], selector: str) -> list[Take]:
    """Return the takes of all recordings, one recording after the other; one without a name is no choice."""
    recordings = dict.fromkeys(name for row in versions.values() for name in row)
    return [
        Take(({"recording": name} if name else {}) | {selector: version}, row[name])
        for name in recordings
        for version, row in versions.items()
        if name in row
    ]


@dataclass(frozen=True)
class Level:
    """What level matching does to a clip."""

    gain_db: float | None  # None where the loudness cannot be measured; nothing is changed then
    text: str  # the loudness, or why there is none


@dataclass
class Media:
    """The files of a widget: each clip once, by a key of its content."""

    gain: float  # one factor for all
    files: dict[str, bytes] = field(default_factory=dict)  # FLAC by key

    def add(self, clip: Clip) -> str:
        """Keep a clip, and return its key."""
        data = flac_bytes(clip, self.gain)
        key = hashlib.sha256(data).hexdigest()[:16]
        self.files[key] = data
        return key


def levels(clips: Sequence[Clip], anchor: int = 0) -> list[Level]:
    """Return the gains that bring clips to the loudness of one of them (ITU-R BS.1770-4, integrated).

    All are turned down together as far as the loudest peak needs it to stay below full scale. Clips shorter than one
    block of 0.4 s, and silent ones, keep their level and say why; where the anchor is one of these, the first clip that
    can be measured takes its place.
    """
    measured = [_loudness(clip) for clip in clips]
    known = [value for value in (measured[anchor], *measured) if isinstance(value, float)]
    gains = [known[0] - value if isinstance(value, float) else 0.0 for value in measured]
    peaks_db = [20 * math.log10(max(clip.peak, 1e-6)) for clip in clips]
    headroom_db = min(0.0, *(-peak - gain for peak, gain in zip(peaks_db, gains, strict=True)))
    return [
        Level(None, value)
        if isinstance(value, str)
        else Level(round(gain + headroom_db, 2), f"{value:.1f} LUFS".replace("-", "\u2212"))
        for gain, value in zip(gains, measured, strict=True)
    ]


def _loudness(clip: Clip) -> float | str:
    if clip.duration_s < _LEVEL_MIN_S:
        return f"shorter than {_LEVEL_MIN_S} s"
    if clip.num_channels > 5:
        return "more than 5 channels"
    loudness = loudness_lufs(clip)
    return loudness if math.isfinite(loudness) else "silent"


def flac_bytes(clip: Clip, gain: float = 1.0) -> bytes:
    """Encode a clip as 16-bit FLAC; samples that `gain` leaves beyond full scale are clipped."""
    if clip.num_samples == 0 or not 1 <= clip.num_channels <= 8:
        raise UnsupportedInput(
            f"FLAC takes 1 to 8 channels; clip {clip.name!r} has {clip.num_channels}, of {clip.num_samples} samples."
        )
    buffer = io.BytesIO()
    samples = np.clip(clip.samples.T * np.float32(gain), -1.0, 1.0)
    soundfile.write(buffer, samples, clip.sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def common_gain(clips: Iterable[Clip]) -> float:
    """Return the factor, at most 1, that keeps the loudest of the clips below full scale.

    One factor for all: clipping only the clip that overshoots, or turning down only that one, would be heard.
    """
    return 1.0 / max(1.0, *(clip.peak for clip in clips))


def timeline(clips: Sequence[Clip]) -> dict[str, Any]:
    """Return what a script must know of clips that share one clock: rate, duration and peak."""
    peak = max(1e-4, *(float(np.abs(clip.samples[0]).max(initial=0.0)) for clip in clips)) * common_gain(clips)
    return {
        "rate": max(clip.sample_rate_hz for clip in clips),
        "seconds": max(clip.duration_s for clip in clips),
        "peak": peak,
    }
