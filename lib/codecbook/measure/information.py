"""How many bits: nominal and actual bitrates, codebook usage and entropy, information per second.

Entropies here are estimates from counts, of single codes or of neighbouring ones. With few tokens they are
biased low, and the statistics say how much to believe them. What a language model needs per token is measured
in `codecbook.lm`; `information_rate` turns that into bits per second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens


@dataclass(frozen=True)
class CodebookStatistics:
    """How one codebook is used by a set of clips.

    The plug-in entropy is too low by about ``(used - 1) / (2 count ln 2)`` bits (Miller 1955); the corrected
    value adds that back. Where codes are seen once or twice each, the true bias is larger than this first-order
    term and both remain too low: `coverage` near 1 is what makes them trustworthy.

    Attributes:
        codebook: Index, 0 is the coarsest.
        size: ``V``.
        frame_rate_hz: Codes per second.
        count: Tokens that were seen.
        used: Codes that occur at least once.
        usage: ``used / size``.
        usage_if_uniform: Usage to be expected of `count` draws from a uniform source: what "all codes in use" would
            look like with this little data.
        coverage: Good-Turing estimate of the probability that the next token is a code already seen.
        entropy_bits: Plug-in entropy of the codes.
        entropy_corrected_bits: The same with Miller and Madow's correction, at most ``log2 V``.
        utilisation: Plug-in entropy over ``log2 V``.
        perplexity: ``2 ** entropy_bits``.
        conditional_entropy_bits: Plug-in entropy of a code given the same codebook's code one frame before.
        pair_coverage: `coverage` for such pairs; far below 1, the conditional entropy says nothing.
    """

    codebook: int
    size: int  # codes
    frame_rate_hz: float  # Hz
    count: int  # tokens
    used: int  # codes
    usage: float  # 0 to 1
    usage_if_uniform: float  # 0 to 1
    coverage: float  # 0 to 1
    entropy_bits: float  # bit/token
    entropy_corrected_bits: float  # bit/token
    utilisation: float  # 0 to 1
    perplexity: float  # codes
    conditional_entropy_bits: float  # bit/token
    pair_coverage: float  # 0 to 1


@dataclass(frozen=True)
class InformationRate:
    """What a token stream carries, by a model's cross-entropy, after TrelisResearch/audio-bits.

    Attributes:
        bits_per_token: Held-out cross-entropy in bits, without label smoothing.
        tokens_per_s: Measured: tokens over duration.
        bits_per_s: Information: ``bits_per_token * tokens_per_s``.
        capacity_bits_per_s: ``tokens_per_s * log2 V``.
        utilisation: ``bits_per_token / log2 V``.
        bits_per_byte: All bits over the transcript's UTF-8 bytes (our definition); None without a transcript.
    """

    bits_per_token: float  # bit/token
    tokens_per_s: float  # token/s
    bits_per_s: float  # bit/s
    capacity_bits_per_s: float  # bit/s
    utilisation: float  # 0 to 1; above 1 where the model is worse than guessing
    bits_per_byte: float | None  # bit/byte


def nominal_bitrate_kbps(codebook_sizes: Sequence[int], frame_rates_hz: Sequence[float]) -> float:
    """Return the bitrate of the raw codes, ``sum(rate_k * log2 V_k) / 1000``.

    Example:
        >>> nominal_bitrate_kbps([1024] * 8, [75.0] * 8)
        6.0

    Raises:
        UnsupportedInput: Not one rate per codebook, or a size or rate that is not positive.
    """
    if len(codebook_sizes) != len(frame_rates_hz) or not codebook_sizes:
        raise UnsupportedInput(
            f"{len(codebook_sizes)} codebook sizes and {len(frame_rates_hz)} frame rates; give one rate per codebook."
        )
    if min(codebook_sizes) < 1 or min(frame_rates_hz) <= 0:
        raise UnsupportedInput(
            f"Codebook sizes must be at least 1 and frame rates positive; received {list(codebook_sizes)} and "
            f"{list(frame_rates_hz)}."
        )
    return float(np.dot(frame_rates_hz, np.log2(codebook_sizes)) / 1000)


def actual_bitrate_kbps(num_bytes: int, duration_s: float) -> float:
    """Return the bitrate of a file or stream, headers and padding included: ``8 * bytes / duration / 1000``.

    Raises:
        UnsupportedInput: Negative bytes, or a duration that is not positive.
    """
    if num_bytes < 0 or not duration_s > 0:
        raise UnsupportedInput(
            f"num_bytes must be at least 0 and duration_s positive; received {num_bytes} and {duration_s}."
        )
    return 8 * num_bytes / duration_s / 1000


def entropy_bits(counts: np.ndarray) -> float:
    """Return the plug-in (maximum-likelihood) entropy of counts of any shape, in bits; NaN without counts."""
    counts = _check_counts(counts)
    total = counts.sum()
    if total == 0:
        return float("nan")
    share = counts[counts > 0] / total
    return float(abs(-np.sum(share * np.log2(share))))  # abs: one code in use gives -0.0


def entropy_miller_madow_bits(counts: np.ndarray) -> float:
    """Return the entropy in bits with the first-order correction of its bias, ``+ (used - 1) / (2 N ln 2)``.

    Source: Miller, Note on the bias of information estimates, 1955; see Paninski, Neural Computation 15, 2003.
    """
    counts = _check_counts(counts)
    total = counts.sum()
    if total == 0:
        return float("nan")
    return entropy_bits(counts) + float((np.count_nonzero(counts) - 1) / (2 * total * np.log(2)))


def sample_coverage(counts: np.ndarray) -> float:
    """Return the Good-Turing estimate of the probability mass that was seen, ``1 - singletons / N``; NaN without.

    Source: Good, The population frequencies of species, Biometrika 40, 1953.
    """
    counts = _check_counts(counts)
    total = counts.sum()
    return float(1 - np.count_nonzero(counts == 1) / total) if total else float("nan")


def codebook_statistics(tokens: Tokens | Sequence[Tokens]) -> list[CodebookStatistics]:
    """Count the codes of one or more clips, codebook by codebook.

    Counts of several clips are pooled. Pairs of neighbouring frames are taken within a clip, and within a segment
    where the codec works in segments, never across.

    Args:
        tokens: Of one codec.

    Returns:
        One record per codebook, coarsest first.

    Raises:
        UnsupportedInput: No tokens, or tokens with different codebooks or rates.
    """
    clips = [tokens] if isinstance(tokens, Tokens) else list(tokens)
    if not clips:
        raise UnsupportedInput("codebook_statistics needs the tokens of at least one clip; received none.")
    first = clips[0]
    for clip in clips:
        if clip.codebook_sizes != first.codebook_sizes or clip.frame_rates_hz != first.frame_rates_hz:
            raise UnsupportedInput(
                f"Tokens with codebooks {first.codebook_sizes} at {first.frame_rates_hz} Hz and with "
                f"{clip.codebook_sizes} at {clip.frame_rates_hz} Hz cannot be counted together; use tokens of one "
                "codec and bandwidth (tokens.leading(...) cuts to fewer codebooks)."
            )
    return [_statistics_of(clips, k) for k in range(first.num_codebooks)]


def entropy_bitrate_kbps(statistics: Sequence[CodebookStatistics], corrected: bool = False) -> float:
    """Return the bitrate that ideal entropy coding with fixed code frequencies would reach.

    The sum of frame rate times entropy over the codebooks. The frequencies are those of the tokens themselves, so
    it is optimistic for small samples; a coder also has to get them across.

    Args:
        statistics: From `codebook_statistics`.
        corrected: Use the Miller-Madow entropy.
    """
    return (
        sum(
            record.frame_rate_hz * (record.entropy_corrected_bits if corrected else record.entropy_bits)
            for record in statistics
        )
        / 1000
    )


def information_rate(
    bits_per_token: float,
    num_tokens: int,
    duration_s: float,
    vocabulary_size: int,
    transcript_bytes: int | None = None,
) -> InformationRate:
    """Turn a model's bits per token into bits per second and their share of the capacity.

    Args:
        bits_per_token: Held-out cross-entropy, bits, without label smoothing.
        num_tokens: Tokens of the held-out set.
        duration_s: Its duration.
        vocabulary_size: ``V``; for interleaved codebooks with separate ids their sum, as the capacity is then
            defined.
        transcript_bytes: UTF-8 bytes of its transcript.

    Raises:
        UnsupportedInput: A value outside its range.
    """
    if not (bits_per_token >= 0 and num_tokens > 0 and duration_s > 0 and vocabulary_size > 1):
        raise UnsupportedInput(
            "bits_per_token must be at least 0, num_tokens and duration_s positive and vocabulary_size above 1; "
            f"received {bits_per_token}, {num_tokens}, {duration_s} and {vocabulary_size}."
        )
    if transcript_bytes is not None and transcript_bytes <= 0:
        raise UnsupportedInput(
            f"transcript_bytes must be positive; received {transcript_bytes}. Pass None without a transcript."
        )
    tokens_per_s = num_tokens / duration_s
    return InformationRate(
        bits_per_token=bits_per_token,
        tokens_per_s=tokens_per_s,
        bits_per_s=bits_per_token * tokens_per_s,
        capacity_bits_per_s=tokens_per_s * float(np.log2(vocabulary_size)),
        utilisation=bits_per_token / float(np.log2(vocabulary_size)),
        bits_per_byte=bits_per_token * num_tokens / transcript_bytes if transcript_bytes else None,
    )


def _statistics_of(clips: Sequence[Tokens], k: int) -> CodebookStatistics:
    size = clips[0].codebook_sizes[k]
    stretches = [stretch for clip in clips for stretch in _stretches(clip, k)]
    codes = np.concatenate(stretches)
    counts = np.bincount(codes, minlength=size)  # [V]
    previous = np.concatenate([stretch[:-1] for stretch in stretches])
    following = np.concatenate([stretch[1:] for stretch in stretches])
    # V^2 may be 4 billion (NeuCodec), so only the pairs that occur are counted
    pair_counts = np.unique(previous * size + following, return_counts=True)[1]
    used = int(np.count_nonzero(counts))
    capacity_bits = float(np.log2(size))
    entropy = entropy_bits(counts)
    return CodebookStatistics(
        codebook=k,
        size=size,
        frame_rate_hz=clips[0].frame_rates_hz[k],
        count=len(codes),
        used=used,
        usage=used / size,
        usage_if_uniform=float(1 - (1 - 1 / size) ** len(codes)),
        coverage=sample_coverage(counts),
        entropy_bits=entropy,
        entropy_corrected_bits=float(np.minimum(entropy_miller_madow_bits(counts), capacity_bits)),
        utilisation=entropy / capacity_bits if size > 1 else float("nan"),
        perplexity=2**entropy,
        # the chain rule on the same pairs: H(c_t | c_t-1) = H(c_t-1, c_t) - H(c_t-1)
        conditional_entropy_bits=max(0.0, entropy_bits(pair_counts) - entropy_bits(np.bincount(previous)))
        if len(previous)
        else float("nan"),
        pair_coverage=sample_coverage(pair_counts),
    )


def _stretches(clip: Tokens, k: int) -> list[np.ndarray]:
    """Return the codes of codebook `k` in stretches without a seam: segments where there are any, else the clip."""
    if not clip.segment_frames:
        return [clip.codes[k]]
    return np.split(clip.codes[k], np.cumsum(clip.segment_frames)[:-1])


def _check_counts(counts: np.ndarray) -> np.ndarray:
    array = np.asarray(counts).ravel()
    if array.size and (not np.issubdtype(array.dtype, np.integer) or array.min() < 0):
        raise UnsupportedInput(
            f"Counts must be integers of at least 0; received {array.dtype} with minimum {array.min()}. Count codes "
            "with np.bincount(codes, minlength=V)."
        )
    return array
