import base64
import io
import json

import numpy as np
import pytest
import soundfile
from bs4 import BeautifulSoup

from codecbook.audio import Clip, clip_from_array, loudness_lufs
from codecbook.book import listen
from codecbook.book.listen.takes import as_takes, flac_bytes, levels
from codecbook.book.pages.render import share_media
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def clip():
    return clip_from_array(0.5 * np.sin(np.arange(16_000) / 5), 16_000, name="tone")


def times(clip: Clip, factor: float) -> Clip:
    return clip_from_array(factor * clip.samples, clip.sample_rate_hz)


def soup_of(page: str) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")


def state_of(soup: BeautifulSoup) -> dict:
    return json.loads(soup.select_one(".codecbook-sound")["data-state"])


def decoded(audio) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(base64.b64decode(audio["src"].partition(",")[2])), dtype="float32")


def test_a_player_holds_the_clip_to_16_bits(clip):
    soup = soup_of(listen.player_html({'the "tone"': clip}))
    samples, rate_hz = decoded(soup.audio)
    assert rate_hz == 16_000
    assert soup.audio["aria-label"] == 'the "tone"'
    assert soup.audio["preload"] == "none"
    # half a step of 16-bit quantisation, and float32 rounding
    np.testing.assert_allclose(samples, clip.samples[0], rtol=0, atol=0.51 / 2**15)


def test_all_files_of_a_player_are_turned_down_by_one_factor(clip):
    soup = soup_of(listen.player_html({"quiet": clip, "loud": times(clip, 4)}))
    quiet_peak, loud_peak = (np.abs(decoded(audio)[0]).max() for audio in soup.select("audio"))
    assert loud_peak == pytest.approx(1.0, abs=2e-4)
    assert quiet_peak == pytest.approx(0.25, abs=2e-4)


def test_clips_by_version_and_recording_become_two_choices(clip):
    rows = {"original": {"speech": clip, "music": times(clip, 0.5)}, "6 kbps": {"speech": times(clip, 0.9)}}
    assert [dict(take.choice) for take in as_takes(rows)] == [
        {"recording": "speech", "version": "original"},
        {"recording": "speech", "version": "6 kbps"},
        {"recording": "music", "version": "original"},
    ]
    soup = soup_of(listen.player_html(rows, "Listen"))
    assert [a["aria-label"] for a in soup.select("audio")] == ["speech, original", "speech, 6 kbps", "music, original"]
    assert state_of(soup)["content"]["title"] == "Listen"


def test_takes_without_a_way_to_choose_them_are_refused(clip):
    with pytest.raises(UnsupportedInput, match="received none"):
        listen.player_html([])
    with pytest.raises(UnsupportedInput, match="a choice and samples"):
        listen.player_html([listen.Take({}, clip)])
    with pytest.raises(UnsupportedInput, match="tells them apart"):
        listen.player_html([listen.Take({"codec": "a"}, clip), listen.Take({"codec": "a"}, clip)])


def test_levels_are_matched_and_nothing_overshoots(clip):
    clips = [clip, times(clip, 0.1), times(clip, 1.9)]
    gains = [level.gain_db for level in levels(clips)]
    matched = [times(c, 10 ** (gain / 20)) for c, gain in zip(clips, gains, strict=True)]
    loudness = [loudness_lufs(c) for c in matched]
    np.testing.assert_allclose(loudness, loudness[0], rtol=0, atol=0.02)  # gains have two decimals
    assert max(c.peak for c in matched) <= 1.001
    assert gains[0] == 0  # the first one is the reference, and has room

    crested = 0.1 * clip.samples
    crested[0, 100] = 0.9
    assert levels([clip, clip_from_array(crested, 16_000)])[0].gain_db < -1, (
        "the loudest peak would overshoot, so all are turned down"
    )


def test_short_and_silent_takes_say_why_they_have_no_gain(clip):
    short, silent = Clip(clip.samples[:, :4000], 16_000), times(clip, 0)
    found = levels([silent, short, times(clip, 0.5), clip])
    assert [level.gain_db for level in found[:2]] == [None, None]
    assert (found[0].text, found[1].text) == ("silent", "shorter than 0.4 s")
    assert found[2].gain_db == 0
    assert found[3].gain_db == pytest.approx(-6.02, abs=0.02)


def test_foreign_text_is_text(clip):
    hostile = "</script><img src=x onerror=alert(1)>"
    soup = soup_of(listen.player_html([listen.Take({hostile: hostile}, clip, note=hostile)], hostile))
    assert soup.img is None
    assert len(soup.select("script")) == 1
    assert state_of(soup)["content"]["takes"][0]["note"] == hostile


def test_a_page_keeps_every_clip_and_the_script_once(clip):
    takes = {"tone": clip, "again": clip, "half": times(clip, 0.5)}
    soup = soup_of(listen.player_html(takes) + listen.player_html(takes))
    share_media(soup)
    assert len(soup.select("audio")) == 2
    assert len(soup.select("script")) == 1
    links = soup.select("a")
    assert len(links) == 4
    assert {link["href"] for link in links} == {f"#{audio['id']}" for audio in soup.select("audio")}


def test_details_stand_beside_their_take(clip):
    soup = soup_of(listen.player_html([listen.Take({"rate": "1 %"}, clip, detail="<b>one</b>")]))
    assert soup.select_one("[data-detail='0'] b").get_text() == "one"


def test_takes_of_a_widget_can_be_replaced(clip):
    widget = listen.player_widget({"a": clip, "b": times(clip, 0.5)})
    before = widget.content
    widget.takes = {"c": clip}
    assert widget.content["takes"][0]["choice"] == {"version": "c"}
    assert list(widget.content["media"]) == [before["takes"][0]["clip"]]
    widget.chosen = 0
    assert widget.take.choice == {"version": "c"}


def test_flac_refuses_what_it_cannot_hold():
    for channels, samples in ((9, 100), (1, 0)):
        with pytest.raises(UnsupportedInput, match="1 to 8"):
            flac_bytes(clip_from_array(np.zeros((channels, samples), np.float32), 8_000))
