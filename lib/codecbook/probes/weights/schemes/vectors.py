"""Vector quantisation by k-means, and truncated singular value decomposition.

Entries come scaled to a peak below 1 (see `schemes`), so that what is stored fits float16.
"""

import warnings

import numpy as np

from codecbook.probes.weights.schemes.packing import pack, unpack

_SAMPLE = 1 << 14  # vectors that k-means is fitted to
_VECTORS_PER_CODE = 8  # at least: of a small matrix the codebook would otherwise outweigh what it saves


def encode_products(matrix: np.ndarray, length: int, codes: int, seed: int, **_: object) -> bytes:
    """Encode vectors of so many neighbours in a row by one codebook of the matrix.

    Source: Jégou et al. 2011; one codebook for all positions as in Stock et al. 2020 ("And the bit goes down").
    """
    from sklearn.cluster import KMeans

    vectors = np.pad(matrix.ravel(), (0, -matrix.size % length)).reshape(-1, length)
    count = min(codes, max(1, len(vectors) // _VECTORS_PER_CODE))
    random = np.random.default_rng(seed)
    sample = vectors[random.choice(len(vectors), _SAMPLE, replace=False)] if len(vectors) > _SAMPLE else vectors
    means = KMeans(count, max_iter=25, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different vectors than codes
        means.fit(sample)
    return pack(means.cluster_centers_.astype(np.float16), np.asarray(means.predict(vectors)).astype(np.uint16))


def decode_products(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``: the vectors of the codes."""
    centres, codes = unpack(data)
    return centres[codes].astype(np.float32).ravel()[: shape[0] * shape[1]].reshape(shape)


def encode_rank(matrix: np.ndarray, share: float, **_: object) -> bytes:
    """Encode by the first singular vectors, as many as take a share of the matrix's own 16 bits per entry."""
    R, C = matrix.shape
    rank = int(np.clip(share * R * C / (R + C), 1, min(R, C)))
    left, sizes, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(sizes[:rank])
    return pack((left[:, :rank] * root).astype(np.float16), (right[:rank] * root[:, None]).astype(np.float16))


def decode_rank(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 ``[R, C]``: outer products, added one after the other."""
    left, right = (factor.astype(np.float32) for factor in unpack(data))
    return sum_of_products(left, right, np.zeros(shape, dtype=np.float32))


def sum_of_products(left: np.ndarray, right: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return ``start + left @ right``, float32, in an order that no library chooses, so alike on all machines."""
    for column, row in zip(left.T, right, strict=True):
        start = start + column[:, None] * row
    return start
