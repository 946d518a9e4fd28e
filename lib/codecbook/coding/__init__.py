"""From a token model's logits to bytes and back: integer counts, entropy coders, streams; see ``README.md`` here."""

from typing import TYPE_CHECKING

from codecbook.lazy import lazy_names

if TYPE_CHECKING:
    from codecbook.coding.api import Decoded, compress, compress_file, decompress, decompress_file
    from codecbook.coding.stream.models import default_lm
    from codecbook.coding.stream.reader import inspect, verify

__all__ = ["Decoded", "compress", "compress_file", "decompress", "decompress_file", "default_lm", "inspect", "verify"]

# these need torch, and the coders of integers do not
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "codecbook.coding.api": ("Decoded", "compress", "compress_file", "decompress", "decompress_file"),
        "codecbook.coding.stream.models": ("default_lm",),
        "codecbook.coding.stream.reader": ("inspect", "verify"),
    },
)
