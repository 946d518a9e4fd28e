"""Codecs behind one interface: `load_codec` and what it loads."""

from typing import TYPE_CHECKING

from codecbook.lazy import lazy_names

if TYPE_CHECKING:
    from codecbook.codecs.base import Codec, Weights
    from codecbook.codecs.registry import codec_names, load_codec

__all__ = ["Codec", "Weights", "codec_names", "load_codec"]

# these need torch; what identifies a model by its arrays does not
__getattr__, __dir__ = lazy_names(
    __name__,
    {"codecbook.codecs.base": ("Codec", "Weights"), "codecbook.codecs.registry": ("codec_names", "load_codec")},
)
