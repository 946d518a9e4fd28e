"""Bits per token of general compressors: zlib, bz2, xz, zstd and brotli, on tokens laid out as bytes.

A compressor sees bytes and knows nothing of codebooks, so how codes become bytes decides much of what it can find. All
layouts of `serialisations` are tried, and the best is the fair one to quote.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable

import brotli
import numpy as np
import pandas as pd
import zstandard

from codecbook.errors import UnsupportedInput
from codecbook.lm.baselines.ngrams import TokenCost, check_corpora
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens.bits import pack_bits


def _xz(data: bytes) -> bytes:
    """Compress as ``xz -9e``, with a dictionary no larger than the data, which finds as much in less memory."""
    dictionary_bytes = min(64 << 20, max(4096, len(data)))
    preset = 9 | lzma.PRESET_EXTREME
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary_bytes}])


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zlib -9": lambda data: zlib.compress(data, 9),
    "bz2 -9": lambda data: bz2.compress(data, 9),
    "xz -9e": _xz,
    "zstd -19": lambda data: zstandard.ZstdCompressor(level=19).compress(data),
    "brotli -11": lambda data: brotli.compress(data, quality=11, lgwin=24),
}
"""Compressors at their highest common setting; sizes are of whole files, with their headers and checksums."""


def serialisations(rows: np.ndarray, codebook_sizes: tuple[int, ...]) -> dict[str, bytes]:
    """Lay codes, integers ``[T, K]``, out as bytes in several ways, by name.

    ``words``: a code in 1, 2 or 4 little-endian bytes; ``packed``: in ``ceil(log2 V)`` bits, least significant first.
    ``frames``: frame after frame; ``codebooks``: codebook after codebook, each over all clips.
    """
    words = rows.astype("u1" if max(codebook_sizes) <= 1 << 8 else "<u2" if max(codebook_sizes) <= 1 << 16 else "<u4")
    columns = [pack_bits(rows[:, k : k + 1], (size,)) for k, size in enumerate(codebook_sizes)]
    return {
        "words, frames": words.tobytes(),
        "words, codebooks": words.T.tobytes(),
        "packed, frames": pack_bits(rows, codebook_sizes),
        "packed, codebooks": b"".join(columns),
    }


def compressor_costs(held_out: Corpus, compressor: str, per_clip: bool = False) -> list[TokenCost]:
    """Compress tokens by one of `COMPRESSORS`; return a cost per serialisation of `serialisations`, the lowest first.

    With `per_clip`, each clip is compressed apart, which gives an interval over clips, and costs more, as each begins
    without any knowledge; else all clips are one stream, and there is one figure. An unknown compressor, or nothing to
    compress, raises UnsupportedInput.
    """
    if compressor not in COMPRESSORS:
        raise UnsupportedInput(f"compressor={compressor!r} is unknown; choose one of {', '.join(COMPRESSORS)}.")
    check_corpora(None, held_out)
    parts = [held_out.clip(i) for i in range(len(held_out))] if per_clip else [held_out.rows()]
    tokens = np.array([part.size for part in parts], dtype=np.int64)
    compress = COMPRESSORS[compressor]
    bits = pd.DataFrame(
        {name: 8.0 * len(compress(data)) for name, data in serialisations(part, held_out.codebook_sizes).items()}
        for part in parts
    )
    costs = [TokenCost(f"{compressor} ({name})", bits[[name]].to_numpy(), tokens) for name in bits]
    return sorted(costs, key=lambda cost: cost.bits_per_token)
