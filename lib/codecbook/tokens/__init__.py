"""Tokens, their orders and their files."""
