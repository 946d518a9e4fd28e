"""What damage to a stream costs: injected bytes, lost packets, and whether any reader can be made to fail.

Read `inject` (what is done to bytes), `targets` (the formats it is done to), `damage` (what it costs), and `fuzz`.
"""
