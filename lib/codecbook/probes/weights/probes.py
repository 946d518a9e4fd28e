"""Verdicts on what was claimed of the published schemes: P1 to P4, the tree's collapse, and what was not counted.

"rho" means two things there, which have two names here. `row_cosines`: how alike a row and its decoded form are, one
cosine a row. `rank_agreement`: Spearman's correlation of all pairs' cosines among rows with those among decoded rows.
A mean of the first over all rows is what an index needs; the second can be high where every row is wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from codecbook.errors import UnsupportedInput
from codecbook.measure.statistics import Interval, mean_interval, share_interval
from codecbook.probes.weights.cascade import search, unit_rows
from codecbook.probes.weights.schemes.published import GOLDEN, farthest_points, spiral_places
from codecbook.probes.weights.schemes.table import SCHEMES

PASSTHROUGH_ROWS = 8192  # more rows than these the published pipeline leaves as they are
_POSITIONS = 256  # of an int8


@dataclass(frozen=True)
class Verdict:
    """What was claimed, and what was measured."""

    probe: str
    claim: str
    figure: Interval
    gate: float
    details: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """``"pass"`` where all of the interval reaches the gate, else ``"fail"``."""
        return "pass" if self.figure.low >= self.gate else "fail"


def row_cosines(matrix: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the cosine of each row with its decoded form, float64 ``[R]``; 0 where one of them is zero."""
    return np.einsum("rc,rc->r", unit_rows(matrix), unit_rows(decoded))


def rank_agreement(matrix: np.ndarray, decoded: np.ndarray) -> float:
    """Return Spearman's correlation of the cosines of all pairs of rows with those of decoded rows."""
    upper = np.triu_indices(len(matrix), 1)
    pairs = [(unit @ unit.T)[upper] for unit in (unit_rows(matrix), unit_rows(decoded))]
    ranks = [scipy.stats.rankdata(cosines) for cosines in pairs]
    return float(np.corrcoef(*ranks)[0, 1])


def neighbour_agreement(matrix: np.ndarray, decoded: np.ndarray) -> Interval:
    """Return the share of rows whose most similar other row is the same one among decoded rows."""
    nearest = []
    for unit in (unit_rows(matrix), unit_rows(decoded)):
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -np.inf)
        nearest.append(cosines.argmax(1))
    return share_interval(int((nearest[0] == nearest[1]).sum()), len(matrix))


def p1_spiral(matrix: np.ndarray, anchors: int = 16, rows: int = 256) -> Verdict:
    """P1: does a row survive as anchors on a spiral? The claim is a cosine of 0.95 a row.

    Also the measures of the original's own probe, which compares the anchors alone of so many evenly chosen rows: whose
    nearest neighbour is still the same (to be 0.90), and rank agreement (0.85).
    """
    decoded, bits = _through(f"spiral_k{anchors}", matrix)
    some = np.unique(np.linspace(0, len(matrix) - 1, rows).astype(int))
    signatures = matrix[some][:, spiral_places(matrix.shape[1], anchors).ravel()]
    details = {
        "bits_per_weight": bits,
        "same_neighbour": neighbour_agreement(matrix[some], signatures).mean,
        "rank_agreement": rank_agreement(matrix[some], signatures),
    }
    claim = f"{anchors} anchors a curve keep the direction of a row"
    return Verdict("P1", claim, mean_interval(row_cosines(matrix, decoded)), 0.95, details)


def p2_shared_curve(matrix: np.ndarray, anchors: int = 16, seed: int = 0) -> Verdict:
    """P2: can rows share a curve, and be a byte each, their position on it? The claim is a cosine of 0.95 a row.

    Anchors are means of the rows that follow each other along the first principal axis; between them the curve is
    that of the spiral. ``kmeans``: a byte can name no more than 256 rows, and k-means chooses these freely.
    """
    unit = unit_rows(matrix)
    centred = unit - unit.mean(0)
    order = np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
    means = np.stack([unit[part].mean(0) for part in np.array_split(order, min(anchors, len(unit)))])
    position = np.linspace(0, len(means) - 1, _POSITIONS)
    low = np.minimum(position.astype(int), max(len(means) - 2, 0))
    weight = ((position - low) ** (1 / GOLDEN))[:, None]
    curve = unit_rows(means[low] * (1 - weight) + means[np.minimum(low + 1, len(means) - 1)] * weight)
    details = {"kmeans": float(_best_directions(unit, seed).mean()), "bits_per_weight": 8 / matrix.shape[1]}
    return Verdict("P2", "a byte a row on a shared curve", mean_interval((unit @ curve.T).max(1)), 0.95, details)


def p3_neighbourhoods(
    keys: np.ndarray,
    palette_rows: int = 256,
    queries: int = 512,
    noise: float = 0.05,
    folded: bool = False,
    seed: int = 0,
) -> Verdict:
    """P3: does a table of palette rows find the key with the largest inner product? The claim is 90 % of queries.

    Queries are keys with noise, of this share of their deviation. ``bound``: a table cannot tell keys of one palette
    row apart, and so finds no more than one of them. ``same_cell`` counts any of them as found.
    """
    random = np.random.default_rng(seed)
    picked = keys[random.choice(len(keys), min(queries, len(keys)), replace=False)]
    noisy = picked + (noise * keys.std() * random.standard_normal(picked.shape)).astype(np.float32)
    found = search(noisy, keys, count=palette_rows, folded=folded, routed=False)
    details = {"bound": found.bound, "same_cell": found.same_cell.mean, "saved": found.saved}
    claim = f"a palette of {palette_rows} {'folded ' if folded else ''}rows keeps neighbourhoods"
    return Verdict("P3", claim, found.same_key, 0.90, details)


def p4_directions(matrix: np.ndarray, palette_rows: int = 256, seed: int = 0) -> Verdict:
    """P4: is a palette of directions, with lengths apart, enough? The claim is a mean cosine of 0.95 at 256 rows.

    ``kmeans``: what k-means reaches with as many directions. ``plain``: the palette of rows as they are.
    """
    unit = unit_rows(matrix).astype(np.float32)
    chosen, nearest = farthest_points(unit, palette_rows)
    plain, places = farthest_points(matrix, palette_rows)
    details = {
        "kmeans": float(_best_directions(unit, seed, palette_rows).mean()),
        "plain": float(row_cosines(matrix, matrix[plain][places]).mean()),
        "bits_per_weight": (8 + 16) / matrix.shape[1] + 16 * len(chosen) / len(matrix),
    }
    figure = mean_interval(row_cosines(matrix, unit[chosen][nearest]))
    return Verdict("P4", f"{palette_rows} directions by farthest points, and lengths", figure, 0.95, details)


def _best_directions(unit: np.ndarray, seed: int, count: int = _POSITIONS) -> np.ndarray:
    """Return each row's cosine with the best of so many directions, chosen by k-means on the sphere."""
    from sklearn.cluster import KMeans

    if len(unit) <= count:
        return np.ones(len(unit))
    means = KMeans(count, max_iter=30, random_state=seed).fit(unit)
    return (unit @ unit_rows(means.cluster_centers_).T).max(1)


@dataclass(frozen=True)
class Collapse:
    """What a tree of two levels makes of rows."""

    rows: int
    columns: int
    branches: int
    cosine: Interval  # of rows
    of_others: float  # mean cosine of the rows that are not leaves themselves; NaN where all are
    kept: float  # share of rows that are leaves themselves, so kept as they are
    largest: float  # share of rows that are in the largest branch
    alike: float  # mean absolute cosine of pairs of rows: near 0, they are near-orthogonal


def tree_collapse(matrix: np.ndarray, branches: int = 256, seed: int = 0) -> Collapse:
    """Measure when a tree (HCLAM) loses its rows, as it lost the published embedding: cosine 0.0046."""
    decoded, _ = _through("hclam", matrix, branches=branches)
    cosines = row_cosines(matrix, decoded)
    kept = cosines > 1 - 1e-6
    some = unit_rows(matrix[np.random.default_rng(seed).choice(len(matrix), min(500, len(matrix)), replace=False)])
    return Collapse(
        len(matrix),
        matrix.shape[1],
        branches,
        mean_interval(cosines),
        float(cosines[~kept].mean()) if not kept.all() else float("nan"),
        float(kept.mean()),
        float(np.bincount(farthest_points(matrix, branches)[1]).max() / len(matrix)),
        float(np.abs((some @ some.T)[np.triu_indices(len(some), 1)]).mean()),
    )


@dataclass(frozen=True)
class Account:
    """The published pipeline's sums over a model's matrices, in bytes."""

    source: int  # as they are stored where they come from
    indices: int  # what is counted where codebooks are forgotten
    stored: int  # all of it: codebooks, indices, and matrices passed through
    passed_through: int  # of these, matrices of more than 8,192 rows, at their source's type
    as_bfloat16: int  # what is claimed for these
    memorised: float  # share of the other matrices' rows that are rows of a palette, so that any claim holds of them

    @property
    def ratio(self) -> float:
        """Stored bytes to those of the source: above 1 is a loss."""
        return self.stored / self.source


def ladder_account(
    matrices: Iterable[tuple[np.ndarray, str]],
    scheme: str = "rvq_256_512_1024",
    passthrough_rows: int = PASSTHROUGH_ROWS,
) -> Account:
    """Sum up what a ladder of palettes takes, over matrices ``[R, C]`` with the types that they are stored in."""
    widths = {"F16": 2, "BF16": 2, "F32": 4}
    ladder = SCHEMES[scheme].options["ladder"]
    source = indices = stored = passed = passed_as_bfloat16 = rows = memorised = 0
    for matrix, source_dtype in matrices:
        here = matrix.size * widths[source_dtype]
        source += here
        if len(matrix) > passthrough_rows:
            passed, passed_as_bfloat16 = passed + here, passed_as_bfloat16 + 2 * matrix.size
            continue
        stored += len(SCHEMES[scheme].encode(matrix, source_dtype=source_dtype))
        indices += sum(len(matrix) * (min(count, len(matrix)) - 1).bit_length() for count in ladder) // 8
        rows, memorised = rows + len(matrix), memorised + min(len(matrix), max(ladder))
    share = memorised / rows if rows else float("nan")
    return Account(source, indices, stored + passed, passed, passed_as_bfloat16, share)


def _through(scheme: str, matrix: np.ndarray, **options: Any) -> tuple[np.ndarray, float]:
    """Return a matrix encoded and decoded, and its bits per weight."""
    if matrix.ndim != 2 or len(matrix) < 2:
        raise UnsupportedInput(f"A probe takes a matrix of two rows or more; received shape {list(matrix.shape)}.")
    data = SCHEMES[scheme].encode(matrix, **options)
    return SCHEMES[scheme].decode(data, (len(matrix), matrix.shape[1])), 8 * len(data) / matrix.size
