"""Streams of this project's own format: tokens to bytes and back, whole or segment by segment.

The format is called CBS, for "codecbook stream"; files end in ``.cbs``. ``docs/stream-format.md`` is its normative
text. `encode_tokens` and `decode_tokens` do all at once; `StreamWriter` and `StreamReader` work while codes come.
Audio, codecs and language models by name are the business of `codecbook.coding.api`.
"""

import io

from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.locate import StreamLike
from codecbook.coding.stream.reader import StreamReader, StreamTokens
from codecbook.coding.stream.writer import DEFAULT_SEGMENT_S, StreamWriter
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import Tokens


def encode_tokens(
    tokens: Tokens,
    model: ExactLM | None = None,
    *,
    lm_name: str = "",
    codec_segment_stride: int = 0,
    segment_s: float = DEFAULT_SEGMENT_S,
    parity: Parity | None = None,
    exact_sha256: str = "",
    audio_sha256: str = "",
    adapt_step: int = 0,
) -> bytes:
    """Encode tokens of any codec whose codebooks are of one rate, or of rates that double from one to the next.

    The other arguments, and errors, are those of `StreamWriter` and its `close`; segments of the codec must be of one
    length (shorter last ones excepted). The same arguments give the same bytes.

    Example:
        >>> tokens = Tokens(codes=(np.arange(8),), codebook_sizes=(16,), frame_rates_hz=(50.0,))
        >>> decode_tokens(encode_tokens(tokens)).tokens == tokens
        True
    """
    file = io.BytesIO()
    writer = StreamWriter(
        file, tokens.format, model, lm_name, segment_s=segment_s, has_scales=bool(tokens.scales),
        codec_segment_frames=max(tokens.segment_frames, default=0), codec_segment_stride=codec_segment_stride,
        parity=parity, exact_sha256=exact_sha256, adapt_step=adapt_step,
    )  # fmt: skip
    rows = writer.header.layout.to_rows(tokens)
    if len(rows) == 0 and tokens.scales:
        raise UnsupportedInput("Tokens without codes have no gain to keep; leave scales out.")
    writer.write(rows, tokens.segment_frames, tokens.scales)
    writer.close(tokens.num_samples, audio_sha256)
    return file.getvalue()


def decode_tokens(stream: StreamLike, model: ExactLM | None = None) -> StreamTokens:
    """Decode all of a stream; see `StreamReader` for parts of it, and for errors."""
    with StreamReader(stream, model) as reader:
        return reader.read()
