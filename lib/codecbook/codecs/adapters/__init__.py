"""One file for each family of codecs."""
