"""Each verdict is fail on what it should be, and pass on a stand-in that deserves it."""

from collections.abc import Callable

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.probes.weights.probes import (
    ladder_account,
    p1_spiral,
    p2_shared_curve,
    p3_neighbourhoods,
    p4_directions,
    rank_agreement,
    row_cosines,
    tree_collapse,
)
from codecbook.probes.weights.schemes.table import SCHEMES


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def on_spiral(rows: int) -> np.ndarray:
    """Return rows that are anchors and mixes of them, and nothing else."""
    matrix, scheme = normal(rows, 17 * 60), SCHEMES["spiral_k16"]
    return scheme.decode(scheme.encode(matrix), matrix.shape)


def on_curve(rows: int) -> np.ndarray:
    """Return rows along an arc, with lengths of their own."""
    angle = np.linspace(0, 1.5, rows)[:, None]
    ends = np.linalg.qr(normal(24, 2))[0].T
    lengths = np.exp(normal(rows, 1))
    return ((np.cos(angle) * ends[0] + np.sin(angle) * ends[1]) * lengths).astype(np.float32)


def in_bunches(rows: int, bunches: int, spread: float = 1.0) -> np.ndarray:
    """Return rows in few directions, with lengths of their own."""
    directions = normal(bunches, 24)
    lengths = np.exp(spread * normal(rows, 1, seed=1))
    return (directions[np.arange(rows) % bunches] + 0.05 * normal(rows, 24, seed=2)) * lengths


CASES = [
    (p1_spiral, lambda: on_spiral(40), "P1"),
    (p2_shared_curve, lambda: on_curve(400), "P2"),
    (lambda rows: p3_neighbourhoods(rows, palette_rows=len(rows)), lambda: normal(300, 64), "P3"),
    (lambda rows: p4_directions(rows, palette_rows=64), lambda: in_bunches(500, 50), "P4"),
]


@pytest.mark.parametrize(("probe", "deserving", "name"), CASES, ids=[name for *_, name in CASES])
def test_a_stand_in_that_deserves_it_passes(probe: Callable, deserving: Callable[[], np.ndarray], name: str) -> None:
    found = probe(deserving())
    assert (found.probe, found.verdict) == (name, "pass")
    assert found.figure.low >= found.gate


@pytest.mark.parametrize("probe", [p1_spiral, p2_shared_curve, p3_neighbourhoods, p4_directions])
def test_rows_that_have_nothing_in_common_fail(probe: Callable) -> None:
    found = probe(normal(600, 17 * 60))
    assert found.verdict == "fail"
    assert found.figure.high < found.gate
    assert all(found.details.get(name, 1) >= found.figure.mean - 0.01 for name in ("bound", "kmeans"))


def test_a_palette_cannot_find_more_keys_than_it_has_rows() -> None:
    found = p3_neighbourhoods(normal(1000, 256), palette_rows=50, queries=500)
    assert found.figure.mean <= found.details["bound"] < 0.2
    assert found.details["same_cell"] > 0.9 > found.figure.high


def test_the_two_meanings_of_rho_come_apart() -> None:
    rows = normal(80, 24)
    turned = rows @ np.linalg.qr(normal(24, 24, seed=1))[0].T  # every row is wrong, and no angle between rows is
    assert rank_agreement(rows, turned) > 0.999
    assert abs(row_cosines(rows, turned).mean()) < 0.2
    shuffled = np.random.default_rng(2).permutation(rows)
    assert abs(rank_agreement(rows, shuffled)) < 0.1


def test_a_tree_collapses_where_near_orthogonal_rows_outnumber_the_leaves_that_they_reach() -> None:
    rows = normal(3000, 256) * np.exp(0.3 * normal(3000, 1, seed=1))
    collapsed, ample = tree_collapse(rows, 8), tree_collapse(rows[:300], 128)
    assert collapsed.cosine.high < 0.1
    assert collapsed.largest > 0.5  # short rows are the nearest to all, so one branch has most
    assert ample.cosine.low > 0.95
    clustered = tree_collapse(in_bunches(3000, 20, spread=0), 8)
    assert clustered.cosine.low > 0.95 > clustered.kept
    assert clustered.alike > 2 * collapsed.alike


def test_an_account_charges_codebooks_and_the_type_of_the_source() -> None:
    matrices = [(normal(200, 24), "F16"), (normal(1100, 24), "F16"), (normal(50, 24), "F32")]
    found = ladder_account(matrices, passthrough_rows=1000)
    assert found.source == 24 * (2 * 200 + 2 * 1100 + 4 * 50)
    assert (found.passed_through, found.as_bfloat16) == (2 * 24 * 1100, 2 * 24 * 1100)
    assert found.memorised == 1
    assert found.stored > found.passed_through + 2 * 24 * 250  # all rows of the others are in a palette
    assert found.indices < 0.02 * found.source
    wide = ladder_account([(normal(1100, 24), "F32")], passthrough_rows=1000)
    assert (wide.ratio, wide.as_bfloat16 / wide.source) == (1, 0.5)
    rows = np.repeat(normal(10, 24), 200, axis=0)
    assert ladder_account([(rows, "F16")]).ratio < 0.2


def test_a_vector_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match="two rows or more"):
        p1_spiral(normal(1, 5))
