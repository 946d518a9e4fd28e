"""From a token model's logits to bytes and back: integer counts, entropy coders, streams."""

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
