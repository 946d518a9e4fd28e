"""How evenly codebooks are used, and how many bits their codes hold.

Entropies here are estimates from counts of single codes. With few tokens they are biased low. What a language model
needs per token is measured in `codecbook.lm`.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens


def entropy_bits(counts: np.ndarray) -> float:
    """Return the plug-in (maximum-likelihood) entropy of integer counts of any shape, in bits; NaN without counts."""
    total = counts.sum()
    if total == 0:
        return float("nan")
    share = counts[counts > 0] / total
    return float(abs(-np.sum(share * np.log2(share))))  # abs: one code in use gives -0.0


@cache
def even_entropy_bits(size: int, count: int, quantile: float = 0.01) -> float:
    """Return the plug-in entropy, in bits, below which this share of samples of `count` uniform tokens lies.

    A sample of a uniform source never shows ``log2 V`` bits: 5,000 codes of 1,024 show some 9.86. So an entropy below
    ``log2 V`` says nothing of evenness, and one below this value does. 200 samples are simulated, always the same.
    """
    random = np.random.default_rng(0)
    if count < size:  # whichever is less work
        samples = (np.unique(random.integers(size, size=count), return_counts=True)[1] for _ in range(200))
    else:
        samples = iter(random.multinomial(count, np.full(size, 1 / size), size=200))
    return float(np.quantile([entropy_bits(sample) for sample in samples], quantile))


def left_out_bits(tokens: Sequence[Tokens]) -> list[float]:
    """Return what the codes of each clip cost with the frequencies of all other clips, per codebook, in bits a token.

    This is what a coder with fixed frequencies can have on clips like these: unlike the entropy, it does not know
    the frequencies of what it codes. Half a code is added to each count (Krichevsky and Trofimov 1981), as codes
    that the other clips lack must be coded too. NaN for a single clip, which has no others.

    Raises:
        UnsupportedInput: As `codebook_statistics`.
    """
    _check_same_codec(tokens)
    bits = []
    for k, size in enumerate(tokens[0].codebook_sizes):
        counts = np.stack([np.bincount(clip.codes[k], minlength=size) for clip in tokens])  # [clips, V]
        others = counts.sum(axis=0) - counts + 0.5
        cost = -(counts * np.log2(others / others.sum(axis=1, keepdims=True))).sum()
        bits.append(float(cost / counts.sum()) if len(tokens) > 1 else float("nan"))
    return bits


def codebook_statistics(tokens: Sequence[Tokens]) -> pd.DataFrame:
    """Count the codes of clips, pooled, codebook by codebook.

    The plug-in entropy is too low by about ``(used - 1) / (2 count ln 2)`` bits; the corrected value adds that back,
    up to ``log2 V``. Where codes are seen once or twice each, the true bias is larger and both remain too low. Source:
    Miller, Note on the bias of information estimates, 1955; see Paninski, Neural Computation 15, 2003.

    Returns:
        One row per codebook, the coarsest first: ``codebook`` (its index), ``size`` (V), ``frame_rate_hz``, ``count``
        (tokens that were seen), ``used`` (codes that occur), ``usage_of_uniform`` (their number over what is to be
        expected of so many draws from a uniform source, as a share of V would measure the sample's size),
        ``entropy_bits``, ``entropy_if_even_bits`` (`even_entropy_bits`) and ``entropy_corrected_bits`` (per token).

    Raises:
        UnsupportedInput: No tokens, or tokens with different codebooks or rates.
    """
    _check_same_codec(tokens)
    rows = []
    for k, (size, rate_hz) in enumerate(zip(tokens[0].codebook_sizes, tokens[0].frame_rates_hz, strict=True)):
        counts = np.bincount(np.concatenate([clip.codes[k] for clip in tokens]), minlength=size)  # [V]
        count, used, entropy = int(counts.sum()), int(np.count_nonzero(counts)), entropy_bits(counts)
        bias = (used - 1) / (2 * count * np.log(2)) if count else 0.0
        expected = size * (1 - (1 - 1 / size) ** count)
        rows.append(
            {"codebook": k, "size": size, "frame_rate_hz": rate_hz, "count": count, "used": used,
             "usage_of_uniform": used / expected if count else float("nan"), "entropy_bits": entropy,
             "entropy_if_even_bits": even_entropy_bits(size, count),
             "entropy_corrected_bits": float(np.minimum(entropy + bias, np.log2(size)))}
        )  # fmt: skip
    return pd.DataFrame(rows)


def short_of_even_bits(statistics: pd.DataFrame) -> float:
    """Return how far the codebook of `codebook_statistics` that is used most evenly stays below a uniform source.

    In bits a token; 0 or less where 1 in 100 samples of a uniform source would show as little entropy, or less.
    """
    return float((statistics["entropy_if_even_bits"] - statistics["entropy_bits"]).to_numpy().min())


def _check_same_codec(tokens: Sequence[Tokens]) -> None:
    """Refuse tokens that cannot be counted together."""
    if not tokens:
        raise UnsupportedInput("Codes are counted in the tokens of at least one clip; received none.")
    first = tokens[0]
    for clip in tokens:
        if clip.codebook_sizes != first.codebook_sizes or clip.frame_rates_hz != first.frame_rates_hz:
            raise UnsupportedInput(
                f"Tokens with codebooks {first.codebook_sizes} at {first.frame_rates_hz} Hz and with "
                f"{clip.codebook_sizes} at {clip.frame_rates_hz} Hz cannot be counted together; use tokens of one "
                "codec and bandwidth (tokens.leading(...) cuts to fewer codebooks)."
            )
