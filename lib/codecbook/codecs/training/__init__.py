"""Train a codec: recipes, data, losses, the loop."""
