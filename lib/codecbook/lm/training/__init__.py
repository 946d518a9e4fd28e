"""Train a language model: options, schedule, the loop, checkpoints."""
