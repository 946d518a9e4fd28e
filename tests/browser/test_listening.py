"""Players and blind tests on a page, by what reaches the loudspeaker: every frame of it is recorded and compared."""

import os
import re
import time
from pathlib import Path

import nbformat
import nbformat.v4 as nbf
import numpy as np
import pytest

from codecbook.audio import Clip, clip_from_array
from codecbook.book import listen
from codecbook.book.listen import blind
from codecbook.book.pages.render import render_report
from codecbook.measure.anytime import evidence

pytestmark = pytest.mark.browser

RATE_HZ = 16_000
FRAMES = 16_000  # of a ramp, whose samples say where they are


def ramp(sign: int) -> Clip:
    """Sample n is ``(n + 1) / 2^15``, which 16-bit FLAC keeps exactly."""
    return clip_from_array(sign * np.arange(1, FRAMES + 1, dtype=np.float32) / 2**15, RATE_HZ)


@pytest.fixture(scope="module")
def page_of_sound(tmp_path_factory) -> Path:
    shown, monkeypatch = [], pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setenv("CODECBOOK_BATCH", "1")
        patch.setattr(blind, "display", lambda html: shown.append(html.data))
        tone = clip_from_array(0.4 * np.sin(np.arange(16_000) / 4), RATE_HZ, name="tone")
        quiet = clip_from_array(0.1 * tone.samples, RATE_HZ)
        hostile = "<img src=x onerror=alert(1)>"
        takes = [
            listen.Take({"sign": "up"}, ramp(1), note=hostile),
            *(listen.Take({"sign": "down", "step": f"step {i}"}, ramp(-1), detail=f"<b>{i}</b>") for i in (1, 2)),
        ]
        shown.append(listen.player_html(takes, hostile, match=False))
        shown.append(
            listen.player_html({"loud": tone, "quiet": quiet, "silent": clip_from_array(0 * tone.samples, RATE_HZ)})
        )
        listen.abx(tone, quiet, tone, ("tone", "quiet", "as it is"), trials=3, title="=Tone?")
        listen.mushra({"original": {"tone": tone, "ramp": ramp(1)}, "quiet": {"tone": quiet, "ramp": ramp(-1)}})
    folder = tmp_path_factory.mktemp("sound")
    cells = [nbf.new_markdown_cell("# Sound")]
    cells += [
        nbf.new_code_cell("show()", outputs=[nbf.new_output("display_data", {"text/html": html})]) for html in shown
    ]
    nbformat.write(nbf.new_notebook(cells=cells), folder / "sound.ipynb")
    return render_report(folder / "sound.ipynb", folder / "sound.html")


@pytest.fixture
def page(visit, page_of_sound):
    visited = visit()
    yield visited.open(page_of_sound)
    assert visited.requests == []
    assert visited.complaints == []


def wait_until(page, condition, seconds=20.0):
    """Ask from outside the page: polling within it compiles text, which the reports' own policy forbids."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the page did not come to it in time"
        page.wait_for_timeout(50)


def pressed(button) -> bool:
    return button.get_attribute("aria-pressed") == "true"


@pytest.fixture
def tapped(browser, page_of_sound, loudspeaker):
    """Open the page with a recorder before the loudspeaker; the recorder is a module that the policy would refuse."""
    context = browser.new_context(offline=True, bypass_csp=True)
    page = context.new_page()
    page.add_init_script(loudspeaker.tap)
    page.goto(page_of_sound.as_uri())
    yield page
    context.close()


def test_a_switch_takes_less_than_50_ms_and_keeps_the_place(tapped, loudspeaker):
    player = tapped.locator(".cb-player").first
    player.get_by_role("button", name="Play").click()
    tapped.wait_for_timeout(900)
    player.get_by_role("slider").focus()
    tapped.keyboard.press("2")
    tapped.wait_for_timeout(900)
    loudspeaker.assert_switched(tapped, FRAMES, RATE_HZ)


def test_a_dragged_loop_repeats_without_a_gap(tapped, loudspeaker):
    player = tapped.locator(".cb-player").first
    picture = player.get_by_role("slider")
    player.get_by_role("button", name="Play").click()
    box = picture.bounding_box()
    y = box["y"] + box["height"] / 2
    tapped.mouse.move(box["x"] + 0.25 * box["width"], y)
    tapped.mouse.down()
    tapped.mouse.move(box["x"] + 0.4 * box["width"], y)
    tapped.mouse.up()
    ends = re.search(r"loop ([\d.]+) to ([\d.]+) s", picture.get_attribute("aria-valuetext"))
    assert ends, picture.get_attribute("aria-valuetext")
    assert float(ends[1]) == pytest.approx(0.25 * FRAMES / RATE_HZ, abs=0.01)
    assert float(ends[2]) == pytest.approx(0.4 * FRAMES / RATE_HZ, abs=0.01)
    tapped.wait_for_timeout(900)
    frames, samples = (values[-RATE_HZ // 2 :] for values in loudspeaker.heard(tapped))
    assert np.ptp(samples) + 1 == pytest.approx(0.15 * FRAMES, abs=0.02 * FRAMES)
    loudspeaker.assert_in_step(frames, samples, samples.min() - 1, samples.max())
    player.get_by_role("button", name="Whole clip").click()
    assert "loop" not in picture.get_attribute("aria-valuetext")


def test_matched_levels_are_heard_and_said(tapped, loudspeaker):
    player = tapped.locator(".cb-player").nth(1)
    player.get_by_role("button", name="Play").click()
    tapped.wait_for_timeout(400)

    def peak() -> float:
        before = loudspeaker.heard(tapped)[0][-1]
        tapped.wait_for_timeout(400)
        frames, samples = loudspeaker.heard(tapped)
        return float(np.abs(samples[frames > before + RATE_HZ // 10]).max())

    loud = peak()
    player.get_by_role("radio", name="quiet").check()
    assert "+20.0 dB" in player.inner_text()
    assert peak() == pytest.approx(loud, rel=0.01)
    player.get_by_role("checkbox").uncheck()
    assert "+0.0 dB" in player.inner_text()
    assert peak() == pytest.approx(loud / 10, rel=0.01)
    player.get_by_role("radio", name="silent").check()
    assert "no gain, silent" in player.inner_text()


def test_a_player_is_played_by_keys_and_shows_foreign_text_as_text(page):
    player = page.locator(".cb-player").first
    assert player.locator(".cb-title").inner_text() == "<img src=x onerror=alert(1)>"
    assert player.locator("img").count() == 0
    picture = player.get_by_role("slider")
    picture.focus()
    page.keyboard.press("0")
    player.get_by_role("button", name="Pause").wait_for()
    wait_until(page, lambda: float(picture.get_attribute("aria-valuenow")) > 0)
    page.keyboard.press("2")
    assert player.get_by_role("radio", name="down").is_checked()
    assert player.get_by_role("radio", name="step 1").is_checked()
    assert player.locator(".cb-detail").inner_text() == "1"
    page.keyboard.press("2")  # in the last row of choices, which is another one now
    assert player.get_by_role("radio", name="step 2").is_checked()
    page.keyboard.press("b")
    assert player.get_by_role("radio", name="step 1").is_checked()
    page.keyboard.press("0")
    player.get_by_role("button", name="Play").wait_for()
    page.keyboard.press("Home")
    for key in ("ArrowRight", "ArrowRight", "[", "ArrowRight", "ArrowRight", "ArrowRight", "]"):
        page.keyboard.press(key)
    assert "loop 0.20 to 0.50 s" in picture.get_attribute("aria-valuetext")
    page.keyboard.press("Escape")
    assert "loop" not in picture.get_attribute("aria-valuetext")


def test_pictures_are_drawn_when_they_come_into_view(page):
    canvas = page.locator(".cb-player canvas").last
    canvas.scroll_into_view_if_needed()
    drawn = """(c) => {
        const { width, height } = c;
        return c.toDataURL() !== Object.assign(document.createElement("canvas"), { width, height }).toDataURL();
    }"""
    wait_until(page, lambda: canvas.evaluate(drawn))


def test_abx_takes_votes_on_what_was_heard_and_saves_them(page, tmp_path):
    test = page.locator("section.cb-abx")
    outcome = test.locator(".cb-outcome")
    assert test.get_by_role("button", name="X is A").is_disabled()
    test.get_by_label("Listener").fill("=1+1")
    test.get_by_role("button", name="Play").focus()
    page.keyboard.press("0")
    for vote in ("X is A", "X is B", "X is A"):
        page.keyboard.press("4")
        assert pressed(test.get_by_role("button", name="X", exact=True))
        wait_until(page, test.get_by_role("button", name=vote).is_enabled)
        test.get_by_role("button", name=vote).click()
    with page.expect_download() as download:
        test.get_by_role("button", name="Download").click()
    assert re.fullmatch(r"abx-tone-[0-9a-f]{8}\.csv", download.value.suggested_filename)
    download.value.save_as(tmp_path / "answers.csv")
    assert "'=1+1" in (tmp_path / "answers.csv").read_text()
    answers = listen.read_answers(tmp_path)
    assert answers.listener.tolist() == ["=1+1"] * 3
    assert answers.vote.tolist() == ["quiet", "as it is", "quiet"]
    assert (answers.played_s > 0).all()
    found = evidence((answers.vote == answers.condition).to_numpy())
    assert f"Done: {found.correct} of 3 correct" in outcome.inner_text()
    assert f"p = {found.p:.3f}" in outcome.inner_text()
    test.get_by_role("button", name="Start again").click()
    assert outcome.inner_text().startswith("Trial 1 of 3")


def test_mushra_rates_what_was_heard_and_saves_it(page, tmp_path):
    test = page.locator("section.cb-mushra")
    for _ in ("tone", "ramp"):
        assert test.get_by_label("Score of A").is_disabled()
        for i, letter in enumerate("ABCD"):
            assert test.get_by_role("button", name="Next").is_disabled()
            test.get_by_role("button", name=f"Listen to {letter}").click()
            score = test.get_by_label(f"Score of {letter}")
            wait_until(page, score.is_enabled)
            score.fill(str(20 * i))
        test.get_by_role("button", name="Next").click()
    assert test.get_by_role("row").count() == 1 + 4
    with page.expect_download() as download:
        test.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "answers.csv")
    answers = listen.read_answers(tmp_path / "answers.csv")
    assert set(answers.condition) == {"hidden reference", "quiet", "anchor 3.5 kHz", "anchor 7 kHz"}
    assert set(answers["item"]) == {"tone", "ramp"}
    assert (answers.played_s > 0).all()


BROKEN = {
    "does not let this page sound": "Object.defineProperty(AudioContext.prototype, 'state', { get: () => 'shut' });"
    "AudioContext.prototype.resume = () => new Promise(() => {});",
    "No audio device answers": "Object.defineProperty(BaseAudioContext.prototype, 'currentTime', { get: () => 0 });",
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_keeps_a_browser_silent_is_said_plainly(visit, page_of_sound, message):
    visited = visit()
    visited.page.add_init_script(BROKEN[message])
    page = visited.open(page_of_sound)
    player = page.locator(".cb-player").first
    player.get_by_role("button", name="Play").click()
    wait_until(page, lambda: message in player.get_by_role("status").inner_text())
    player.get_by_role("button", name="Play").wait_for()
    assert visited.complaints == []


def test_a_browser_without_web_audio_keeps_plain_players(visit, page_of_sound):
    visited = visit()
    visited.page.add_init_script("delete window.AudioContext; delete window.webkitAudioContext;")
    page = visited.open(page_of_sound)
    assert page.get_by_text("no Web Audio").count() == 4
    assert page.locator("audio[controls]").first.is_visible()
    assert visited.complaints == []


def test_a_page_without_scripts_keeps_plain_players(page_of_sound, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_of_sound.as_uri())
    assert page.locator("section.cb-sound").count() == 0
    assert page.locator(".codecbook-sound audio[controls]").first.is_visible()
    assert page.get_by_role("link", name="the same clip as above").count() > 0
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_players_are_accessible(visit, page_of_sound, scheme, width):
    page = visit(width, scheme).open(page_of_sound)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = Path(os.environ.get("CODECBOOK_AXE", "node_modules/axe-core/axe.min.js"))
    if not axe.is_file():
        pytest.skip("no axe-core here; CODECBOOK_AXE names its axe.min.js")
    page.evaluate(axe.read_text())
    found = page.evaluate(
        "async () => (await axe.run('.codecbook-sound')).violations.map((v) => [v.impact, v.id, v.nodes[0].html])"
    )
    assert [violation for violation in found if violation[0] in ("serious", "critical")] == []
