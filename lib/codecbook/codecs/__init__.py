"""Codecs behind one interface: `load_codec` and what it loads."""

from codecbook.codecs.base import Codec, Weights
from codecbook.codecs.registry import codec_names, load_codec

__all__ = ["Codec", "Weights", "codec_names", "load_codec"]
