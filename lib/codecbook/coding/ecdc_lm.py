"""Tokens to bytes and back with a language model, as ``.ecdc`` does it: one frame at a time, no audio involved.

The model sees the codes of the frame before (zeros at first, then ``1 + code``) and gives all codebooks'
distributions for the next one, which become CDFs (`codecbook.coding.counts`) and intervals of an arithmetic coder.
Encoder and decoder must take the same steps: what a model gives for a whole sequence at once, or with another number
of threads, differs in last bits.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from codecbook.coding.arithmetic import GridDecoder, GridEncoder, UpstreamDecoder, UpstreamEncoder
from codecbook.coding.cdf import as_array, coded_intervals
from codecbook.coding.counts import GridDialect
from codecbook.coding.ecdc_stepper import PackageStepper, as_stepper
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput


@dataclass(frozen=True, eq=False)
class CodedStep:
    """One frame as it was coded: everything that must agree between an encoder and a decoder.

    Attributes:
        segment: Which segment of the stream, from 0.
        frame: Which frame of the segment, from 0.
        logits: float32 or float64 ``[V, K]``, in nats, before the grid; of a model that gives probabilities only,
            their logarithms.
        cdf: int64 ``[K, V]``.
        cum_low: int64 ``[K]``, where the interval of the code begins, of 2^24.
        cum_high: int64 ``[K]``, where it ends.
        codes: int64 ``[K]``.
    """

    segment: int
    frame: int
    logits: np.ndarray  # nats
    cdf: np.ndarray  # of 2^24
    cum_low: np.ndarray  # of 2^24
    cum_high: np.ndarray  # of 2^24
    codes: np.ndarray


StepHook = Callable[[CodedStep], None]
"""Called after every frame, in the order of coding."""


@dataclass(frozen=True, eq=False)
class DecodedTokens:
    """What a stream held.

    Attributes:
        codes: int64 ``[K, T]``.
        bytes_consumed: Length of the stream; upstream's segments follow each other without any other mark.
    """

    codes: np.ndarray
    bytes_consumed: int  # bytes


def encode_tokens(
    codes: Any,
    lm: nn.Module | PackageStepper,
    dialect: GridDialect | None = None,
    *,
    on_step: StepHook | None = None,
    segment: int = 0,
) -> bytes:
    """Encode the tokens of one segment.

    Args:
        codes: Integers ``[K, T]``.
        lm: A language model, or one that is placed already.
        dialect: See `PackageStepper`; leave it out with one.
        on_step: Sees every frame.
        segment: What to call this segment in `CodedStep`.

    Raises:
        CorruptInput: A code outside the model's range.
        UnsupportedInput: Codes of another shape or type, too many codebooks, or a symbol that upstream's coder cannot
            express (see `codecbook.coding.arithmetic.UpstreamEncoder`).
    """
    stepper = as_stepper(lm, dialect)
    array = as_array(codes)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise UnsupportedInput(f"Codes must be integers [K, T]; received {array.dtype} {list(array.shape)}.")
    array = array.astype(np.int64, copy=False)
    stepper.start(len(array))
    encoder = UpstreamEncoder() if stepper.dialect is None else GridEncoder()
    last = None
    for t in range(array.shape[1]):
        logits, cdf = stepper.step(last)
        last = np.ascontiguousarray(array[:, t])
        with _naming(segment, t):
            encoder.push_frames(last[:, None], cdf[None])
        if on_step is not None:
            on_step(_coded_step(segment, t, logits, cdf, last))
    return encoder.finish()


def decode_tokens(
    data: bytes,
    lm: nn.Module | PackageStepper,
    num_codebooks: int,
    num_frames: int,
    dialect: GridDialect | None = None,
    *,
    verify: bool = True,
    on_step: StepHook | None = None,
    segment: int = 0,
) -> DecodedTokens:
    """Decode the tokens of one segment; bytes that follow it are left alone.

    Damage, or another machine's rounding, gives wrong tokens rather than an error. Most of it shows at the end: the
    decoded tokens are encoded along the way, and must give the bytes that were read. That adds no bit to the format
    and leaves about one failure in 2^24 unseen.

    Args:
        data: From the first byte of the segment on.
        lm: As for `encode_tokens`.
        num_codebooks: K.
        num_frames: T.
        dialect: As for `encode_tokens`.
        verify: False skips the comparison, to look at the wrong tokens.
        on_step: Sees every frame that could be decoded.
        segment: What to call this segment in `CodedStep` and in errors.

    Raises:
        CorruptInput: The bytes run out, point at no symbol, or are not those of the decoded tokens.
        UnsupportedInput: Too many codebooks for the model.
    """
    stepper = as_stepper(lm, dialect)
    stepper.start(num_codebooks)
    upstream = stepper.dialect is None
    decoder = (UpstreamDecoder if upstream else GridDecoder)(data)
    encoder = (UpstreamEncoder if upstream else GridEncoder)()
    frames: list[np.ndarray] = []  # grows with what the bytes hold, whatever a header claims
    for t in range(num_frames):
        logits, cdf = stepper.step(frames[-1] if frames else None)
        with _naming(segment, t):
            frames.append(decoder.pull_frames(cdf[None])[0])
        if verify:
            encoder.push_frames(frames[-1][:, None], cdf[None])
        if on_step is not None:
            on_step(_coded_step(segment, t, logits, cdf, frames[-1]))
    consumed = decoder.bytes_consumed
    if verify and encoder.finish() != data[:consumed]:
        raise CorruptInput(
            f"Segment {segment}: its {consumed} bytes are not those that the decoded tokens have; they are damaged, or "
            "the language model or its rounding (machine, threads, type) is not the encoder's."
        )
    codes = np.stack(frames, axis=1) if frames else np.empty((num_codebooks, 0), dtype=np.int64)
    return DecodedTokens(codes, consumed)


def _coded_step(
    segment: int, frame: int, logits: np.ndarray, cdf: np.ndarray, codes: np.ndarray
) -> CodedStep:
    low, high = coded_intervals(codes[:, None], cdf[None])
    return CodedStep(segment, frame, logits, cdf, low[0], high[0], codes)


@contextlib.contextmanager
def _naming(segment: int, frame: int) -> Iterator[None]:
    """Say in an error which segment and frame it is about."""
    try:
        yield
    except CodecbookError as error:
        raise type(error)(f"Segment {segment}, frame {frame}: {error}") from error
