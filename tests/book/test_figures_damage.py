from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from codecbook.audio import Clip
from codecbook.book import figures
from codecbook.book.figures import damage
from codecbook.probes.corruption.damage import Heard
from codecbook.probes.corruption.targets import Read

NAN = float("nan")


def heard(target: str, outcome: str) -> Heard:
    wrong, lost = np.zeros((30, 2), dtype=bool), np.zeros(30, dtype=bool)
    wrong[10:, 1] = outcome == "silent"
    lost[:5] = outcome == "reported"
    cost = SimpleNamespace(target=target, outcome=outcome, position=0.3, bad_duration_s=0.3, duration_s=0.5)
    clean = Clip(np.zeros((1, 50), dtype=np.float32), 100)
    return Heard(cost, wrong, lost, clean, clean, Read())


def test_maps_of_wrong_tokens() -> None:
    recording = heard("mp3", "silent")
    recording = replace(recording, wrong=np.zeros((0, 0), dtype=bool), lost=np.zeros(0, dtype=bool), clip=None)
    drawn = damage.wrong_tokens({"raw": heard("raw", "silent"), "cbs": heard("cbs", "reported"), "mp3": recording})
    states = [axes.images[0].get_array() for axes in drawn.axes]
    assert len(states) == 2  # a recording has no tokens
    assert [(np.sum(state == 2), np.sum(state == 1)) for state in states] == [(20, 0), (0, 10)]
    assert "<figure" in figures.to_html(drawn, "alt", "caption")


def test_shares_of_outcomes_end_at_one() -> None:
    shares = {"unchanged": [0.5, 0.0], "refused": [0.0, 0.25], "reported": [0.5, 0.0], "silent": [0.0, 0.75]}
    drawn = damage.outcomes(pd.DataFrame({"target": ["cbs", "npq"], **shares}))
    bars = drawn.axes[0].patches
    assert len(bars) == 8
    assert max(bar.get_x() + bar.get_width() for bar in bars) == pytest.approx(1)
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["cbs", "npq"]


def test_where_damage_is_and_what_it_costs() -> None:
    costs = pd.DataFrame([vars(heard(name, "silent").cost) for name in ("raw", "cbs", "raw")])
    drawn = damage.bad_durations(costs, ["raw", "cbs"])
    assert [len(line.get_xdata()) for line in drawn.axes[0].lines] == [2, 1]
    assert drawn.axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.6, 0.6])


def test_curves_over_bit_errors() -> None:
    rows = [
        {"codec": codec, "bit_error_rate": rate, "clip": clip, "log_mel_distance_db": 100 * rate + clip / 10}
        for codec in ("rvq", "fsq") for rate in (0.0, 1e-3, 1e-2) for clip in range(3)
    ]  # fmt: skip
    drawn = damage.bit_errors(pd.DataFrame(rows))
    curve = drawn.axes[0].lines[0]
    assert curve.get_xdata().tolist() == [1e-3, 1e-2]  # 0 has no place on an axis of decades
    assert curve.get_ydata().tolist() == pytest.approx([0.2, 1.1])
