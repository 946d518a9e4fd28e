"""Tokens, their orders and their files."""

from codecbook.tokens.tokens import TokenFormat, Tokens, tokens_from_frames

__all__ = ["TokenFormat", "Tokens", "tokens_from_frames"]
