"""How good, how large and how fast: quality, information, intervals and real-time factors."""
