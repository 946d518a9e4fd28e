"""The claims of `01b_drift_passport`, judged of planted tables: each can fail."""

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from codecbook.measure import drift
from codecbook.measure.statistics import mean_interval

ROOT = Path(__file__).resolve().parents[2]
CODECS, CLIPS = ("encodec_24khz", "fsq_50hz"), ("a", "b", "c", "d")
LEARNED = {"speaker_similarity": ("other", 0.6, 1.0), "word_error_rate": ("shuffled", 0.9, 0.0),
           "f0_error_cents": ("faster", 110.0, 0.0), "visqol_mos": ("noise", 1.5, 4.0),
           "plcmos_mos": ("lost", 2.0, 4.0), "dnsmos_mos": ("noise", 1.5, 3.0)}  # fmt: skip


class Judge:
    """Takes the place of a run."""

    def __init__(self) -> None:
        self.holds: dict[str, bool | None] = {}

    def claim(self, text: str, holds: Any, figure: Any, basis: str = "data") -> None:
        assert str(figure)
        assert basis in ("data", "construction", "machine")
        self.holds[text] = None if holds is None else bool(holds)

    def of(self, part: str) -> bool | None:
        (found,) = [holds for text, holds in self.holds.items() if part in text]
        return found


def opinions(lost_dnsmos: float = 2.9, bad: float = 1.0) -> pd.DataFrame:
    """Return what learned measures gave; with `bad` 0, what must be rejected is like the good."""
    rows = []
    for i, clip in enumerate(CLIPS):
        for column, (what, wrong, right) in LEARNED.items():
            rows.append({"what": "original", "clip": clip, column: right + 0.01 * i})
            rows.append({"what": f"stand-in: {what}", "clip": clip, column: right + bad * (wrong - right) - 0.01 * i})
        rows.append({"what": "stand-in: lost", "clip": clip, "dnsmos_mos": lost_dnsmos})
    return pd.DataFrame(rows)


def good() -> dict[str, Any]:
    pairs = [(codec, i, clip) for codec in CODECS for i, clip in enumerate(CLIPS)]
    drifted = [{"codec": codec, "clip": clip, "times": times, "kept_share": 0.5 - 0.03 * times + 0.01 * i,
                "first_codebook_kept_share": 0.8 - 0.01 * i}
               for codec, i, clip in pairs for times in (1, 10)]  # fmt: skip
    still = [{"codec": codec, "clip": clip, "shift_changed_share": 0.5 + 0.01 * i, "noise_changed_share": 0.02,
              "chunk_changed_share": 0.0, "batch_changed_share": 0.0} for codec, i, clip in pairs]  # fmt: skip
    pcm = [{"codec": "PCM", "clip": clip, "bits": bits, "si_sdr_db": 6.02 * bits - 2 + 0.01 * i}
           for i, clip in enumerate(CLIPS) for bits in (4, 8, 10, 12)]  # fmt: skip
    points = [{"codec": CODECS[0], "clip": clip, "kbps": 2.0**k, "log_mel_8khz_distance_db": 6.0 - k}
              for clip in CLIPS for k in range(4)]  # fmt: skip
    sizes = [{"codec": codec, "file": kind, "bytes": size, "code_bytes": 1000.0, "duration_s": 7.0}
             for codec in CODECS for kind, size in (("NPQ", 1600), ("stream, raw", 1300))]  # fmt: skip
    return {
        "drifted": pd.DataFrame(drifted), "still": pd.DataFrame(still), "pcm": pd.DataFrame(pcm),
        "points": pd.DataFrame(points), "sizes": pd.DataFrame(sizes), "opinions": opinions(),
        "lags": pd.DataFrame({"gain_db": [0.0, 3.0], "si_sdr_db": [5.0, -9.0]}, index=list(CODECS)),
        "available": ["speaker", "words", "pitch", "visqol", "plcmos", "dnsmos"],
    }  # fmt: skip


def judged(given: dict[str, Any]) -> Judge:
    notebook = nbformat.read(ROOT / "notebooks" / "01b_drift_passport.ipynb", as_version=4)
    run = Judge()
    namespace = {"np": np, "pd": pd, "drift": drift, "mean_interval": mean_interval, "times": [1, 10],
                 "sounds": dict.fromkeys(CODECS), "against": CODECS[0], "run": run,
                 "once": given["drifted"][given["drifted"].times == 1], **given}  # fmt: skip
    for cell in notebook.cells:
        if cell.cell_type == "code" and "run.claim(" in cell.source:
            exec(compile(cell.source, str(cell.id), "exec"), namespace)
    return run


def test_all_claims_hold_of_what_they_were_made_for() -> None:
    run = judged(good())
    assert len(run.holds) >= 15
    assert all(run.holds.values()), run.holds


@pytest.mark.parametrize(
    ("table", "column", "value", "claim"),
    [
        ("drifted", "kept_share", 1.0, "No codec is idempotent"),
        ("drifted", "first_codebook_kept_share", 0.1, "the coarsest codes last longest"),
        ("still", "noise_changed_share", 0.9, "One sample of delay changes more"),
        ("still", "chunk_changed_share", 1e-4, "coded in chunks"),
        ("still", "batch_changed_share", 1e-4, "coded in a batch"),
        ("lags", "gain_db", 13.0, "is late or early"),
        ("pcm", "si_sdr_db", 20.0, "A bit of PCM"),
        ("sizes", "bytes", 16_000, "A raw stream takes"),
    ],
)
def test_tables_that_say_otherwise_fail(table: str, column: str, value: float, claim: str) -> None:
    given = good()
    given[table][column] = value
    assert judged(given).of(claim) is False


def test_a_rate_that_differs_from_itself_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "bd_rate", lambda *_: drift.BdRate(0.1, 1.0))
    assert judged(good()).of("as much rate as itself") is False


def test_learned_measures_that_like_what_is_bad_fail() -> None:
    run = judged({**good(), "opinions": opinions(bad=0.0)})
    for column in LEARNED:
        assert run.of(f"{column} rejects") is False, column
    assert judged({**good(), "opinions": opinions(lost_dnsmos=1.0)}).of("DNSMOS loses less than half") is False


def test_what_was_not_measured_is_not_judged() -> None:
    given = good()
    few = {**given, "available": [], "opinions": given["opinions"].iloc[:0]}
    for name in ("drifted", "still"):
        few[name] = given[name][given[name]["clip"] == "a"]
    few["still"] = few["still"].assign(chunk_changed_share=np.nan, batch_changed_share=np.nan)
    few["points"] = given["points"].iloc[:1]
    run = judged(few)
    for claim in ("No codec is idempotent", "One sample of delay", "in chunks", "in a batch", "as much rate as itself"):
        assert run.of(claim) is None, claim
