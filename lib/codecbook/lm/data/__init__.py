"""Tokens as language models read them: corpora, shards, windows, batches."""
