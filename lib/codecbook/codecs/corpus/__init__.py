"""Corpora of tokens: recordings, splits and what is written about them."""
