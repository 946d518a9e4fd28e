"""Residual vector quantisation as functions of tensors.

Each codebook quantises what the ones before it left over (Zeghidour et al. 2021, Algorithm 1):
``r_1 = z``, ``c_k = argmin_v |r_k - e_kv|^2``, ``r_{k+1} = r_k - e_{k,c_k}``, ``quantized = sum_k e_{k,c_k}``.
Ties go to the lower index. The results equal those of ``encodec.quantization.ResidualVectorQuantizer``.
"""

from typing import Any, cast

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from codecbook.errors import CorruptInput, UnsupportedInput


def _check_codebooks(codebooks: Tensor, num_codebooks: int | None) -> int:
    if codebooks.ndim != 3:
        raise UnsupportedInput(
            f"Codebooks must have the axes [K, V, D]; received shape {list(codebooks.shape)}."
        )
    count = len(codebooks) if num_codebooks is None else num_codebooks
    if not 1 <= count <= len(codebooks):
        raise UnsupportedInput(f"num_codebooks must be between 1 and {len(codebooks)}; received {count}.")
    return count


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest codeword (Euclidean) of each vector.

    Args:
        vectors: ``[N, D]``.
        codebook: ``[V, D]``.

    Returns:
        int64 ``[N]``.
    """
    # |x|^2 is the same for all codewords of a vector, but upstream adds it: its rounding decides near-ties
    distances = vectors.square().sum(1, keepdim=True) - 2 * vectors @ codebook.T + codebook.square().sum(1)
    return distances.argmin(dim=1)


def rvq_quantize(
    latents: Tensor, codebooks: Tensor, num_codebooks: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise latents with the leading codebooks.

    Args:
        latents: float ``[B, D, T]``.
        codebooks: float ``[K, V, D]``.
        num_codebooks: How many to use; None uses all ``K``.

    Returns:
        (codes int64 ``[B, K, T]``, quantised latents ``[B, D, T]``, residuals ``[K, B, D, T]`` as each codebook met
        them).

    Raises:
        UnsupportedInput: Shapes that do not fit together, or more codebooks than there are.
    """
    count = _check_codebooks(codebooks, num_codebooks)
    if latents.ndim != 3 or latents.shape[1] != codebooks.shape[2]:
        raise UnsupportedInput(
            f"Latents must be [B, {codebooks.shape[2]}, T] for these codebooks; received {list(latents.shape)}."
        )
    batch, dim, frames = latents.shape
    residual = latents.transpose(1, 2).reshape(-1, dim)  # [B * T, D]
    quantized = torch.zeros_like(residual)
    codes, residuals = [], []
    for codebook in codebooks[:count]:
        residuals.append(residual)
        indices = nearest_codes(residual, codebook)
        codes.append(indices)
        quantized = quantized + codebook[indices]
        residual = residual - codebook[indices]
    return (
        torch.stack(codes).view(count, batch, frames).transpose(0, 1),
        quantized.view(batch, frames, dim).transpose(1, 2),
        torch.stack(residuals).view(count, batch, frames, dim).transpose(2, 3),
    )


def rvq_dequantize(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Add up the codewords that codes name.

    Args:
        codes: int64 ``[B, K, T]``, at most as many codebooks as there are.
        codebooks: float ``[K, V, D]``.

    Returns:
        float ``[B, D, T]``.

    Raises:
        CorruptInput: A code outside 0 ... V - 1.
        UnsupportedInput: Other axes, or more codebooks than there are.
    """
    count = _check_codebooks(codebooks, codes.shape[1] if codes.ndim == 3 else None)
    if codes.ndim != 3:
        raise UnsupportedInput(f"Codes must have the axes [B, K, T]; received shape {list(codes.shape)}.")
    if codes.numel() and not (int(codes.min()) >= 0 and int(codes.max()) < codebooks.shape[1]):
        raise CorruptInput(
            f"Codes must lie in 0..{codebooks.shape[1] - 1}; received {int(codes.min())}..{int(codes.max())}."
        )
    quantized = sum(codebooks[k][codes[:, k]] for k in range(count))
    return torch.as_tensor(quantized).transpose(1, 2)


def fit_codebook(vectors: np.ndarray, codebook_size: int, seed: int) -> np.ndarray:
    """Cluster vectors by mini-batch k-means.

    The package ``encodec`` materialises all N x V x D differences; scikit-learn does not, and takes seconds.

    Args:
        vectors: ``[N, D]``.
        codebook_size: Number of clusters, ``V``.
        seed: Seed of start and batches; the result depends on nothing else but the vectors.

    Returns:
        float32 ``[V, D]``.

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
    """Fit codebooks by k-means, each on what the ones before it left over.

    Args:
        vectors: Latents ``[N, D]``; ten or more a codeword.
        num_codebooks: ``K``.
        codebook_size: ``V``.
        seed: Seed of the clustering.

    Returns:
        float32 ``[K, V, D]``.

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


def update_averages(
    vectors: Tensor, codes: Tensor, cluster_size: Tensor, embed_avg: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    """Move a codebook's running averages towards a batch (van den Oord et al. 2017, appendix A.1).

    Args:
        vectors: ``[N, D]``.
        codes: int64 ``[N]``, the nearest codeword of each.
        cluster_size: Running number of vectors a codeword, ``[V]``.
        embed_avg: Running sum of those vectors, ``[V, D]``.
        decay: How much of the old averages stays.

    Returns:
        The new (cluster_size, embed_avg); the codeword is their quotient.
    """
    counts = torch.zeros_like(cluster_size).index_add_(
        0, codes, torch.ones_like(codes, dtype=cluster_size.dtype)
    )
    sums = torch.zeros_like(embed_avg).index_add_(0, codes, vectors.to(embed_avg.dtype))
    return cluster_size * decay + counts * (1 - decay), embed_avg * decay + sums * (1 - decay)
