"""Bits per token of general compressors: xz, zstd and brotli, on tokens laid out as bytes.

A compressor sees bytes and knows nothing of codebooks, so how codes become bytes decides much of what it can find. All
layouts of `serialisations` are tried, and the best is the fair one to quote.
"""

import lzma
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import brotli
import numpy as np
import zstandard

from codecbook.errors import require_one_of
from codecbook.lm.baselines.ngrams import TokenCost, check_corpora
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens.bits import pack_bits


def _xz(data: bytes) -> bytes:
    """Compress as ``xz -9e``, with a dictionary no larger than the data, which finds as much in less memory."""
    dictionary_bytes = min(64 << 20, max(4096, len(data)))
    preset = 9 | lzma.PRESET_EXTREME
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary_bytes}])


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "xz -9e": _xz,
    "zstd -19": lambda data: zstandard.ZstdCompressor(level=19).compress(data),
    "brotli -11": lambda data: brotli.compress(data, quality=11, lgwin=24),
}
"""Compressors at their highest common setting; sizes are of whole files, with their headers and checksums."""


_SAMPLE_ROWS = 50_000
"""Rows of a corpus with which a serialisation is chosen."""


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


def compressor_costs(held_out: Corpus, compressor: str) -> list[TokenCost]:
    """Compress tokens by one of `COMPRESSORS`; return a cost per serialisation of `serialisations`, the lowest first.

    All clips are one stream, so there is no interval. An unknown compressor, or nothing to compress, raises
    UnsupportedInput.
    """
    rows, compress = _checked(held_out, compressor).rows(), COMPRESSORS[compressor]
    sizes = {name: len(compress(data)) for name, data in serialisations(rows, held_out.codebook_sizes).items()}
    return sorted((_cost(compressor, name, sizes[name], rows.size) for name in sizes), key=lambda c: c.bits_per_token)


def cost_after(corpus: Corpus, held_out: Corpus, compressor: str) -> TokenCost:
    """Return what held-out tokens add to the compressed size of a corpus that they follow, frame after frame.

    So a compressor knows as much as a model that was trained on the corpus, as far as its window reaches. Whether words
    or packed codes are better is found with the beginning of the corpus. Errors are those of `compressor_costs`.
    """
    check_corpora(corpus, held_out)
    rows, compress, sizes = _checked(held_out, compressor).rows(), COMPRESSORS[compressor], held_out.codebook_sizes

    def added_bytes(before: np.ndarray, layout: str) -> int:
        parts = (np.concatenate((before, rows)), before)
        with ThreadPoolExecutor(2) as pool:  # compressors leave the interpreter free
            both, alone = pool.map(lambda part: len(compress(serialisations(part, sizes)[layout])), parts)
        return both - alone

    sample = corpus.rows(_SAMPLE_ROWS)
    layout = min(("words, frames", "packed, frames"), key=lambda name: added_bytes(sample, name))
    return _cost(compressor, f"{layout}, after the corpus", added_bytes(corpus.rows(), layout), rows.size)


def _checked(held_out: Corpus, compressor: str) -> Corpus:
    require_one_of("compressor", compressor, COMPRESSORS)
    check_corpora(None, held_out)
    return held_out


def _cost(compressor: str, layout: str, num_bytes: int, num_tokens: int) -> TokenCost:
    return TokenCost(f"{compressor} ({layout})", np.array([[8.0 * num_bytes]]), np.array([num_tokens]))
