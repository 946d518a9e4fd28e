"""JupyterLab: what `./run_all.sh lab` opens, and the listening test as a widget whose votes reach Python."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import nbformat.v4 as nbf
import pytest

from codecbook.book import listen
from codecbook.paths import repository_dir

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOKEN = "test"
START_S = 90
NO_NEWS = "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
CELL = """
import json, pathlib
import numpy as np
from codecbook.audio import clip_from_array
from codecbook.book import listen

tone = clip_from_array(0.4 * np.sin(np.arange(8_000) / 8), 16_000, name="tone")
low = clip_from_array(0.1 * tone.samples, 16_000)
test = listen.abx(tone, low, tone, labels=("original", "3 kbps", "6 kbps"), trials=2, folder=pathlib.Path("answers"))
ramp = np.arange(1, 16_001, dtype=np.float32) / 2**15
up, down = (clip_from_array(sign * ramp, 16_000, name="ramp") for sign in (1, -1))
player = listen.player_widget({"up": up, "down": down}, "Two versions", match=False)
player.observe(lambda change: pathlib.Path("chosen.json").write_text(json.dumps(player.take.choice)), "chosen")
display(player)
rated = listen.mushra({"original": {"tone": tone}, "3 kbps": {"tone": low}}, folder=pathlib.Path("answers"))
"""
EXPLORING = """
import numpy as np
from codecbook.audio import clip_from_array
from codecbook.book.explore import Answer, explore

def answer(codec, codebooks):
    tone = clip_from_array(0.4 * np.sin(np.arange(8_000) * codebooks / 8), 16_000)
    return Answer({"codes": codebooks ** 2}, "", {f"{codebooks} heard": tone})

explore("How many?", {"codec": {"<b>one</b>": "one"}, "codebooks": {f"{n} of 5": n for n in range(1, 6)}}, answer)
"""


@pytest.fixture
def lab(request, tmp_path, monkeypatch):
    """Start JupyterLab in a folder with a notebook of one cell, and stop it afterwards; yield its address."""
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("JupyterLab is not installed; pip install jupyterlab")
    monkeypatch.delenv("CODECBOOK_BATCH", raising=False)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbf.new_notebook(
        cells=[nbf.new_code_cell(getattr(request, "param", CELL))], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, tmp_path / "abx.ipynb")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={tmp_path}", NO_NEWS]
    with serving(command, tmp_path) as address:
        yield f"{address}/lab/tree/abx.ipynb?token={TOKEN}"


@contextlib.contextmanager
def serving(command: list[str], folder: Path):
    """Start JupyterLab by a command, with settings, logs and workspaces in a folder; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        "--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True",
        f"--LabApp.user_settings_dir={folder / '.settings'}", f"--LabApp.workspaces_dir={folder / '.workspaces'}",
    ]  # fmt: skip
    # neither the user's settings nor their extensions have a say
    own_folders = {f"JUPYTER_{kind}_DIR": str(folder / f".{kind}") for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **own_folders}
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen([*command, *options], stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for_server(server, f"{address}/api/status?token={TOKEN}", folder / "lab.log")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for_server(server: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"JupyterLab did not start within {START_S} s:\n{log.read_text()}")


def test_the_index_opens_with_the_checkout_as_root_and_without_questions(browser, tmp_path):
    checkout = repository_dir()
    with serving([str(checkout / "run_all.sh"), "lab"], tmp_path) as address:
        page = browser.new_page()
        page.set_default_timeout(START_S * 1000)
        page.goto(f"{address}/?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        assert page.url.endswith("/lab/tree/notebooks/00_index.ipynb")
        page.locator(".jp-BreadCrumbs-home").click()
        listed = page.locator(".jp-DirListing-itemText")
        page.wait_for_function("document.querySelector('.jp-DirListing-content').textContent.includes('README.md')")
        assert {"config", "data", "docs", "notebooks", "reports"} <= set(listed.all_inner_texts())
        page.wait_for_timeout(2_000)  # the question would come with the first look for news
        assert page.get_by_text("Jupyter news").count() == 0
        page.close()


def wait_until(page, condition) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to it in time"
        page.wait_for_timeout(100)


def run_all(browser, lab, script=""):
    """Open a notebook, with a script of the page's own if given, and run it; return the page."""
    page = browser.new_page()
    page.add_init_script(script)
    page.set_default_timeout(START_S * 1000)
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    # to run before the session has its kernel opens a dialog that asks for one
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return page


@pytest.mark.parametrize("lab", [EXPLORING], indirect=True, ids=["exploring"])
def test_a_moved_slider_is_answered(lab, browser):
    page = run_all(browser, lab)
    slider = page.locator(".widget-hslider [role=slider]")
    slider.focus()
    page.get_by_text("Codec: <b>one</b>; Codebooks: 3 of 5").wait_for()  # the middle; a label is text
    page.keyboard.press("ArrowRight")
    page.get_by_text("Codec: <b>one</b>; Codebooks: 4 of 5").wait_for()
    assert page.locator("dd").inner_text() == "16"
    page.get_by_role("radio", name="4 heard").wait_for(state="attached")  # and the player has the new sound
    page.close()


def test_votes_answers_and_choices_reach_python(lab, browser, tmp_path, loudspeaker):
    page = run_all(browser, lab, loudspeaker.tap)
    test = page.locator("section.cb-abx")
    test.wait_for()
    outcome = test.locator(".cb-outcome")
    assert "Trial 1 of 2" in outcome.inner_text()
    test.get_by_role("button", name="Play").focus()
    # digits belong to the test while it has the focus: JupyterLab would turn the cell into a heading
    for key in "04":
        page.keyboard.press(key)
    assert test.get_by_role("button", name="X", exact=True).get_attribute("aria-pressed") == "true"
    assert page.locator(".jp-CodeCell").count() == 1
    test.get_by_role("button", name="X is B").click()  # once X was heard
    saved = tmp_path / "answers"
    wait_until(page, lambda: list(saved.glob("abx-*.csv")))
    (vote,) = listen.read_answers(saved).itertuples()
    assert (vote.vote, vote.trial, vote.item) == ("6 kbps", 1, "tone")
    assert vote.played_s > 0
    assert ("Right" if vote.condition == vote.vote else "Wrong") in outcome.inner_text()
    with page.expect_download() as download:
        test.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "downloaded.csv")
    assert listen.read_answers(tmp_path / "downloaded.csv").equals(listen.read_answers(saved))

    player = page.locator("section.cb-player")
    player.get_by_role("button", name="Play").click()
    player.get_by_role("button", name="Pause").wait_for()
    assert test.get_by_role("button", name="Play").is_visible(), "one sounds at a time"
    page.wait_for_timeout(900)
    player.get_by_role("slider").focus()
    page.keyboard.press("2")
    page.wait_for_timeout(900)
    loudspeaker.assert_switched(page, 16_000, 16_000)
    wait_until(page, (tmp_path / "chosen.json").exists)
    assert json.loads((tmp_path / "chosen.json").read_text()) == {"version": "down"}
    player.get_by_role("button", name="Pause").click()
    player.get_by_role("slider").focus()
    for key in ("Home", "ArrowRight", "[", "ArrowRight", "ArrowRight", "]"):
        page.keyboard.press(key)
    wait_until(page, lambda: "loop" in player.get_by_role("slider").get_attribute("aria-valuetext"))

    rated = page.locator("section.cb-mushra")
    for letter in "ABCD":
        rated.get_by_role("button", name=f"Listen to {letter}").click()
        wait_until(page, rated.get_by_label(f"Score of {letter}").is_enabled)
        rated.get_by_label(f"Score of {letter}").fill("60")
    rated.get_by_role("button", name="Next").click()
    wait_until(page, lambda: list(saved.glob("mushra-*.csv")))
    assert set(listen.read_answers(saved.glob("mushra-*.csv")).score) == {60.0}
    page.close()
