"""Integer counts and the segments that are coded with them."""
