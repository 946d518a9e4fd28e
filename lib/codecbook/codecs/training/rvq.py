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

from codecbook.errors import UnsupportedInput


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


def rvq_quantize(latents: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise latents, float ``[B, D, T]``, with codebooks, float ``[K, V, D]``.

    Returns codes int64 ``[B, K, T]``, quantised latents ``[B, D, T]``, and residuals ``[K, B, D, T]`` as each codebook
    met them.
    """
    batch, _, frames = latents.shape
    stages = residual_stages(latents.transpose(1, 2).flatten(0, 1), codebooks)
    residuals, codes, words = (torch.stack(parts) for parts in zip(*stages, strict=True))
    return (
        codes.unflatten(1, (batch, frames)).transpose(0, 1),
        sum(words, torch.zeros_like(words[0])).unflatten(0, (batch, frames)).transpose(1, 2),
        residuals.unflatten(1, (batch, frames)).transpose(2, 3),
    )


def shares_left(latents: Tensor, codebooks: Tensor) -> list[float]:
    """Return the share of the variance of latents ``[B, D, T]`` that the first codebook leaves, the first two, ..."""
    _, quantised, residuals = rvq_quantize(latents, codebooks)
    left = torch.cat((residuals[1:], (latents - quantised)[None]))  # [K, B, D, T]
    return (left.square().sum(2).mean((1, 2)) / latents.var(dim=(0, 2)).sum()).tolist()


def fit_codebook(vectors: np.ndarray, codebook_size: int, seed: int) -> np.ndarray:
    """Cluster vectors ``[N, D]`` by mini-batch k-means; return float32 ``[V, D]``. Fewer vectors than V are refused.

    The package ``encodec`` materialises all N x V x D differences; scikit-learn does not, and takes seconds.
    """
    if len(vectors) < codebook_size:
        raise UnsupportedInput(f"{len(vectors)} vectors cannot fill a codebook of {codebook_size}; use more audio.")
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
    """Fit codebooks with `fit_codebook`, each to what the ones before it left over; return float32 ``[K, V, D]``.

    The latents ``[N, D]`` should be ten or more a codeword.
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
