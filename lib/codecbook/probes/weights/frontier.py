"""Bits per weight against what they change: every scheme on one table, and the fewest bits that keep a promise.

A point of the table is a real ``.cbw`` file: written, read back, and measured as whoever loads it would find it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.lm.model_files import LoadedLM
from codecbook.probes.weights import gates
from codecbook.probes.weights.container import Choice, Model, account, bits_per_weight, compress
from codecbook.probes.weights.loading import load_lm
from codecbook.probes.weights.moments import Moments, by_name
from codecbook.probes.weights.tensors import CODEBOOKS
from codecbook.tokens import Tokens

Choose = Callable[[str, str], Choice]
# found by trial: codebooks, four times as many, take larger steps than the encoder
_ENCODER_SHARE = 0.7
_TOKEN_DAMPING, _SOUND_DAMPING = (0.001, 0.01), (0.1, 0.1)
_COARSE, _COARSE_DAMPING, _FINE_DAMPING = 3e-4, (10.0, 1.0), (0.1, 0.1)  # of language models, by their step
SOUND_STEP = 0.005  # of a decoder, at which it loses less than 0.01 dB of speech and music


def one_scheme(scheme: str, moments: Mapping[str, Moments] | None = None, **options: Any) -> Choose:
    """Store every matrix by one scheme, with the moments of its columns where there are any."""

    def choose(name: str, _role: str) -> Choice:
        found = (moments or {}).get(name)
        grams = {} if found is None or found.columns.ndim != 2 else {"gram": found.columns}
        return Choice(scheme, {**grams, **options})

    return choose


def spent_by_loss(moments: Mapping[str, Moments], step: float, sound_step: float | None = SOUND_STEP) -> Choose:
    """Store all matrices with steps by what they matter: ``uniform`` where moments are known, else ``predicted``.

    Args:
        moments: Of `codecbook.probes.weights.moments`.
        step: Of what decides tokens: a codec's encoder and codebooks, or a language model. 0 loses nothing of them.
        sound_step: Of a codec's decoder, on which no token depends; None for language models.
    """

    def choose(name: str, _role: str) -> Choice:
        options = by_name(moments, name)
        if sound_step is None:
            own, damping = step, _COARSE_DAMPING if step >= _COARSE else _FINE_DAMPING
        elif name.startswith("decoder."):
            own, damping = sound_step, _SOUND_DAMPING
        else:
            own, damping = step * (1.0 if name == CODEBOOKS else _ENCODER_SHARE), _TOKEN_DAMPING
        return Choice("uniform", {"step": own, "damping": damping, **options}) if options and own > 0 else Choice()

    return choose


@dataclass
class CodecBench:
    """A codec and clips that it was not calibrated on; what any compressed form of it changes."""

    codec: Codec
    folder: Path
    clips: Sequence[Clip]
    artifacts: Path  # where the files go
    model: Model = field(init=False)

    def __post_init__(self) -> None:
        self.model = Model.of_codec(self.codec, self.folder)

    @cached_property
    def tokens(self) -> list[Tokens]:
        """What the codec as it is makes of the clips."""
        return [self.codec.encode(clip) for clip in self.clips]

    @cached_property
    def quality(self) -> pd.DataFrame:
        """How the codec as it is decodes them."""
        return gates.quality(self.codec, self.clips, self.tokens)

    def write(self, name: str, choose: Choose) -> Path:
        """Compress, and return the file."""
        path = self.artifacts / f"{name}.cbw"
        compress(self.model, choose, path, overwrite=True)
        return path

    def measure(self, name: str, choose: Choose, sound: bool = True) -> dict[str, Any]:
        """Return a row of the frontier: bits per weight of the whole file, and what changes."""
        path = self.write(name, choose)
        compressed = load_codec(self.codec.name, weights=path)
        found = [compressed.encode(clip) for clip in self.clips]
        wrong, total = gates.changed_tokens(self.tokens, found)
        row: dict[str, Any] = {
            "scheme": name, "bits_per_weight": bits_per_weight(path), "tokens": total, "changed": wrong,
            **gates.token_match(self.tokens, found, 8).columns("match_8"),
            **gates.token_match(self.tokens, found).columns("match_all"),
            "mismatch_bytes": path.stat().st_size - int(account(path).bytes.sum()),
        }  # fmt: skip
        if sound:
            after = gates.quality(compressed, self.clips, self.tokens)
            for measure, change in gates.quality_change(self.quality, after).items():
                row |= change.columns(measure)
        return row


@dataclass
class LmBench:
    """A language model and clips of codes that it was neither trained nor calibrated on."""

    loaded: LoadedLM
    folder: Path
    clips: Sequence[np.ndarray]
    artifacts: Path
    model: Model = field(init=False)

    def __post_init__(self) -> None:
        self.model = Model.of_lm(self.loaded, self.folder)

    @cached_property
    def before(self) -> gates.Predictions:
        """What the model as it is says of the clips."""
        return gates.predictions(self.loaded.model, self.clips)

    def measure(self, name: str, choose: Choose) -> dict[str, Any]:
        """Return a row of the frontier."""
        path = self.artifacts / f"lm_{name}.cbw"
        compress(self.model, choose, path, overwrite=True)
        after = gates.predictions(load_lm(path), self.clips)
        whole, windows = self.before.whole_windows(after)
        return {
            "scheme": name, "bits_per_weight": bits_per_weight(path), "tokens": int(self.before.tokens.sum()),
            **self.before.change_percent(after).columns("bits_percent"),
            **self.before.match(after).columns("argmax_match"),
            "whole_windows": whole / windows if windows else float("nan"),
            "mismatch_bytes": path.stat().st_size - int(account(path).bytes.sum()),
        }  # fmt: skip


def least(kept: pd.DataFrame) -> float:
    """Return the least bits per weight of the rows that keep a promise, NaN where none does."""
    return float(kept.bits_per_weight.min()) if len(kept) else float("nan")


def dominated(table: pd.DataFrame, better: pd.DataFrame, measure: str) -> list[bool]:
    """Say of each row whether another table has one of fewer bits per weight that keeps at least as much."""
    return [
        bool(((better.bits_per_weight <= bits) & (better[measure] >= kept)).any())
        for bits, kept in zip(table.bits_per_weight, table[measure], strict=True)
    ]
