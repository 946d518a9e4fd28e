"""Inference in codec space: which key answers a query, by a table over palette entries instead of inner products.

Every key and query is replaced by the nearest row of a palette; a table holds what any two of these rows have in
common, and another what is to be done with such a pair (`routes`). After the same work as `published`.
"""

from dataclasses import dataclass

import numpy as np

from codecbook.measure.statistics import Interval, share_interval
from codecbook.probes.weights.schemes.published import base17, farthest_points

ACTIONS = ("skip", "attend", "compose", "escalate")
SKIP, ATTEND, COMPOSE, ESCALATE = range(4)
_SHORTCUT = 0.9  # of the direct distance, below which a way round is one


@dataclass(frozen=True, eq=False)
class FisherTable:
    """Cosines of all pairs of rows as int8, evenly spaced after ``atanh``, so that they are finest near 1 and -1."""

    codes: np.ndarray  # int8 [k, k]
    least: float
    reach: float

    def cosines(self) -> np.ndarray:
        """Return float64 ``[k, k]``."""
        return np.tanh((self.codes.astype(np.float64) + 128) / 255 * self.reach + self.least)


def fisher_table(rows: np.ndarray) -> FisherTable:
    """Return the table of rows ``[k, D]``; cosines are clamped to ±0.9999."""
    unit = unit_rows(rows)
    values = np.arctanh(np.clip(unit @ unit.T, -0.9999, 0.9999))
    least, reach = float(values.min()), max(float(np.ptp(values)), 1e-12)
    return FisherTable(np.rint((values - least) / reach * 255 - 128).astype(np.int8), least, reach)


def routes(distances: np.ndarray) -> np.ndarray:
    """Return what to do with each pair of palette rows, uint8 ``[k, k]``, from their distances ``[k, k]``.

    The farthest quarter of pairs is skipped. Of the others, those are composed that have a way round through a third
    row shorter than 0.9 of the direct one; then the nearest quarter is attended to by the table, and the rest computed.
    """
    others = np.sort(distances[~np.eye(len(distances), dtype=bool)])
    near, far = (others[[len(others) // 4, 3 * len(others) // 4]]) if len(others) else (0.0, np.inf)
    round_way = np.full(distances.shape, np.inf)
    for middle in range(len(distances)):
        way = distances[:, middle, None] + distances[middle]
        way[middle], way[:, middle] = np.inf, np.inf
        round_way = np.minimum(round_way, way)
    actions = np.where(distances <= near, ATTEND, ESCALATE)
    actions[round_way < _SHORTCUT * distances] = COMPOSE
    actions[distances > far] = SKIP
    np.fill_diagonal(actions, ATTEND)
    return actions.astype(np.uint8)


@dataclass(frozen=True)
class Search:
    """How well a table finds the key that an exact search finds."""

    same_key: Interval  # share of queries
    same_cell: Interval  # share of queries for which the exact key is one of those that the table cannot tell apart
    bound: float  # of `same_key`: keys that are first of their cell, as a share of those that are to be found
    saved: float  # share of an exact search's multiplications that are not made
    shares: dict[str, float]  # of pairs of query and key by what is done with them


def search(
    queries: np.ndarray, keys: np.ndarray, *, count: int = 256, folded: bool = False, routed: bool = True
) -> Search:
    """Search for the key ``[N, D]`` with the largest inner product with each query ``[Q, D]``, exactly and by a table.

    Args:
        queries: float32 ``[Q, D]``.
        keys: float32 ``[N, D]``; the palette is chosen of them.
        count: Rows of the palette.
        folded: Take the rows' 17 means and city block distances, instead of the rows and Euclidean ones.
        routed: Do with each pair what `routes` says, instead of looking all of them up.
    """
    points = [base17(rows).astype(np.float32) if folded else rows for rows in (keys, queries)]
    chosen, cells = farthest_points(points[0], count, city_block=folded)
    palette = points[0][chosen]
    distances = _distances(palette, palette, folded)
    query_cells = _distances(points[1], palette, folded).argmin(1)
    actions = routes(distances)[query_cells][:, cells] if routed else np.full((len(queries), len(keys)), ATTEND)
    exact = queries.astype(np.float64) @ keys.T.astype(np.float64)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(keys, axis=1)
    looked_up = fisher_table(keys[chosen]).cosines()[query_cells][:, cells] * (lengths if routed else 1)
    scores = np.choose(actions, [np.full(exact.shape, -np.inf), looked_up, looked_up, exact])
    best, found = exact.argmax(1), scores.argmax(1)
    made = len(chosen) * palette.shape[1] * len(queries) + keys.shape[1] * int((actions == ESCALATE).sum())
    wanted = np.unique(best)
    return Search(
        share_interval(int((best == found).sum()), len(queries)),
        share_interval(int((cells[best] == cells[found]).sum()), len(queries)),
        min(1.0, len(chosen) / len(wanted)),
        1 - made / exact.size / keys.shape[1],
        {name: float((actions == place).mean()) for place, name in enumerate(ACTIONS)},
    )


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows ``[N, D]`` at length 1, float64; rows of zeros stay."""
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def _distances(rows: np.ndarray, palette: np.ndarray, city_block: bool) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(rows, palette, "cityblock" if city_block else "euclidean")
