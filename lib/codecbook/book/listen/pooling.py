"""What several listeners' answers say together, and which objective measure predicted them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from codecbook.audio import Clip
from codecbook.book.listen.answers import HIDDEN
from codecbook.book.listen.blind import conditions
from codecbook.errors import UnsupportedInput
from codecbook.measure.anytime import evidence, mean_sequence
from codecbook.measure.quality import evaluate
from codecbook.measure.statistics import Interval, mean_interval

_MID_ANCHOR = "anchor 7 kHz"
_NEAR_PERFECT = 90.0
_TOLERATED = 0.15  # share of pages
_FEWEST = 3  # conditions of an item that can be ranked


def pool(answers: pd.DataFrame, measures: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return tables of what listeners said, by caption; what has no answers is left out.

    Args:
        answers: As of `read_answers`.
        measures: As of `measure_conditions`.
    """
    tables = {}
    votes = answers.query("test == 'abx'")
    if len(votes):
        tables["A/B/X: correct answers, with p-values and intervals that hold whenever one stops"] = _votes(votes)
    ratings = answers.query("test == 'mushra'")
    if len(ratings):
        screened = screening(ratings)
        kept = ratings.query("listener in @named", local_dict={"named": list(screened.listener[screened.kept])})
        caption = f"{len(screened)} listeners, {int(screened.kept.sum())} kept (ITU-R BS.1534-3, post-screening)"
        tables[caption] = screened
        if len(kept):
            tables["MUSHRA scores, means over listeners, and differences to the hidden reference"] = scores(kept)
            tables["Rank correlation of measures with scores over conditions, 95 % intervals over items"] = agreement(
                kept, measures
            )
    return tables


def _votes(votes: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each test, item and listener; votes are in order of time."""
    rows = []
    for _, own in votes.groupby(["title", "item", "listener"], sort=False):
        found = evidence((own.vote == own.condition).to_numpy())
        test = own[["title", "item", "listener"]].iloc[0]
        rows.append({**test, "trials": found.trials, "e_value": found.e_value, "p": found.p,
                     **found.share.columns("share_correct")})  # fmt: skip
    return pd.DataFrame(rows)


def screening(ratings: pd.DataFrame) -> pd.DataFrame:
    """Judge listeners by the hidden reference: of each, the shares of pages that speak against them, and ``kept``.

    ITU-R BS.1534-3, section 4.1.2, leaves out who rates the hidden reference below 90 on more than 15 % of the pages,
    or the 7 kHz anchor above 90 on more than 15 %.
    """
    rows = []
    for listener, own in ratings.groupby("listener", sort=False):
        reference, anchor = (own.score[own.condition == name] for name in (HIDDEN, _MID_ANCHOR))
        missed, deceived = (reference < _NEAR_PERFECT).mean(), (anchor > _NEAR_PERFECT).mean() if len(anchor) else 0.0
        rows.append({"listener": listener, "pages": len(reference), "reference_below_90_share": missed,
                     "anchor_above_90_share": deceived, "kept": max(missed, deceived) <= _TOLERATED})  # fmt: skip
    return pd.DataFrame(rows)


def scores(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return each condition's mean score over listeners, the best first.

    A listener is one value: the mean over their pages. The difference to the hidden reference has a confidence sequence
    over listeners in the order in which they came, so that more may be asked until the answer is clear.
    """
    means = ratings.groupby(["listener", "condition"], sort=False).score.mean().unstack("condition")
    rows = []
    for condition in means:
        gap = (means[condition] - means[HIDDEN]).dropna()
        rows.append({"condition": condition, "listeners": int(means[condition].count()),
                     **_within(mean_interval(means[condition].to_numpy()), 0, 100).columns("score"),
                     **(mean_sequence(gap.to_numpy(), -100, 100).columns("to_reference") if condition != HIDDEN else {})
                     })  # fmt: skip
    return pd.DataFrame(rows).sort_values("score", ascending=False, ignore_index=True)


def agreement(ratings: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Ask which measure ranked the conditions as listeners did; the strongest first.

    Spearman's rank correlation over the conditions of an item, hidden reference left out, and its mean over items. A
    measure that is lower where quality is higher, as distances are, predicts at -1.
    """
    means = ratings.groupby(["item", "condition"], sort=False).score.mean().reset_index()
    both = means.merge(measures, on=["item", "condition"])
    if both.empty:
        raise UnsupportedInput(
            f"No answers are about what was measured: they name {sorted(set(means['item']))[:5]} and the measures "
            f"{sorted(set(measures['item']))[:5]}; pool them with the clips and parameters of their test."
        )
    rows = []
    for name in measures.columns.drop(["item", "condition"]):
        ranked = [own for _, own in both.dropna(subset=[name]).groupby("item") if len(own) >= _FEWEST]
        found = _within(mean_interval([own[["score", name]].rank().corr().to_numpy()[0, 1] for own in ranked]), -1, 1)
        pairs = sum(map(len, ranked))
        rows.append({"measure": name, "items": found.count, "pairs": pairs, **found.columns("rank_correlation")})
    return pd.DataFrame(rows).sort_values("rank_correlation", key=abs, ascending=False, ignore_index=True)


def _within(interval: Interval, lowest: float, highest: float) -> Interval:
    """Return an interval of Student's t, which knows no bounds, without what lies beyond them."""
    return (
        replace(interval, low=max(interval.low, lowest), high=min(interval.high, highest))
        if interval.defined
        else interval
    )


def measure_conditions(versions: Mapping[str, Mapping[str, Clip]], measures: Sequence[str]) -> pd.DataFrame:
    """Return what measures say of the clips that `mushra` plays, anchors included, by ``item`` and ``condition``."""
    rows = []
    for item, own in conditions(versions).items():
        reference = own.pop(HIDDEN)
        rows += [
            {"item": item, "condition": name, **evaluate(reference, clip, measures)[0]} for name, clip in own.items()
        ]
    return pd.DataFrame(rows)
