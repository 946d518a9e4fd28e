"""Integers of a quantised matrix to bytes and back, by adaptive models and the project's range coder.

How large an entry will be is expected from its column so far, times how the row's entries so far compare with their
columns. The expected size chooses one of a few adaptive histograms: of the entry itself where entries are small, else
of its leading bits, below which bits are as good as even. Nothing is stored but the coded entries and the mean size
that all columns start from, and a linear predictor where columns correlate, as those of codebooks do: the decoder
learns the same histograms, in integers, and so decodes the same everywhere.
"""

import numpy as np

from codecbook.coding.range_coder import (
    BOTTOM_BITS,
    IMPLIED_BYTES,
    LOW,
    OFFSET,
    POSITION,
    RANGE,
    decode_step,
    encode_end,
    encode_step,
    fresh_state,
    start_decoding,
)
from codecbook.compiled import kernel
from codecbook.errors import CorruptInput, UnsupportedInput

_POINT = 6  # bits behind the point of expected sizes
_HALF = 64
_SYMBOLS = 2 * _HALF  # from -_HALF + 1 on; the first stands for all that lie outside
_SMALL_OCTAVES = _POINT + 3  # of expected sizes below 8, four histograms each; above, leading bits have the last four
_TOTAL_BITS = 22
_COUNT, _MOST = 24, 1 << 17  # what a symbol adds to its histogram, which is halved above
_PRIOR_SYMBOLS = 30  # that a histogram pretends to have seen
_MAX_BITS = 40  # of an entry's size
_MOST_SIZE = 1 << 36  # that a column is expected to have, so that sums of all columns stay below 2^63
_PRODUCT_BITS = 62
_NO_PREDICTOR = np.zeros((0, 0), dtype=np.int64)
_PREDICTOR_POINTS = (5, 8)  # bits behind the point of a predictor's coefficients
_MOST_PREDICTED = 256  # columns; a predictor of more would cost more than it saves
_MOST_COEFFICIENTS = 1 << 22  # sum of a column's, so that no expectation reaches 2^63
_ROW_PRIOR = 6  # columns' worth of doubt that a row is unlike others


def _prior_counts() -> np.ndarray:
    """Return int64 ``[histograms, symbols]`` to start from, of a shape between Laplace and Gauss, in integers."""
    values = [symbol - _HALF for symbol in range(_SYMBOLS)]
    rows = []
    for level in range(4 * _SMALL_OCTAVES):
        size = (4 + level % 4) << (level // 4)  # in units of 2^-(_POINT + 2)
        spread = 6 * size * size + (1 << 2 * _POINT)
        shares = [(spread**3 << 40) // (spread + (x << _POINT + 2) ** 2) ** 3 for x in values]
        rows.append([1 + _COUNT * _PRIOR_SYMBOLS * share // sum(shares) for share in shares])
    return np.array(rows, dtype=np.int64)


_PRIORS = _prior_counts()


def encode_integers(entries: np.ndarray) -> bytes:
    """Encode integers ``[R, C]`` below 2^40 in size, in whichever of several ways is shortest; no shape is stored.

    One is as they are, the others as differences from what a linear predictor expects of the columns before, as far as
    columns correlate; the predictor is part of the bytes.
    """
    entries = np.ascontiguousarray(entries, dtype=np.int64)
    if entries.ndim != 2 or (entries.size and np.abs(entries).max() >> _MAX_BITS):
        raise UnsupportedInput(f"Entries of shape {entries.shape} are no matrix below 2^{_MAX_BITS}; use larger steps.")
    ways = [b"\0" + _encode(entries, _NO_PREDICTOR, 0)]
    if 2 <= entries.shape[1] <= _MOST_PREDICTED and entries.shape[0] >= 2 * entries.shape[1]:
        # of many rows a fine predictor is a small part, and always the better one
        for point in _PREDICTOR_POINTS[-1:] if entries.shape[0] >= 32 * entries.shape[1] else _PREDICTOR_POINTS:
            predictor = _predictor(entries, point)
            stored = _encode(_by_lag(predictor), _NO_PREDICTOR, 0)
            rest = _encode(entries, predictor, point) if _is_moderate(predictor) else b""
            if rest:
                ways.append(bytes([point]) + len(stored).to_bytes(4, "little") + stored + rest)
    return min(ways, key=len)


def predicted_rest(entries: np.ndarray) -> np.ndarray:
    """Return what the finest predictor of entries ``[R, C]`` leaves of them: what `encode_integers` then codes."""
    point = _PREDICTOR_POINTS[-1]
    return entries - (entries @ _predictor(entries, point).T + (1 << point >> 1) >> point)


def decode_integers(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Decode int64 ``[R, C]``, all bytes that `encode_integers` returned; raise CorruptInput for any others."""
    point = data[0] if data else 0
    if not point:
        return _decode(data[1:], shape, _NO_PREDICTOR, 0)
    end = 5 + int.from_bytes(data[1:5], "little")
    if point not in _PREDICTOR_POINTS or shape[1] > _MOST_PREDICTED:
        raise CorruptInput(f"A coded matrix names a predictor of {point} bits; the file is damaged, fetch it again.")
    lags = _decode(data[5:end], (shape[1], shape[1] - 1), _NO_PREDICTOR, 0)
    predictor = _from_lags(lags)
    if not _is_moderate(predictor):
        raise CorruptInput("A coded matrix has a predictor beyond all bounds; the file is damaged, fetch it again.")
    return _decode(data[end:], shape, predictor, point)


def _predictor(entries: np.ndarray, point: int) -> np.ndarray:
    """Return what each column is expected to be, of those before: int64 ``[C, C]`` times ``2^-point``."""
    moment = entries.T.astype(float) @ entries
    moment += np.eye(len(moment)) * (1e-9 * np.trace(moment) / len(moment) + 1e-9)
    factor = np.linalg.cholesky(moment)
    factor /= np.diag(factor)
    return np.rint(np.tril(np.eye(len(factor)) - np.linalg.inv(factor), -1) * (1 << point)).astype(np.int64)


def _is_moderate(predictor: np.ndarray) -> bool:
    return bool(np.abs(predictor).sum(axis=1).max() < _MOST_COEFFICIENTS)


def _by_lag(predictor: np.ndarray) -> np.ndarray:
    """Return coefficients ``[C, C - 1]``, in column n those of the column n + 1 before; nearer ones are larger."""
    C = len(predictor)
    column, lag = np.tril_indices(C, -1)
    lags = np.zeros((C, C - 1), dtype=np.int64)
    lags[column, column - lag - 1] = predictor[column, lag]
    return lags


def _from_lags(lags: np.ndarray) -> np.ndarray:
    column, before = np.tril_indices(len(lags), -1)
    predictor = np.zeros((len(lags), len(lags)), dtype=np.int64)
    predictor[column, before] = lags[column, column - before - 1]
    return predictor


def _encode(entries: np.ndarray, predictor: np.ndarray, point: int) -> bytes:
    """Return the bytes of entries; none where one is too far from what the predictor expects."""
    # the mean size by its leading bits, in one byte
    first = _level(min(int(np.abs(entries).mean() * (1 << _POINT)), _MOST_SIZE) if entries.size else 0)
    buffer, state = np.zeros(16 * entries.size + 16, dtype=np.uint8), fresh_state()
    if not _code(state, buffer, entries, predictor, point, _PRIORS.copy(), _size(first), True):
        return b""
    encode_end(state, buffer)
    return bytes([first]) + buffer[: state[POSITION]].tobytes()


def _decode(data: bytes, shape: tuple[int, int], predictor: np.ndarray, point: int) -> np.ndarray:
    if len(data) < 2 or data[0] > _level(_MOST_SIZE):
        raise CorruptInput("A coded matrix is cut off or damaged; fetch the file again.")
    entries, state = np.zeros(shape, dtype=np.int64), fresh_state()
    coded = np.frombuffer(bytearray(data[1:]), dtype=np.uint8)
    start_decoding(state, coded)
    fine = _code(state, coded, entries, predictor, point, _PRIORS.copy(), _size(data[0]), False)
    if not fine or not _ended(state, coded):
        raise CorruptInput(f"A coded matrix of {shape[0]} x {shape[1]} is damaged or cut off; fetch the file again.")
    return entries


def encode_bits(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Encode int64 ``[N]`` as numbers of so many bits each, 0 to 40."""
    buffer, state = np.zeros(int(widths.sum()) // 8 + 16, dtype=np.uint8), fresh_state()
    _code_all_bits(state, buffer, values.copy(), widths, True)
    encode_end(state, buffer)
    return buffer[: state[POSITION]].tobytes()


def decode_bits(data: bytes, widths: np.ndarray) -> np.ndarray:
    """Decode int64 ``[N]`` of all bytes that `encode_bits` returned; raise CorruptInput for any others."""
    values, state = np.zeros(len(widths), dtype=np.int64), fresh_state()
    coded = np.frombuffer(bytearray(data), dtype=np.uint8)
    start_decoding(state, coded)
    if not _code_all_bits(state, coded, values, widths, False) or not _ended(state, coded):
        raise CorruptInput(f"{len(widths)} coded numbers are damaged or cut off; fetch the file again.")
    return values


def _ended(state: np.ndarray, coded: np.ndarray) -> bool:
    """Say whether the encoder would have ended here with these bytes, as `RangeDecoder.finish` asks."""
    whole = state[POSITION] - IMPLIED_BYTES == len(coded)
    return bool(whole and state[OFFSET] == -state[LOW] % (1 << BOTTOM_BITS))


def _size(level: int) -> int:
    return (4 + level % 4 << level // 4) >> 2


@kernel
def _bit_length(size):
    """Return how many bits a size below 2^63 has."""
    length = 0
    for step in (32, 16, 8, 4, 2, 1):
        if size >> step:
            size >>= step
            length += step
    return length + size


@kernel
def _level(size):
    """Return the octave of a size, and its quarter, as one number."""
    octave = max(_bit_length(size) - 1, 0)
    return 4 * octave + (((size << 2) >> octave) & 3)


@kernel
def _scaled(size, above, below):
    """Return ``size * above // below``, less exactly where the product would not fit."""
    excess = max(_bit_length(size) + _bit_length(above) - _PRODUCT_BITS, 0)
    above >>= excess
    below >>= excess
    return size * above // max(below, 1)


@kernel
def _code(state, buffer, entries, predictor, point, counts, first_size, encode):
    """Encode entries ``[R, C]`` to the buffer, or decode them in place; return whether all are below 2^_MAX_BITS."""
    R, C = entries.shape
    sizes = np.full(C, first_size, dtype=np.int64)
    totals = counts.sum(axis=1)
    interval = np.zeros(2, dtype=np.int64)
    for r in range(R if C else 0):
        mean = sizes.sum() // C * _ROW_PRIOR + 1
        found = expected = mean
        for c in range(C):
            level = _level(_scaled(sizes[c], found, expected))
            shift = max(0, level // 4 + 1 - _SMALL_OCTAVES)
            row = min(level, 4 * _SMALL_OCTAVES - 4 + level % 4)
            expectation = np.int64(0)
            if point:
                for d in range(c):
                    expectation += predictor[c, d] * entries[r, d]
                expectation = (expectation + (1 << point >> 1)) >> point
            value = entries[r, c] - expectation
            if encode and abs(value) >> _MAX_BITS:
                return False
            if encode:
                symbol = (value >> shift) + _HALF
                if not 0 < symbol < _SYMBOLS:
                    symbol = np.int64(0)
            else:
                symbol = np.int64(-1)
            symbol = _code_symbol(state, buffer, counts[row], totals[row], symbol, interval, encode)
            if symbol < 0:
                return False
            totals[row] += _COUNT
            counts[row, symbol] += _COUNT
            if totals[row] > _MOST:
                totals[row] = 0
                for s in range(_SYMBOLS):
                    counts[row, s] = (counts[row, s] + 1) >> 1
                    totals[row] += counts[row, s]
            if symbol == 0:
                value = _code_far(state, buffer, value, interval, encode)
                if value == 1 << _MAX_BITS:
                    return False
            else:
                low = _code_bits(state, buffer, value & ((1 << shift) - 1), shift, interval, encode)
                if low < 0:
                    return False
                value = ((symbol - _HALF) << shift) | low
            if abs(value + expectation) >> _MAX_BITS:
                return False
            entries[r, c] = value + expectation
            size = min(abs(value) << _POINT, _MOST_SIZE)
            found += size
            expected += sizes[c]
            # against its row's, as the column's expectation is of a usual row
            seen = min(_scaled(size, expected, found), _MOST_SIZE)
            sizes[c] += (seen - sizes[c]) // min(r + 3, 48)
    return True


@kernel
def _code_symbol(state, buffer, counts, total, symbol, interval, encode):
    """Code a symbol by its count; return it, or -1 where no symbol has the decoder's bytes."""
    below = np.int64(0)
    if encode:
        for s in range(symbol):
            below += counts[s]
    else:
        target = state[OFFSET] // (state[RANGE] >> _TOTAL_BITS)
        symbol = 0
        while symbol < _SYMBOLS - 1 and ((below + counts[symbol]) << _TOTAL_BITS) < (target + 1) * total:
            below += counts[symbol]
            symbol += 1
    interval[0] = (below << _TOTAL_BITS) // total
    interval[1] = ((below + counts[symbol]) << _TOTAL_BITS) // total
    if encode:
        encode_step(state, buffer, interval[0], interval[1], _TOTAL_BITS)
    elif decode_step(state, buffer, interval, _TOTAL_BITS) != 1:
        return np.int64(-1)
    return np.int64(symbol)


@kernel
def _code_bits(state, buffer, value, width, interval, encode):
    """Code a number of so many even bits, highest first; return it, or -1 where the bytes end."""
    result = np.int64(0)
    while width > 0:
        part = min(width, 16)
        width -= part
        if encode:
            bits = (value >> width) & ((1 << part) - 1)
            encode_step(state, buffer, bits, bits + 1, part)
        else:
            unit = state[RANGE] >> part
            bits = min(state[OFFSET] // unit, (1 << part) - 1)
            interval[0], interval[1] = bits, bits + 1
            found = decode_step(state, buffer, interval, part)
            if found < 0 or (found == 0 and bits > 0):
                return np.int64(-1)
        result = (result << part) | bits
    return result


@kernel
def _code_all_bits(state, buffer, values, widths, encode):
    interval = np.zeros(2, dtype=np.int64)
    for n in range(values.shape[0]):
        values[n] = _code_bits(state, buffer, values[n], widths[n], interval, encode)
        if values[n] < 0:
            return False
    return True


@kernel
def _code_far(state, buffer, value, interval, encode):
    """Code a sign, how many bits the size has, and these; return the value, or 2^_MAX_BITS where the bytes end."""
    size = abs(value)
    length = _bit_length(size)
    sign = _code_bits(state, buffer, 1 if value < 0 else 0, 1, interval, encode)
    length = _code_bits(state, buffer, length, 6, interval, encode)
    if sign < 0 or length < 0 or length > _MAX_BITS:
        return np.int64(1 << _MAX_BITS)
    size = _code_bits(state, buffer, size, length, interval, encode)
    if size < 0:
        return np.int64(1 << _MAX_BITS)
    return -size if sign else size
