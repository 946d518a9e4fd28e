"""Listening: players of takes on one clock, blind tests, and what listeners answered.

Clips are kept as 16-bit FLAC, so that what is judged is the codec and not the page's own compression. The scripts are
files of ``assets``: in JupyterLab they are a widget whose state reaches Python; in a batch run they are inlined in the
report beside plain players, which stay where no script runs.
"""

from codecbook.book.listen.answers import read_answers
from codecbook.book.listen.blind import abx, mushra
from codecbook.book.listen.player import player, player_html, player_widget
from codecbook.book.listen.pooling import measure_conditions, pool
from codecbook.book.listen.takes import Take

__all__ = [
    "Take",
    "abx",
    "measure_conditions",
    "mushra",
    "player",
    "player_html",
    "player_widget",
    "pool",
    "read_answers",
]
