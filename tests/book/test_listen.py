import base64
import io

import numpy as np
import pytest
import soundfile
from bs4 import BeautifulSoup

from codecbook.audio import clip_from_array
from codecbook.book import listen
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def clip():
    return clip_from_array(0.5 * np.sin(np.arange(4_000) / 5), 16_000, name="tone")


def decoded(audio) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(base64.b64decode(audio["src"].partition(",")[2])), dtype="float32")


def test_a_player_holds_the_clip_to_16_bits(clip):
    soup = BeautifulSoup(listen.grid_html({'the "tone"': clip}), "html.parser")
    samples, rate_hz = decoded(soup.audio)
    assert rate_hz == 16_000
    assert soup.audio["aria-label"] == 'the "tone"'
    assert soup.audio["preload"] == "metadata"
    # half a step of 16-bit quantisation, and float32 rounding
    np.testing.assert_allclose(samples, clip.samples[0], rtol=0, atol=0.51 / 2**15)


def test_grid_turns_all_clips_down_by_one_factor(clip):
    loud = clip_from_array(4 * clip.samples, 16_000)
    soup = BeautifulSoup(listen.grid_html({"quiet": clip, "loud": loud}), "html.parser")
    quiet_peak, loud_peak = (np.abs(decoded(audio)[0]).max() for audio in soup.select("audio"))
    assert loud_peak == pytest.approx(1.0, abs=2e-4)
    assert quiet_peak == pytest.approx(0.25, abs=2e-4)
    assert len(soup.select("img[alt]")) == 2


def test_grid_as_a_table(clip):
    soup = BeautifulSoup(listen.grid_html({"speech": {"original": clip, "6 kbps": clip}}, "Listen"), "html.parser")
    assert [th.get_text() for th in soup.select('th[scope="col"]')] == ["original", "6 kbps"]
    assert [a["aria-label"] for a in soup.select("audio")] == ["speech, original", "speech, 6 kbps"]
    with pytest.raises(UnsupportedInput, match="every row the same"):
        listen.grid_html({"a": {"x": clip}, "b": {"y": clip}})
    with pytest.raises(UnsupportedInput, match="give clips"):
        listen.grid_html({})


def test_flac_refuses_what_it_cannot_hold(clip):
    for channels, samples in ((9, 100), (1, 0)):
        with pytest.raises(UnsupportedInput, match="1 to 8"):
            listen.flac_bytes(clip_from_array(np.zeros((channels, samples), np.float32), 8_000))


def test_static_abx_keeps_clips_once_and_plain_players_as_fallback(clip, monkeypatch):
    shown = []
    monkeypatch.setenv("CODECBOOK_BATCH", "1")
    monkeypatch.setattr(listen, "display", lambda html: shown.append(html.data))
    test = listen.abx(clip, clip, clip, labels=("original", "3 kbps", "6 kbps"), trials=4)
    assert test is None
    soup = BeautifulSoup(shown[0], "html.parser")
    assert [a["aria-label"] for a in soup.select("audio")] == ["original", "3 kbps", "6 kbps"]
    assert shown[0].count(base64.b64encode(listen.flac_bytes(clip)).decode()) == 3
    assert soup.select_one("script[type=module]") is not None
    assert soup.select_one(".codecbook-abx")["data-trials"] == "4"


def test_abx_is_a_widget_where_somebody_can_click(clip, monkeypatch):
    monkeypatch.delenv("CODECBOOK_BATCH", raising=False)
    monkeypatch.setattr(listen, "display", lambda widget: None)
    test = listen.abx(clip, clip, clip, trials=10)
    assert [entry["label"] for entry in test.clips] == ["reference", "A", "B"]
    assert (test.trials, test.votes) == (10, [])


def test_abx_refuses_impossible_tests(clip):
    with pytest.raises(UnsupportedInput, match="give labels for reference, A and B"):
        listen.abx(clip, clip, clip, labels=("a", "b"))
    with pytest.raises(UnsupportedInput, match="at least one trial"):
        listen.abx(clip, clip, clip, trials=0)
