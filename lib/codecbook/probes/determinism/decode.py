"""Streams of one configuration, decoded by another: which segments come out wrong, and who notices."""

from dataclasses import dataclass

import numpy as np

from codecbook.errors import CodecbookError
from codecbook.probes.determinism.coders import Coder
from codecbook.probes.determinism.compare import intervals
from codecbook.probes.determinism.steps import Steps


@dataclass(frozen=True)
class DecodedSegment:
    """What came out of one segment.

    Attributes:
        codes: int64 ``[T, K]``; zeros from where decoding broke off.
        error: What the decoder raised; empty if it went through.
        reencodes: Whether its tokens, encoded with the CDFs that they were decoded with, give the bytes that were read.
    """

    codes: np.ndarray
    error: str
    reencodes: bool


def encode_segments(coder: Coder, cdf: np.ndarray, codes: np.ndarray) -> list[bytes]:
    """Return the bytes of each segment, for CDFs ``[N, T, K, V]`` and codes ``[N, T, K]``.

    Raises:
        UnsupportedInput: A code that upstream's coder cannot express.
    """
    streams = []
    for segment, rows in zip(codes, cdf, strict=True):
        encoder = coder.encoder()
        encoder.push_frames(segment.T, rows)
        streams.append(encoder.finish())
    return streams


def ideal_bits(coder: Coder, cdf: np.ndarray, codes: np.ndarray) -> float:
    """Return what the codes cost under these CDFs, in bits: no coder undercuts it."""
    ends = intervals(cdf, codes)
    return float((coder.total_bits - np.log2(ends[..., 1] - ends[..., 0])).sum())


def decode_segments(
    coder: Coder, steps: Steps, streams: list[bytes], num_frames: int, num_codebooks: int
) -> list[DecodedSegment]:
    """Decode segments side by side, code by code, as a decoder must.

    A segment that breaks off goes on with code 0 until all are done, so that the others keep their batch.
    """
    B = len(streams)
    decoders, encoders = [coder.decoder(data) for data in streams], [coder.encoder() for _ in streams]
    errors = [""] * B
    codes = np.zeros((B, num_frames, num_codebooks), dtype=np.int64)
    steps.start(B)
    for t in range(num_frames):
        for k in range(num_codebooks):
            rows = coder.cdf(steps.logits(codes[:, t, :k]))
            for b in range(B):
                if errors[b]:
                    continue
                try:
                    codes[b, t, k] = decoders[b].pull(rows[b])
                    encoders[b].push(int(codes[b, t, k]), rows[b])
                except CodecbookError as error:
                    errors[b] = f"frame {t}: {error}"
        if t < num_frames - 1:
            steps.push(codes[:, t])
    return [
        DecodedSegment(codes[b], errors[b], not errors[b] and encoders[b].finish() == streams[b])
        for b in range(B)
    ]
