"""Tokens, their orders and their files."""

from codecbook.tokens.tokens import Tokens, tokens_from_frames

__all__ = ["Tokens", "tokens_from_frames"]
