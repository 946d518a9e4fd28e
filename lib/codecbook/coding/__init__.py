"""From a token model's logits to bytes and back: integer counts, entropy coders, streams."""
