"""Tokens as language models read them: a corpus in one memory map, and windows over it."""
