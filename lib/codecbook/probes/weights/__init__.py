"""How small weights can get before tokens change: schemes, files, gates, and the published line of work re-run.

Read `packing` (arrays as bytes), `schemes` (the table of all ways to store a matrix), then what measures them.
"""
