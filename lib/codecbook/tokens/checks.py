"""Checks of codes and settings that models of all kinds share."""

from collections.abc import Sequence

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput


def require_positive(name: str, value: float) -> None:
    """Raise UnsupportedInput unless a setting is an integer of 1 or more."""
    if int(value) != value or value < 1:
        raise UnsupportedInput(f"{name}={value}; give an integer of 1 or more.")


def checked_codes(codes: np.ndarray, codebook_sizes: Sequence[int], source: str) -> np.ndarray:
    """Return codes ``[..., K]`` as int64, after checking them; `source` is named in errors.

    Raises:
        UnsupportedInput: Another number of codebooks, or no integers.
        CorruptInput: A code outside its codebook.
    """
    codes = np.asarray(codes)
    K = len(codebook_sizes)
    if not np.issubdtype(codes.dtype, np.integer) or codes.ndim < 2 or codes.shape[-1] != K:
        raise UnsupportedInput(
            f"{source}: codes are {codes.dtype} {list(codes.shape)}, and the model reads integers [..., {K}]; mixed "
            "codecs or codebook counts cannot be trained on or scored together."
        )
    outside = (codes < 0) | (codes >= np.asarray(codebook_sizes))
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise CorruptInput(
            f"{source}: code {codes[at]} at {list(at)} is outside 0..{codebook_sizes[at[-1]] - 1}; the tokens are "
            "damaged, or belong to a codec with larger codebooks."
        )
    return codes.astype(np.int64, copy=False)
