"""Bits per token and per second, with intervals."""
