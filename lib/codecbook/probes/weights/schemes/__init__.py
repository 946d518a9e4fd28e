"""Every way to store a matrix of weights: `table` lists them; `packing` and `entropy` make bytes of what they say."""
