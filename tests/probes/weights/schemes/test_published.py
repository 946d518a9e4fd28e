import numpy as np
import pytest

from codecbook.probes.weights.cascade import ACTIONS, fisher_table, routes, search
from codecbook.probes.weights.schemes.packing import unpack
from codecbook.probes.weights.schemes.published import base17, farthest_points, rows_of_base17, spiral_places
from codecbook.probes.weights.schemes.table import SCHEMES


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("city_block", [False, True])
def test_each_point_is_the_farthest_from_those_before(city_block: bool) -> None:
    rows = normal(60, 5)
    chosen, nearest = farthest_points(rows, 12, city_block)
    assert chosen[0] == np.square(rows).sum(1).argmax()
    order = 1 if city_block else 2
    for count in range(1, 12):
        distances = np.linalg.norm(rows[:, None] - rows[chosen[:count]], ord=order, axis=2).min(1)
        assert chosen[count] == distances.argmax()
    distances = np.linalg.norm(rows[:, None] - rows[chosen], ord=order, axis=2)
    assert np.array_equal(nearest, distances.argmin(1))


def test_no_more_points_are_chosen_than_there_are_different_rows() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    chosen, nearest = farthest_points(rows, 100)
    assert len(chosen) == 4
    assert np.array_equal(rows[chosen][nearest], rows)


@pytest.mark.parametrize("name", ["rvq_256_512_1024", "rvq_256_512_1024_4096", "hclam", "palette"])
def test_no_more_rows_than_places_are_all_memorised(name: str) -> None:
    rows = normal(200, 16)
    found = SCHEMES[name].decode(SCHEMES[name].encode(rows), rows.shape)
    np.testing.assert_allclose(found, rows, rtol=1e-3, atol=1e-6)  # palettes are float16


def test_a_ladder_pays_for_all_of_its_palettes() -> None:
    rows = normal(2000, 16)
    bits = 8 * len(SCHEMES["rvq_256_512_1024"].encode(rows))
    stated = 16 * 16 * (256 + 512 + 1024) + 2000 * (8 + 9 + 10)
    assert stated <= bits <= stated + 400


def test_a_tree_takes_no_more_than_its_leaves_and_two_bytes_a_row() -> None:
    rows = normal(700, 16)
    data = SCHEMES["hclam"].encode(rows, branches=16)
    leaves, _codes = unpack(data[2:])
    assert len(leaves) <= 16 * 16
    found = SCHEMES["hclam"].decode(data, rows.shape)
    # every row that comes back is one of the rows, scaled to fit and back
    assert np.abs(found[:, None] - rows).max(2).min(1).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "bytes_a_row", "shared"),
    [
        ("base17", 34, 0),
        ("hhtl_d", 4, 34 * 256),
        ("hhtl_d_slot_l", 12, 34 * 256 + 4 * 8 * 40 + 4),
        ("palette", 1, 4 * 40 * 256),
        ("palette_slot_l", 9, 4 * 40 * 256 + 4 * 8 * 40 + 4),
        ("spiral_k4", 34 * 4, 6),
        ("spiral_k16", 34 * 16, 6),
    ],
)
def test_rows_take_the_bytes_that_the_format_says(name: str, bytes_a_row: int, shared: int) -> None:
    stated = 600 * bytes_a_row + shared
    assert stated - 600 <= len(SCHEMES[name].encode(normal(600, 40))) <= stated + 40  # codes may need a bit less


def test_17_means_are_of_every_17th_entry() -> None:
    rows = normal(5, 50)
    means = base17(rows)
    assert means.dtype == np.int16
    assert means[2, 1] == np.rint(256 * rows[2, 11::17].mean(dtype=np.float64))
    repeated = rows_of_base17(means, 50)
    np.testing.assert_allclose(repeated[:, 11], means[:, 1] / 256)
    assert np.array_equal(repeated[:, :16], repeated[:, 34:])
    assert np.array_equal(base17(rows_of_base17(means, 51)), means)


def test_the_place_of_a_row_is_in_slot_d() -> None:
    rows = normal(600, 40)
    _palette, slot_d, _slot_v = unpack(SCHEMES["hhtl_d"].encode(rows)[2:])
    assert slot_d.max() < 1 << 14  # basin 0
    assert len(np.unique(slot_d >> 2 & 255)) == 256
    assert len(np.unique(slot_d >> 10)) == 16
    assert not (slot_d & 1).any()


def test_a_leaf_restores_what_8_directions_can_tell() -> None:
    rows = (normal(400, 8) @ normal(8, 40, seed=1)).astype(np.float32)
    errors = []
    for name in ("palette", "palette_slot_l"):
        found = SCHEMES[name].decode(SCHEMES[name].encode(rows), rows.shape)
        errors.append(np.linalg.norm(found - rows) / np.linalg.norm(rows))
    assert errors[1] < 0.03 < errors[0]


def test_anchors_of_a_spiral_come_back_and_between_them_a_mix() -> None:
    rows = normal(4, 17 * 60)
    found = SCHEMES["spiral_k4"].decode(SCHEMES["spiral_k4"].encode(rows), rows.shape)
    places = spiral_places(rows.shape[1], 4)
    assert places.shape == (17, 4)
    assert places[2, 1] == 17 * 5 + int(17 * (7 * (1 + 5**0.5) / 2 % 1))  # octave 2 + 3, (d + octave) phi
    np.testing.assert_allclose(found[:, places.ravel()], rows[:, places.ravel()], rtol=2**-8)
    between = spiral_places(rows.shape[1], 12, 1)[2, 4]
    weight = (1 / 3) ** (2 / (1 + 5**0.5))
    wanted = (1 - weight) * rows[:, places[2, 1]] + weight * rows[:, places[2, 2]]
    np.testing.assert_allclose(found[:, between], wanted, rtol=0.02, atol=0.01)


def test_a_fisher_table_is_finest_where_cosines_are_large() -> None:
    rows = normal(40, 30)
    rows[1:20] = rows[0] + 0.05 * rows[1:20]
    table, unit = fisher_table(rows), rows / np.linalg.norm(rows, axis=1, keepdims=True)
    errors, wanted = np.abs(table.cosines() - unit @ unit.T), unit @ unit.T
    assert table.codes.dtype == np.int8
    assert errors[np.abs(wanted) > 0.99].max() < 0.001 < errors[np.abs(wanted) < 0.3].max() < 0.03


def test_routes_go_by_quarters_of_distances() -> None:
    points = np.sort(normal(40))
    actions = routes(np.abs(points[:, None] - points))
    off = actions[~np.eye(40, dtype=bool)]
    assert np.bincount(off, minlength=4)[[0, 1]] / len(off) == pytest.approx([0.25, 0.25], abs=0.01)


def test_no_distance_has_a_way_round_and_other_numbers_do() -> None:
    points = normal(50, 3)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    assert not (routes(distances) == ACTIONS.index("compose")).any()
    assert (routes(distances**2) == ACTIONS.index("compose")).any()  # squares break the triangle inequality


def test_a_palette_of_all_keys_finds_them_and_saves_nothing() -> None:
    keys = normal(100, 64)
    queries = keys + 0.05 * normal(100, 64, seed=1)
    found = search(queries, keys, count=100, routed=False)
    assert found.same_key.mean >= 0.99
    assert found.saved == pytest.approx(0)
    small = search(queries, keys, count=10)
    assert small.same_key.mean < 0.9
    assert sum(small.shares.values()) == pytest.approx(1)
    assert search(queries, keys, count=10, routed=False).same_key.mean <= small.bound
