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


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest of codewords ``[V, D]`` for each of vectors ``[N, D]``, int64 ``[N]``."""
    # |x|^2 is the same for all codewords of a vector, but upstream adds it: its rounding decides near-ties
    distances = vectors.square().sum(1, keepdim=True) - 2 * vectors @ codebook.T + codebook.square().sum(1)
    return distances.argmin(dim=1)


def _check_fit(axes: str, tensor: Tensor, fits: bool, codebooks: Tensor, count: int) -> None:
    if codebooks.ndim != 3 or not 1 <= count <= len(codebooks) or tensor.ndim != 3 or not fits:
        raise UnsupportedInput(
            f"{count} codebooks of {list(codebooks.shape)} and {list(tensor.shape)} do not fit together; give "
            f"codebooks [K, V, D], {axes}, and use 1 to K of them."
        )


def rvq_quantize(latents: Tensor, codebooks: Tensor, num_codebooks: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
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
    count = len(codebooks) if num_codebooks is None else num_codebooks
    fits = latents.shape[1:2] == codebooks.shape[2:]
    _check_fit("latents [B, D, T]", latents, fits, codebooks, count)
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
    count = codes.shape[1]
    _check_fit("codes [B, K, T]", codes, True, codebooks, count)
    if codes.numel() and not (int(codes.min()) >= 0 and int(codes.max()) < codebooks.shape[1]):
        raise CorruptInput(
            f"Codes must lie in 0..{codebooks.shape[1] - 1}; received {int(codes.min())}..{int(codes.max())}."
        )
    quantized = sum(codebooks[k][codes[:, k]] for k in range(count))
    return torch.as_tensor(quantized).transpose(1, 2)


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

    Args:
        vectors: Latents ``[N, D]``; ten or more a codeword.
        num_codebooks: ``K``.
        codebook_size: ``V``.
        seed: Seed of the clustering.

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
