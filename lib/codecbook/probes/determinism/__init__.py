"""Which coders decode on another configuration what was encoded on this one: cells in processes of their own.

A `case.Case` is a folder with a language model, its exact twin and tokens. A `cells.Cell` is a configuration: backend,
threads, instruction set and so on. `matrix.run_matrix` runs each cell in a fresh process, because these settings act
when a process starts, and compares what it computes with the first cell's: hashes of every step, logits, CDF rows,
coded intervals, and the tokens that come out when the cell decodes the first cell's streams.
"""
