"""From a token model's logits to bytes and back: integer counts, entropy coders, streams."""

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
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "codecbook.coding.api": (
            "Decoded", "StreamReport", "compress", "compress_file", "decompress", "decompress_file", "default_lm",
            "inspect", "verify",
        )
    },
)  # fmt: skip
