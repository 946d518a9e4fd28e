import base64
import json

import numpy as np
import pytest
from bs4 import BeautifulSoup

from codecbook.audio import Clip, clip_from_array
from codecbook.book import listen
from codecbook.book.listen import blind
from codecbook.book.listen.takes import flac_bytes
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def clip():
    return clip_from_array(0.5 * np.sin(np.arange(16_000) / 5), 16_000, name="tone")


@pytest.fixture(scope="module")
def versions(clip):
    def times(factor: float) -> dict[str, Clip]:
        return {name: clip_from_array(factor * clip.samples, 16_000) for name in ("speech", "music")}

    return {"original": times(1), "6 kbps": times(0.5), "3 kbps": times(0.25)}


@pytest.fixture
def shown(monkeypatch) -> list:
    things = []
    monkeypatch.setattr(blind, "display", things.append)
    return things


def test_static_abx_keeps_clips_once_and_plain_players_as_fallback(clip, monkeypatch, shown):
    monkeypatch.setenv("CODECBOOK_BATCH", "1")
    half = clip_from_array(0.5 * clip.samples, 16_000)
    assert listen.abx(clip, half, clip, labels=("original", "3 kbps", "6 kbps"), trials=4) is None
    soup = BeautifulSoup(shown[0].data, "html.parser")
    assert [a["aria-label"] for a in soup.select("audio")] == ["original", "3 kbps", "6 kbps"]
    assert shown[0].data.count(base64.b64encode(flac_bytes(clip)).decode()) == 2
    state = json.loads(soup.select_one(".codecbook-sound")["data-state"])
    assert (state["kind"], state["answers"], state["content"]["trials"]) == ("abx", [], 4)
    assert [take["gain_db"] for take in state["content"]["takes"]] == pytest.approx([0, 6.02, 0], abs=0.02)


def row(**changed) -> dict:
    whole = {"schema": "codecbook-answers-1", "test": "abx", "title": "T", "listener": "me", "session": "0123abcd",
             "trial": 1, "item": "tone", "condition": "A", "score": "", "vote": "A", "played_s": "1.50",
             "time_utc": "2026-01-01T12:00:00.000Z"}  # fmt: skip
    return {**whole, **changed}


def test_answers_of_a_widget_become_a_file_after_each(clip, monkeypatch, shown, tmp_path):
    monkeypatch.delenv("CODECBOOK_BATCH", raising=False)
    test = listen.abx(clip, clip, clip, trials=10, folder=tmp_path)
    assert shown == [test]
    assert [take["label"] for take in test.content["takes"]] == ["reference", "A", "B"]
    test.answers = [row()]
    test.answers = [*test.answers, row(trial=2, vote="B")]
    (file,) = tmp_path.iterdir()
    assert file.name == "abx-t-0123abcd.csv"
    assert list(listen.read_answers(file).vote) == ["A", "B"]


def test_abx_refuses_impossible_tests(clip):
    with pytest.raises(UnsupportedInput, match="give labels for reference, A and B"):
        listen.abx(clip, clip, clip, labels=("a", "b"))
    with pytest.raises(UnsupportedInput, match="other ones for A and B"):
        listen.abx(clip, clip, clip, labels=("a", "b", "b"))
    with pytest.raises(UnsupportedInput, match="at least one trial"):
        listen.abx(clip, clip, clip, trials=0)


def test_mushra_hides_the_reference_and_makes_anchors(versions, monkeypatch, shown):
    monkeypatch.setenv("CODECBOOK_BATCH", "1")
    listen.mushra(versions)
    soup = BeautifulSoup(shown[0].data, "html.parser")
    content = json.loads(soup.select_one(".codecbook-sound")["data-state"])["content"]
    assert [item["name"] for item in content["items"]] == ["speech", "music"]
    takes = content["items"][0]["takes"]
    # at 16 kHz the band ends at 8 kHz: the anchor of 7 kHz still fits
    assert [t["label"] for t in takes] == [content["hidden"], "6 kbps", "3 kbps", "anchor 3.5 kHz", "anchor 7 kHz"]
    gains = [take["gain_db"] for take in takes]
    assert gains == pytest.approx([0, 6.02, 12.04, 0, 0], abs=0.02)
    assert len(soup.select("audio")) == 5 * 2


def test_mushra_refuses_what_cannot_be_compared(versions, clip):
    with pytest.raises(UnsupportedInput, match="1 to 9 versions"):
        listen.mushra({"original": versions["original"]})
    with pytest.raises(UnsupportedInput, match="none of them called hidden reference"):
        listen.mushra(versions | {"hidden reference": versions["6 kbps"]})
    with pytest.raises(UnsupportedInput, match="differ in rate or channels"):
        listen.mushra({"original": {"a": clip}, "other": {"a": clip_from_array(clip.samples, 8_000)}})


@pytest.mark.parametrize("cutoff_hz", blind.ANCHORS_HZ)
def test_anchors_have_the_band_of_the_recommendation(cutoff_hz):
    impulse = np.zeros(24_000, np.float32)
    impulse[12_000] = 1.0
    response = blind.low_pass(Clip(impulse[None], 24_000), cutoff_hz).samples[0]
    level_db = 20 * np.log10(np.abs(np.fft.rfft(response)) + 1e-12)  # one bin a Hz
    assert np.abs(level_db[:cutoff_hz]).max() < 0.1
    assert level_db[cutoff_hz + 500 :].max() < -50
    assert response.argmax() == 12_000, "an anchor stays in step with its reference"
