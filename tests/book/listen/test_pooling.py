"""A listener made up to follow one measure: pooling finds that measure, and nothing in shuffled scores."""

import numpy as np
import pandas as pd
import pytest

from codecbook.audio import clip_from_array
from codecbook.book import listen
from codecbook.book.listen.answers import HIDDEN
from codecbook.book.listen.pooling import agreement, pool, screening
from codecbook.errors import UnsupportedInput

ITEMS = [f"clip {i}" for i in range(8)]
CONDITIONS = [f"codec {i}" for i in range(5)]


@pytest.fixture(scope="module")
def measures() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [{"item": item, "condition": name, "followed": rng.random(), "other": rng.random()}
            for item in ITEMS for name in CONDITIONS]  # fmt: skip
    return pd.DataFrame(rows).assign(distance=lambda table: -(table.followed**3), constant=1.0)


def answers(
    measures: pd.DataFrame, listener: str, seed: int, reference: float = 98.0, noise: float = 4.0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    scores = np.clip(20 + 60 * measures.followed + rng.normal(0, noise, len(measures)), 0, 100)
    rated = measures[["item", "condition"]].assign(score=scores)
    hidden = pd.DataFrame({"item": ITEMS, "condition": HIDDEN, "score": reference})
    anchor = pd.DataFrame({"item": ITEMS, "condition": "anchor 7 kHz", "score": 50.0})
    start = pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(seed, "h")
    return pd.concat([rated, hidden, anchor], ignore_index=True).assign(
        test="mushra",
        title="T",
        listener=listener,
        session=f"{seed:08x}",
        trial=1,
        vote="",
        played_s=1.0,
        time_utc=start,
    )


def test_the_measure_that_listeners_followed_is_found(measures):
    heard = pd.concat([answers(measures, f"listener {i}", i) for i in range(4)])
    found = agreement(heard, measures).set_index("measure")
    assert found.loc["followed", "rank_correlation_low"] > 0.8
    assert found.loc["distance", "rank_correlation_high"] < -0.8
    assert found.loc["other", "rank_correlation_low"] < 0 < found.loc["other", "rank_correlation_high"]
    assert found.loc["constant", "items"] == 0
    assert list(found.index[:2]) == ["followed", "distance"]


def test_nothing_is_found_in_shuffled_scores(measures):
    heard = pd.concat([answers(measures, f"listener {i}", i) for i in range(4)])
    shuffled = heard.assign(score=np.random.default_rng(5).permutation(heard.score))
    found = agreement(shuffled, measures).set_index("measure")
    assert found.loc["followed", "rank_correlation_low"] < 0 < found.loc["followed", "rank_correlation_high"]


def test_who_does_not_hear_the_hidden_reference_is_left_out(measures):
    good, deaf = answers(measures, "good", 1), answers(measures, "deaf", 2, reference=80)
    deceived = answers(measures, "deceived", 3).assign(
        score=lambda own: own.score.where(own.condition != "anchor 7 kHz", 95.0)
    )
    judged = screening(pd.concat([good, deaf, deceived])).set_index("listener")
    assert judged.kept.to_dict() == {"good": True, "deaf": False, "deceived": False}
    once = good.assign(score=good.score.where(good.index != good.index[good.condition == HIDDEN][0], 50.0))
    assert screening(once).kept.tolist() == [True], "once of eight pages is 12.5 %"


def test_pooled_tables_say_who_was_kept_and_how_conditions_stand(measures):
    everyone = pd.concat(
        [answers(measures, f"listener {i}", i) for i in range(12)] + [answers(measures, "deaf", 20, 50)]
    )
    votes = everyone.iloc[:9].assign(test="abx", vote="A", condition=list("AAAAAAAAB"), item="tone", score=float("nan"))
    tables = pool(pd.concat([everyone, votes]), measures)
    captions = list(tables)
    assert captions[1].startswith("13 listeners, 12 kept")
    assert tables[captions[0]].trials.tolist() == [9]
    standing = tables[captions[2]].set_index("condition")
    assert standing.index[0] == HIDDEN
    assert standing.loc["codec 0", "listeners"] == 12
    assert standing.loc["codec 0", "to_reference_high"] < 0
    assert standing.loc["codec 0", "to_reference"] == pytest.approx(standing.loc["codec 0", "score"] - 98, abs=1e-9)
    assert pool(everyone[everyone.listener == "deaf"], measures).keys() == {
        "1 listeners, 0 kept (ITU-R BS.1534-3, post-screening)"
    }


def test_answers_about_other_clips_are_refused(measures):
    with pytest.raises(UnsupportedInput, match="No answers are about what was measured"):
        agreement(answers(measures, "me", 0).assign(item="another"), measures)


def test_measures_are_taken_of_all_that_is_rated():
    rng = np.random.default_rng(0)
    clip = clip_from_array(0.1 * rng.standard_normal(24_000), 24_000)
    noisy = clip_from_array(clip.samples + 0.01 * rng.standard_normal(24_000), 24_000)
    found = listen.measure_conditions({"original": {"noise": clip}, "noisy": {"noise": noisy}}, ["si_sdr_db"])
    assert found.condition.tolist() == ["noisy", "anchor 3.5 kHz", "anchor 7 kHz"]
    assert found.si_sdr_db[0] == pytest.approx(20, abs=0.5)
    assert found.si_sdr_db[2] > found.si_sdr_db[1]
