import base64

import numpy as np
import pytest
from bs4 import BeautifulSoup

from codecbook.audio import clip_from_array
from codecbook.book import listen
from codecbook.book.listen import blind
from codecbook.book.listen.takes import flac_bytes
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def clip():
    return clip_from_array(0.5 * np.sin(np.arange(4_000) / 5), 16_000, name="tone")


def test_static_abx_keeps_clips_once_and_plain_players_as_fallback(clip, monkeypatch):
    shown = []
    monkeypatch.setenv("CODECBOOK_BATCH", "1")
    monkeypatch.setattr(blind, "display", lambda html: shown.append(html.data))
    test = listen.abx(clip, clip, clip, labels=("original", "3 kbps", "6 kbps"), trials=4)
    assert test is None
    soup = BeautifulSoup(shown[0], "html.parser")
    assert [a["aria-label"] for a in soup.select("audio")] == ["original", "3 kbps", "6 kbps"]
    assert shown[0].count(base64.b64encode(flac_bytes(clip)).decode()) == 3
    assert soup.select_one("script[type=module]") is not None
    assert soup.select_one(".codecbook-abx")["data-trials"] == "4"


def test_abx_is_a_widget_where_somebody_can_click(clip, monkeypatch):
    monkeypatch.delenv("CODECBOOK_BATCH", raising=False)
    monkeypatch.setattr(blind, "display", lambda widget: None)
    test = listen.abx(clip, clip, clip, trials=10)
    assert [entry["label"] for entry in test.clips] == ["reference", "A", "B"]
    assert (test.trials, test.votes) == (10, [])


def test_abx_refuses_impossible_tests(clip):
    with pytest.raises(UnsupportedInput, match="give labels for reference, A and B"):
        listen.abx(clip, clip, clip, labels=("a", "b"))
    with pytest.raises(UnsupportedInput, match="at least one trial"):
        listen.abx(clip, clip, clip, trials=0)
