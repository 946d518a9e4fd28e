"""Scalar quantisation: every entry becomes one of a few levels, times a scale that its group in the row shares.

A group is so many neighbours in a row, or (0) the whole row. Entries come scaled to a peak below 1 (see `schemes`), so
that scales fit float16. Decoding is one table look-up and one multiplication per entry.
"""

import numpy as np

from codecbook.probes.weights.schemes.packing import pack, unpack

NF4_LEVELS = np.array(
    [
        -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0,
        0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
    ],
    dtype=np.float32,
)  # fmt: skip
"""Quantiles of a normal distribution, 0 among them. Source: Dettmers et al. 2023 (QLoRA), appendix E."""
_HQQ_NORM, _HQQ_ROUNDS, _HQQ_BETA, _HQQ_GROWTH = 0.7, 20, 10.0, 1.01
_GPTQ_DAMPING = 0.01  # of the mean of the Gram matrix's diagonal
_TINY = 1e-12  # stands in for the scale of a group of zeros


def integer_levels(bits: int) -> np.ndarray:
    """Return the integers of so many bits, alike on both sides of 0: float32 ``[2^bits - 1]``."""
    most = (1 << bits - 1) - 1
    return np.arange(-most, most + 1, dtype=np.float32)


def encode_levels(matrix: np.ndarray, levels: np.ndarray, group: int, **_: object) -> bytes:
    """Encode to the nearest level of a scale that takes each group's largest entry to the last one."""
    scales = _scales(matrix, levels, group)
    return pack(scales, _nearest(matrix, _spread(scales, group, matrix.shape), levels))


def decode_levels(data: bytes, shape: tuple[int, int], levels: np.ndarray, group: int) -> np.ndarray:
    """Return float32 ``[R, C]``: level times scale."""
    scales, codes = unpack(data)
    return levels[codes.reshape(shape)] * _spread(scales, group, shape)


def encode_gptq(matrix: np.ndarray, levels: np.ndarray, group: int, gram: np.ndarray | None, **_: object) -> bytes:
    """Encode column by column; what rounding a column costs is made up for in those that follow.

    `gram` is the second moment ``[C, C]`` of the inputs that meet the columns. Without it nothing can be made up for,
    and this is `encode_levels`. Source: Frantar et al. 2022 (GPTQ), algorithm 1; scales are taken when a group begins.
    """
    if gram is None:
        return encode_levels(matrix, levels, group)
    rest, (R, C) = matrix.astype(np.float64), matrix.shape
    damping = _GPTQ_DAMPING * max(np.trace(gram) / C, 1e-30)
    upper = np.linalg.cholesky(np.linalg.inv(gram + damping * np.eye(C))).T
    step = group or C
    scales, codes = np.zeros((R, -(-C // step)), dtype=np.float16), np.zeros((R, C), dtype=np.uint8)
    for c in range(C):
        if c % step == 0:
            scales[:, c // step] = _scales(rest[:, c : c + step], levels, 0)[:, 0]
        scale = scales[:, c // step].astype(np.float32)
        codes[:, c] = _nearest(rest[:, c], scale, levels)
        error = (rest[:, c] - levels[codes[:, c]] * scale) / upper[c, c]
        rest[:, c + 1 :] -= np.outer(error, upper[c, c + 1 :])
    return pack(scales, codes)


def encode_hqq(matrix: np.ndarray, bits: int, group: int, **_: object) -> bytes:
    """Encode with a zero point per group that a half-quadratic solver fits, so that few large errors count little.

    Source: Badri and Shaji 2023 (HQQ), with the settings of its reference. Errors are measured in steps here, so that a
    matrix that is twice as large is rounded alike.
    """
    C, most = matrix.shape[1], (1 << bits) - 1
    starts = np.arange(0, C, group or C)
    low = np.minimum(np.minimum.reduceat(matrix, starts, axis=1), 0)  # 0 is within, so that zero points are bounded
    high = np.maximum(np.maximum.reduceat(matrix, starts, axis=1), 0)
    scales = _half_up((high - low) / most)
    scaled = matrix / np.maximum(_spread(scales, group, matrix.shape), _TINY)
    best = zeros = (-low / np.maximum(scales.astype(np.float32), _TINY)).astype(np.float16)
    best_loss, beta = np.inf, _HQQ_BETA
    for _round in range(_HQQ_ROUNDS):
        shift = _spread(zeros, group, matrix.shape)
        codes = np.clip(np.rint(scaled + shift), 0, most)
        error = scaled - (codes - shift)
        size = np.maximum(np.abs(error), _TINY)
        loss = float((size**_HQQ_NORM).mean())
        if loss >= best_loss:
            break
        best, best_loss = zeros, loss
        outlying = np.sign(error) * np.maximum(size - size ** (_HQQ_NORM - 1) / beta, 0)
        zeros = np.add.reduceat(codes - scaled + outlying, starts, axis=1) / np.diff([*starts, C])
        zeros, beta = zeros.astype(np.float16), beta * _HQQ_GROWTH
    codes = np.clip(np.rint(scaled + _spread(best, group, matrix.shape)), 0, most).astype(np.uint8)
    return pack(scales, best, codes)


def decode_hqq(data: bytes, shape: tuple[int, int], group: int) -> np.ndarray:
    """Return float32 ``[R, C]``: scale times code less zero point."""
    scales, zeros, codes = unpack(data)
    return (codes.reshape(shape).astype(np.float32) - _spread(zeros, group, shape)) * _spread(scales, group, shape)


def encode_rotated(matrix: np.ndarray, levels: np.ndarray, group: int, **_: object) -> bytes:
    """Encode what a Hadamard transform makes of each group, which spreads outliers over it.

    Source: Chee et al. 2023 (QuIP), Ashkboos et al. 2024 (QuaRot); here without random signs, within a group.
    """
    return encode_levels(_hadamard(matrix, group), levels, group)


def decode_rotated(data: bytes, shape: tuple[int, int], levels: np.ndarray, group: int) -> np.ndarray:
    """Return float32 ``[R, C]``: the transform, its own inverse, of decoded levels."""
    return _hadamard(decode_levels(data, shape, levels, group), group)


def _scales(matrix: np.ndarray, levels: np.ndarray, group: int) -> np.ndarray:
    peaks = np.maximum.reduceat(np.abs(matrix), np.arange(0, matrix.shape[1], group or matrix.shape[1]), axis=1)
    return _half_up(peaks / levels[-1])


def _half_up(values: np.ndarray) -> np.ndarray:
    """Round to float16, never down, so that no entry lies beyond the last level."""
    halves = values.astype(np.float16)
    return np.where(halves < values, np.nextafter(halves, np.float16(np.inf)), halves).astype(np.float16)


def _spread(values: np.ndarray, group: int, shape: tuple[int, int]) -> np.ndarray:
    """Repeat a value per group for all its entries: float32 ``[R, C]``."""
    return np.repeat(values.astype(np.float32), group or shape[1], axis=1)[:, : shape[1]]


def _nearest(values: np.ndarray, scales: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return uint8 indices of the levels that, times the scales, are nearest."""
    middles = (levels[1:] + levels[:-1]) / 2
    return np.searchsorted(middles, values / np.maximum(scales, _TINY)).astype(np.uint8)


def _hadamard(matrix: np.ndarray, group: int) -> np.ndarray:
    """Transform neighbours in blocks of the largest power of two that divides both group and row; its own inverse."""
    size = np.gcd(matrix.shape[1], group)
    size = int(size & -size)
    blocks, half = matrix.astype(np.float32).reshape(-1, size), 1
    while half < size:
        pairs = blocks.reshape(-1, size // (2 * half), 2, half)
        blocks = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        blocks, half = blocks.reshape(-1, size), 2 * half
    return (blocks * np.float32(1 / np.sqrt(size))).reshape(matrix.shape)
