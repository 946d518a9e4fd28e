"""Codecs whose tokens and samples are the same on every machine: integers throughout, ``docs/exact-codec.md``."""
