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

tone = clip_from_array(0.4 * np.sin(np.arange(8_000) / 8), 16_000)
test = listen.abx(tone, tone, tone, labels=("original", "3 kbps", "6 kbps"), trials=2)
test.observe(lambda change: pathlib.Path("votes.json").write_text(json.dumps(test.votes)), "votes")
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Start JupyterLab in a folder with one notebook, and stop it afterwards; yield its address."""
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("JupyterLab is not installed; pip install jupyterlab")
    monkeypatch.delenv("CODECBOOK_BATCH", raising=False)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbf.new_notebook(cells=[nbf.new_code_cell(CELL)], metadata={"kernelspec": kernel})
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


def test_a_vote_reaches_python(lab, browser, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(START_S * 1000)
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    # to run before the session has its kernel opens a dialog that asks for one
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    test = page.locator("section.abx")
    test.wait_for()
    assert "Trial 1 of 2" in test.get_by_role("status").inner_text()
    test.get_by_role("button", name="X is B").click()
    votes_file = tmp_path / "votes.json"
    deadline = time.monotonic() + START_S
    while not votes_file.exists() and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    (vote,) = json.loads(votes_file.read_text())
    assert vote["vote"] == "B"
    assert vote["correct"] == (vote["x"] == "B")
    assert "Trial 2 of 2" in test.get_by_role("status").inner_text()

    # digits belong to the test while it has the focus: JupyterLab would turn the cell into a heading
    test.get_by_role("button", name="Play").focus()
    page.keyboard.press("4")
    assert test.get_by_role("button", name="X", exact=True).get_attribute("aria-pressed") == "true"
    assert page.locator(".jp-CodeCell").count() == 1
    page.close()
