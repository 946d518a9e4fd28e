"""What a language model is held against: counts of n-grams, mixtures of them, general compressors."""
