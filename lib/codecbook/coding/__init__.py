"""From a token model's logits to bytes and back: integer counts, entropy coders, streams.

A recording becomes a stream in this order: ``api`` (recording, codec, codes), ``stream.writer`` (rows, and which of
them make a segment), ``stream.segment`` (a segment's bytes), ``exact.segments`` with ``exact.kernels`` (rows through
the language model), ``exact.counts`` (logits to intervals), ``range_coder`` (intervals to bytes), ``stream.header``
(header, index and tail). ``stream.locate`` and ``stream.reader`` go back. ``ecdc`` reads and writes EnCodec's own
format with ``arithmetic`` and ``counts``; ``convert`` goes from one format to the other.
"""

from typing import TYPE_CHECKING

from codecbook.lazy import lazy_names

if TYPE_CHECKING:
    from codecbook.coding.api import (
        Decoded,
        StreamReport,
        compress,
        compress_file,
        decompress,
        decompress_file,
        default_lm,
        inspect,
        verify,
    )

__all__ = [
    "Decoded", "StreamReport", "compress", "compress_file", "decompress", "decompress_file", "default_lm", "inspect",
    "verify",
]  # fmt: skip

# these need torch, and the coders of integers do not
__getattr__, __dir__ = lazy_names(__name__, {"codecbook.coding.api": __all__})
