"""Bits per token of general compressors: zlib, bz2, xz, zstd and brotli, on tokens laid out as bytes.

A compressor sees bytes and knows nothing of codebooks, so how codes become bytes decides much of what it can find. All
layouts of `SERIALISATIONS` are tried, and the best is the fair one to quote.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable

import brotli
import numpy as np
import zstandard

from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.ngrams import TokenCost, check_corpora
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens.bits import pack_bits


def _xz_filter(num_bytes: int) -> dict[str, int]:
    """Return the filter of ``xz -9e``, its dictionary no larger than the data, which finds as much in less memory."""
    dictionary_bytes = min(64 << 20, max(4096, num_bytes))
    preset = 9 | lzma.PRESET_EXTREME
    return {"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary_bytes}


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zlib -9": lambda data: zlib.compress(data, 9),
    "bz2 -9": lambda data: bz2.compress(data, 9),
    "xz -9e": lambda data: lzma.compress(data, filters=[_xz_filter(len(data))]),
    "zstd -19": lambda data: zstandard.ZstdCompressor(level=19).compress(data),
    "brotli -11": lambda data: brotli.compress(data, quality=11, lgwin=24),
}
"""Compressors at their highest common setting; sizes are of whole files, with their headers and checksums."""

SERIALISATIONS = ("words, frames", "words, codebooks", "packed, frames", "packed, codebooks")
"""``words``: a code in 1, 2 or 4 little-endian bytes; ``packed``: in ``ceil(log2 V)`` bits, least significant first.
``frames``: frame after frame; ``codebooks``: codebook after codebook, each over all clips."""


def serialise(rows: np.ndarray, codebook_sizes: tuple[int, ...], serialisation: str) -> bytes:
    """Lay codes out as bytes.

    Args:
        rows: Integers ``[T, K]``, each within its codebook.
        codebook_sizes: ``V`` per column.
        serialisation: One of `SERIALISATIONS`.

    Raises:
        UnsupportedInput: An unknown serialisation.
    """
    if serialisation not in SERIALISATIONS:
        raise UnsupportedInput(
            f"serialisation={serialisation!r} is unknown; choose one of {'; '.join(SERIALISATIONS)}."
        )
    code, order = serialisation.split(", ")
    if code == "words":
        dtype = "u1" if max(codebook_sizes) <= 1 << 8 else "<u2" if max(codebook_sizes) <= 1 << 16 else "<u4"
        return np.ascontiguousarray((rows if order == "frames" else rows.T).astype(dtype)).tobytes()
    if order == "frames":
        return pack_bits(rows, codebook_sizes)
    return b"".join(pack_bits(rows[:, k : k + 1], (size,)) for k, size in enumerate(codebook_sizes))


def compressor_costs(held_out: Corpus, compressor: str, per_clip: bool = False) -> list[TokenCost]:
    """Compress tokens, laid out in each of `SERIALISATIONS`.

    Args:
        held_out: What is charged.
        compressor: One of `COMPRESSORS`.
        per_clip: Compress each clip apart, which gives an interval over clips, and costs more, as each begins
            without any knowledge. False: all clips in one stream, and one figure.

    Returns:
        One cost per serialisation, the lowest first; named after both.

    Raises:
        UnsupportedInput: An unknown compressor, or nothing to compress.
    """
    if compressor not in COMPRESSORS:
        raise UnsupportedInput(f"compressor={compressor!r} is unknown; choose one of {', '.join(COMPRESSORS)}.")
    check_corpora(None, held_out)
    sizes = held_out.codebook_sizes
    clips = [held_out.clip(i) for i in range(len(held_out))]
    parts = clips if per_clip else [np.concatenate(clips)]
    tokens = np.array([part.size for part in parts], dtype=np.int64)
    costs = []
    for serialisation in SERIALISATIONS:
        bits = [8 * len(COMPRESSORS[compressor](serialise(part, sizes, serialisation))) for part in parts]
        costs.append(TokenCost(f"{compressor} ({serialisation})", np.array(bits, dtype=np.float64)[:, None], tokens))
    return sorted(costs, key=lambda cost: cost.bits_per_token)
