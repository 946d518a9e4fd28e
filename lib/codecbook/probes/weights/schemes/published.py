"""The published line of work, re-run: rows of matrices by farthest points, by 17 means, along a spiral.

After the work on Qwen3-TTS in AdaWorldAPI/lance-graph. Its codecs are written down here as they are, and charged for
all that decoding takes, codebooks too. Rows are the unit: what is shared is a palette of rows, and a row is an index.
"""

from functools import cache

import numpy as np

from codecbook.probes.weights.schemes.lossless import rounded_bits, values_of
from codecbook.probes.weights.schemes.packing import pack, unpack
from codecbook.probes.weights.schemes.vectors import sum_of_products

BASE = 17
GOLDEN = (1 + 5**0.5) / 2
BASE17_SCALE = 256.0
LEAF_LANES = 8
_FAMILIES = 16
_BASIN = 0  # of Slot D: the role of the tensor, which a matrix alone does not tell


def farthest_points(rows: np.ndarray, count: int, city_block: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Choose rows one by one, each the farthest from all before (CLAM): return them, and each row's nearest of them.

    The first is the longest. Distances are squared Euclidean, or city block. Of fewer rows, or fewer different ones,
    fewer are chosen: then every row is its own nearest.

    Args:
        rows: float32 ``[N, D]``.
        count: How many to choose.
        city_block: Distance to take.

    Returns:
        Indices of rows, int64 ``[at most count]``, and for each row a place in them, int64 ``[N]``.
    """
    sizes = np.einsum("nd,nd->n", rows, rows)
    least, nearest = np.full(len(rows), np.inf, dtype=np.float32), np.zeros(len(rows), dtype=np.int64)
    chosen = [int(sizes.argmax())]
    while True:
        centre = rows[chosen[-1]]
        distances = np.abs(rows - centre).sum(1) if city_block else sizes + sizes[chosen[-1]] - 2 * (rows @ centre)
        closer = distances < least
        nearest[closer], least[closer] = len(chosen) - 1, distances[closer]
        least[chosen[-1]], nearest[chosen[-1]] = 0, len(chosen) - 1
        farthest = int(least.argmax())
        if len(chosen) == min(count, len(rows)) or least[farthest] <= 0:
            return np.array(chosen), nearest
        chosen.append(farthest)


def encode_ladder(matrix: np.ndarray, ladder: tuple[int, ...], **_: object) -> bytes:
    """Encode rows as sums of a row of each level's palette, which is chosen of what is left by the levels before it.

    The ladder ends where all rows are in the palette.
    """
    rest, parts = matrix, []
    for count in ladder:
        chosen, nearest = farthest_points(rest, count)
        palette = rest[chosen].astype(np.float16)
        rest = rest - palette[nearest]
        parts += [palette, nearest.astype(np.uint16)]
        if len(chosen) == len(matrix):
            break
    return pack(*parts)


def decode_ladder(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``: the levels' rows, added in their order."""
    arrays, matrix = unpack(data), np.zeros(shape, dtype=np.float32)
    for palette, nearest in zip(arrays[::2], arrays[1::2], strict=True):
        matrix = matrix + palette[nearest].astype(np.float32)
    return matrix


def encode_tree(matrix: np.ndarray, branches: int, **_: object) -> bytes:
    """Encode rows as one leaf of a tree of two levels, each by farthest points (HCLAM); leaves are rows themselves."""
    nearest = farthest_points(matrix, branches)[1]
    leaves, codes = [], np.zeros(len(matrix), dtype=np.int64)
    for branch in range(nearest.max() + 1):
        members = np.flatnonzero(nearest == branch)
        chosen, leaf = farthest_points(matrix[members], branches)
        codes[members] = sum(map(len, leaves)) + leaf
        leaves.append(members[chosen])
    return pack(matrix[np.concatenate(leaves)].astype(np.float16), codes.astype(np.uint16))


def base17(rows: np.ndarray) -> np.ndarray:
    """Fold rows ``[N, D]`` into int16 ``[N, 17]``: means of every 17th entry, in the order 11 i mod 17, times 256."""
    padded = np.pad(rows.astype(np.float64), ((0, 0), (0, -rows.shape[1] % BASE))).reshape(len(rows), -1, BASE)
    counts = np.maximum(np.bincount(np.arange(rows.shape[1]) % BASE, minlength=BASE), 1)
    means = padded.sum(1) / counts * BASE17_SCALE
    return np.clip(np.rint(means[:, _base_order()]), -32768, 32767).astype(np.int16)


def rows_of_base17(means: np.ndarray, num_columns: int) -> np.ndarray:
    """Return rows float32 ``[N, D]`` that repeat their 17 means."""
    placed = means[:, np.argsort(_base_order())].astype(np.float32) / np.float32(BASE17_SCALE)
    return np.tile(placed, (1, -(-num_columns // BASE)))[:, :num_columns]


def _base_order() -> np.ndarray:
    return np.arange(BASE) * 11 % BASE


def encode_base17(matrix: np.ndarray, **_: object) -> bytes:
    """Encode rows by their 17 means: 34 bytes a row."""
    return pack(base17(matrix))


def decode_base17(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``."""
    return rows_of_base17(unpack(data)[0], shape[1])


def encode_palette(matrix: np.ndarray, folded: bool, leaf: bool, count: int = 256, **_: object) -> bytes:
    """Encode rows as places in a palette, of float32 rows or of their 17 means (HHTL-D); then perhaps a leaf.

    Folded, a row is Slot D (where it is in the tree: basin, family, place, polarity) and Slot V (how far from there, as
    bfloat16): 4 bytes, of which decoding, here as in the original, takes 8 bits. A leaf (Slot L) is what is left, on 8
    singular directions of all that is left, as int8: 8 bytes. Matrices of one component, role and shape that are
    stacked share all of it (SharedPaletteGroup).
    """
    if folded:
        means = base17(matrix)
        chosen, nearest = farthest_points(means.astype(np.float32), count, city_block=True)
        parts = [means[chosen], *_slots(means.astype(np.float64), chosen, nearest)]
        rest = matrix - rows_of_base17(means[chosen], matrix.shape[1])[nearest]
    else:
        chosen, nearest = farthest_points(matrix, count)
        parts, rest = [matrix[chosen], nearest.astype(np.uint8)], matrix - matrix[chosen][nearest]
    return pack(*parts, *(_leaf(rest) if leaf else ()))


def decode_palette(data: bytes, shape: tuple[int, int], folded: bool, leaf: bool) -> np.ndarray:
    """Return float32 ``[R, C]``: the palette's row, and what the leaf adds."""
    arrays = unpack(data)
    palette, places = arrays[:2]
    if folded:
        palette, places = rows_of_base17(palette, shape[1]), places >> 2 & 255
    matrix = palette[places]
    if leaf:
        lanes, scale, directions = arrays[-3:]
        matrix = sum_of_products(lanes.astype(np.float32) * scale, directions, matrix)
    return matrix


def _slots(means: np.ndarray, chosen: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Slot D and Slot V, uint16 ``[N]`` each."""
    palette = means[chosen]
    families = farthest_points(palette.astype(np.float32), _FAMILIES, city_block=True)[1]
    rest = means - palette[nearest]
    dominant = rest[np.arange(len(rest)), np.abs(rest).argmax(1)]
    slot_d = _BASIN << 14 | families[nearest] << 10 | nearest << 2 | (dominant >= 0) << 1
    shares = np.abs(rest).sum(1) / np.maximum(np.abs(palette[nearest]).sum(1), 1)
    return slot_d.astype(np.uint16), rounded_bits(shares.astype(np.float32), "BF16")


def _leaf(rest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return int8 ``[N, 8]``, their scale and 8 directions ``[8, D]``."""
    directions = np.linalg.svd(rest.astype(np.float64), full_matrices=False)[2][:LEAF_LANES]
    lanes = rest @ directions.T
    scale = max(float(np.abs(lanes).max()) / 127, 1e-30)
    return np.rint(lanes / scale).astype(np.int8), np.array([scale], dtype=np.float32), directions.astype(np.float32)


@cache
def spiral_places(num_columns: int, count: int, stride: int = 3) -> np.ndarray:
    """Return which entries of a row are anchors, int64 ``[17, count]``; walks go round where the row is too short.

    Anchor s of curve d is in octave ``d + s * stride``, there at ``floor(17 * frac((d + octave) * phi))``.
    """
    curve = np.arange(BASE)[:, None]
    octave = (curve + np.arange(count) * stride) % max(num_columns // BASE, 1)
    places = octave * BASE + np.floor(BASE * ((curve + octave) * GOLDEN % 1)).astype(np.int64)
    return np.minimum(places, num_columns - 1)


def encode_spiral(matrix: np.ndarray, count: int, stride: int = 3, **_: object) -> bytes:
    """Encode rows by anchors on 17 curves, as bfloat16: 34 bytes an anchor. All rows share the address."""
    anchors = matrix[:, spiral_places(matrix.shape[1], count, stride).ravel()]
    return pack(np.array([stride, count], dtype=np.int16), rounded_bits(anchors, "BF16"))


def decode_spiral(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``: anchors, and on the way from one to the next their mix, by ``frac^(1/phi)``.

    An entry that no curve meets is 0; where several meet, an anchor goes before a mix.
    """
    (stride, count), anchors = unpack(data)
    values = values_of(anchors, "BF16").reshape(shape[0], BASE, count)
    following = values[:, :, np.minimum(np.arange(count) + 1, count - 1)]
    ways = spiral_places(shape[1], int(count) * int(stride), 1).reshape(BASE, count, stride)
    matrix = np.zeros(shape, dtype=np.float32)
    for part in range(stride - 1, -1, -1):
        weight = np.float32((part / stride) ** (1 / GOLDEN))
        matrix[:, ways[:, :, part]] = values * (1 - weight) + following * weight
    return matrix
