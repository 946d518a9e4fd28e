"""Residual vector quantisation as functions of tensors.

Each codebook quantises what the ones before it left over (Zeghidour et al. 2021, Algorithm 1):
``r_1 = z``, ``c_k = argmin_v |r_k - e_kv|^2``, ``r_{k+1} = r_k - e_{k,c_k}``, ``quantized = sum_k e_{k,c_k}``.
Ties go to the lower index. The results equal those of ``encodec.quantization.ResidualVectorQuantizer``.
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from codecbook.errors import CorruptInput, UnsupportedInput


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest of codewords ``[V, D]`` for each of vectors ``[N, D]``, int64 ``[N]``."""
    # |x|^2 is the same for all codewords of a vector, but upstream adds it: its rounding decides near-ties
    distances = vectors.square().sum(1, keepdim=True) - 2 * vectors @ codebook.T + codebook.square().sum(1)
    return distances.argmin(dim=1)


def residual_stages(vectors: Tensor, codebooks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield of each codebook the vectors ``[N, D]`` that it meets, their codes int64 ``[N]`` and codewords ``[N, D]``.

    Gradients flow through the vectors alone.
    """
    residual = vectors
    for codebook in codebooks:
        codes = nearest_codes(residual.detach(), codebook)
        words = codebook[codes]
        yield residual, codes, words
        residual = residual - words


def rvq_quantize(latents: Tensor, codebooks: Tensor, num_codebooks: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise latents, float ``[B, D, T]``, with the leading codebooks (None: all) of float ``[K, V, D]``.

    Returns:
        (codes int64 ``[B, K, T]``, quantised latents ``[B, D, T]``, residuals ``[K, B, D, T]`` as each codebook met
        them).

    Raises:
        UnsupportedInput: Shapes that do not fit together, or more codebooks than there are.
    """
    count = len(codebooks) if num_codebooks is None else num_codebooks
    _check_fit("latents [B, D, T]", latents, latents.shape[1:2] == codebooks.shape[2:], codebooks, count)
    batch, _, frames = latents.shape
    stages = residual_stages(latents.transpose(1, 2).flatten(0, 1), codebooks[:count])
    residuals, codes, words = (torch.stack(parts) for parts in zip(*stages, strict=True))
    return (
        codes.unflatten(1, (batch, frames)).transpose(0, 1),
        sum(words, torch.zeros_like(words[0])).unflatten(0, (batch, frames)).transpose(1, 2),
        residuals.unflatten(1, (batch, frames)).transpose(2, 3),
    )


def rvq_dequantize(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Add up the codewords that codes, int64 ``[B, K, T]``, name; return float ``[B, D, T]``.

    `codebooks` are float ``[K, V, D]``, at least as many as there are codes a frame.

    Raises:
        CorruptInput: A code outside 0 ... V - 1.
        UnsupportedInput: Other axes, or more codebooks than there are.
    """
    count = codes.shape[1]
    _check_fit("codes [B, K, T]", codes, True, codebooks, count)
    if codes.numel() and not (int(codes.min()) >= 0 and int(codes.max()) < codebooks.shape[1]):
        raise CorruptInput(
            f"Codes must lie in 0..{codebooks.shape[1] - 1}; received {int(codes.min())}..{int(codes.max())}."
        )
    quantized = sum(codebooks[k][codes[:, k]] for k in range(count))
    return torch.as_tensor(quantized).transpose(1, 2)


def _check_fit(axes: str, tensor: Tensor, fits: bool, codebooks: Tensor, count: int) -> None:
    if codebooks.ndim != 3 or not 1 <= count <= len(codebooks) or tensor.ndim != 3 or not fits:
        raise UnsupportedInput(
            f"{count} codebooks of {list(codebooks.shape)} and {list(tensor.shape)} do not fit together; give "
            f"codebooks [K, V, D], {axes}, and use 1 to K of them."
        )


def fit_codebook(vectors: np.ndarray, codebook_size: int, seed: int) -> np.ndarray:
    """Cluster vectors ``[N, D]`` by mini-batch k-means; return float32 ``[V, D]``.

    The package ``encodec`` materialises all N x V x D differences; scikit-learn does not, and takes seconds.

    Raises:
        UnsupportedInput: Fewer vectors than clusters.
    """
    if len(vectors) < codebook_size:
        raise UnsupportedInput(
            f"{len(vectors)} vectors cannot fill a codebook of {codebook_size}; use more audio or a smaller codebook."
        )
    kmeans: Any = MiniBatchKMeans(
        n_clusters=codebook_size,
        init="random",
        n_init=cast(Any, 1),  # the annotation knows only "auto"
        batch_size=4096,
        max_iter=30,
        max_no_improvement=20,
        reassignment_ratio=0.02,
        random_state=seed,
    )
    return kmeans.fit(np.ascontiguousarray(vectors, dtype=np.float32)).cluster_centers_.astype(np.float32)


def init_codebooks(vectors: Tensor, num_codebooks: int, codebook_size: int, seed: int) -> Tensor:
    """Fit codebooks by k-means, each on what the ones before it left over; return float32 ``[K, V, D]``.

    The latents ``[N, D]`` should be ten or more a codeword.

    Raises:
        UnsupportedInput: Fewer vectors than codewords.
    """
    residual = vectors.detach().cpu().float()
    codebooks = []
    for position in range(num_codebooks):
        codebook = torch.from_numpy(fit_codebook(residual.numpy(), codebook_size, seed + position))
        codebooks.append(codebook)
        residual = residual - codebook[nearest_codes(residual, codebook)]
    return torch.stack(codebooks)


def cluster_sums(vectors: Tensor, codes: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """Return how many vectors ``[N, D]`` each codeword was nearest to, float ``[V]``, and their sums ``[V, D]``."""
    counts = vectors.new_zeros(codebook_size).index_add_(0, codes, torch.ones_like(vectors[:, 0]))
    sums = vectors.new_zeros(codebook_size, vectors.shape[1]).index_add_(0, codes, vectors)
    return counts, sums
