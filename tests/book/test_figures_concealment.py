"""Figures of concealed gaps show what the table and the latents say."""

import numpy as np
import pandas as pd

from codecbook.book.figures.concealment import concealment_quality, latent_lines
from codecbook.codecs import load_codec
from codecbook.coding.conceal import CONCEALMENTS


def test_silence_has_a_line_of_stoi_and_none_of_distance():
    rows = [
        {"gap_ms": gap_ms, "method": method} | dict.fromkeys(("stoi", "stoi_low", "stoi_high"), 0.5 + n / 10)
        | dict.fromkeys(("log_mel_db", "log_mel_db_low", "log_mel_db_high"), 9.0)
        for gap_ms in (107.0, 200.0) for n, method in enumerate(CONCEALMENTS)
    ]  # fmt: skip
    left, right = concealment_quality(pd.DataFrame(rows)).axes
    assert left.get_ylabel() == "STOI"
    labels = [[c.get_label() for c in axes.get_legend_handles_labels()[0]] for axes in (left, right)]
    assert labels == [[*CONCEALMENTS], [*CONCEALMENTS[1:]]]
    lines = left.get_legend_handles_labels()[0]
    assert len({(part.get_color(), part.get_marker(), str(part.get_linestyle())) for part in lines}) == len(lines)


def test_latents_of_a_gap_are_a_line_and_a_level():
    codec = load_codec("fsq_50hz")
    tokens = codec.token_format(1).tokens([np.random.default_rng(0).integers(0, codec.codebook_sizes[0], 60)])
    lost = np.zeros((1, 60), dtype=bool)
    lost[:, 30:34] = True
    (axes,) = latent_lines(codec, tokens, lost, 30).axes
    sent, hold, line = (part.get_ydata() for part in axes.lines)
    assert len(sent) == 34
    np.testing.assert_array_equal(hold[:5], np.full(5, hold[0]))
    np.testing.assert_allclose(line, np.linspace(sent[14], sent[19], 6), atol=1e-5)
