"""A sweep as data: which values its axes take, and where the runs of its points lie."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

POINTS = "points"  # folder below that of a sweep, with a run's folder for every point


class Figure(NamedTuple):
    """A figure of a stage's results; an axis in braces in its key stands for the value there."""

    stage: str
    key: str

    def key_at(self, values: Mapping[str, Any]) -> str:
        """Return the key in the results of a point, which has these values."""
        key = self.key
        for axis, value in values.items():
            key = key.replace(f"{{{axis}}}", value_text(value))
        return key

    @property
    def name(self) -> str:
        """The key without what differs from point to point."""
        return re.sub(r"\{[^}]*\}\.?", "", self.key)


@dataclass(frozen=True)
class Point:
    """One combination of values.

    Attributes:
        values: By axis.
        folders: By stage, the name of the folder that holds its run: points that differ in nothing that reaches a
            stage share one.
    """

    values: Mapping[str, Any]
    folders: Mapping[str, str]


@dataclass(frozen=True)
class Grid:
    """What a sweep varies and what its page shows.

    Attributes:
        question: What it asks, in a sentence.
        axes: Their values, by name.
        figures: What is drawn against each axis.
        frontier: Two figures, each with whether ``less`` or ``more`` of it is better; empty for none.
        points: All of them.
    """

    question: str
    axes: Mapping[str, Sequence[Any]]
    figures: Sequence[Figure]
    frontier: Mapping[Figure, str]
    points: Sequence[Point]


def value_text(value: Any) -> str:
    """Return an axis' value as a reader would write it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
