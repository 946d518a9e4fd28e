"""Prepared exploration cells in a real browser: controls show other answers, by mouse and by keys."""

from dataclasses import replace
from pathlib import Path

import nbformat
import nbformat.v4 as nbf
import numpy as np
import pytest

from codecbook.audio import clip_from_array
from codecbook.book.explore import Answer, static_html
from codecbook.book.pages.render import render_report

pytestmark = pytest.mark.browser

HOSTILE = '"><img src=x onerror="document.title=1"></section><script>document.title=2</script>'


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    controls = {
        "codec": {"one": "1", HOSTILE: "3"},
        "num_codebooks": lambda codec: {f"{n} of {codec}": n for n in range(1, int(codec) + 1)},
    }

    def answer(codec: str, num_codebooks: int) -> Answer:
        return Answer({"text": HOSTILE, "product": int(codec) * num_codebooks})

    def sound(codec: str, num_codebooks: int) -> Answer:
        tone = clip_from_array(0.4 * np.sin(np.arange(24_000) * num_codebooks / 20), 24_000)
        return replace(answer(codec, num_codebooks), clips={HOSTILE: tone})

    blocks = [static_html("What & when?", controls, answer), static_html("And how?", controls, sound)]
    outputs = [nbf.new_output("display_data", {"text/html": block}) for block in blocks]
    cell = nbf.new_code_cell("explore()", outputs=outputs)
    nbformat.write(nbf.new_notebook(cells=[nbf.new_markdown_cell("# Explore"), cell]), folder / "explore.ipynb")
    return render_report(folder / "explore.ipynb", folder / "explore.html")


def shown(page) -> list[str]:
    return page.locator("section[data-choice]:not([hidden]) dd:last-of-type").last.all_inner_texts()


def test_controls_show_the_answer_to_what_they_say(page_file, visit):
    visited = visit()
    page = visited.open(page_file)
    block = page.get_by_role("group", name="What & when?")
    assert block.locator("section[data-choice]:not([hidden])").count() == 1
    assert shown(page) == ["1"]
    block.get_by_label("Codec").select_option(HOSTILE)
    assert shown(page) == ["3"]
    slider = block.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "1 of 3"
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "3 of 3"
    assert shown(page) == ["9"]
    assert "3 of 3" in block.get_by_role("status").inner_text()
    block.get_by_label("Codec").select_option("one")  # which has fewer options
    assert slider.get_attribute("aria-valuetext") == "1 of 1"
    assert shown(page) == ["1"]
    assert (page.title(), visited.requests, visited.complaints) == ("Explore · codecbook", [], [])
    assert block.locator("img, script").count() == 0, "labels are text"


def test_what_is_heard_brings_its_answer(page_file, visit):
    visited = visit()
    page = visited.open(page_file)
    player = page.locator(".codecbook-explored")
    player.get_by_role("radio", name=HOSTILE).first.check()
    player.get_by_role("radio", name="2 of 3").check()
    assert player.locator("dd:visible").last.inner_text() == "6"
    assert visited.complaints == []
    assert player.locator("img[src=x]").count() == 0, "labels are text"


def test_without_scripts_one_answer_and_a_table_are_there(page_file, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("section[data-choice]:visible").count() == 1
    page.locator(".codecbook-explore summary").click()
    assert page.locator(".codecbook-explored audio[controls]").count() == 3, "each clip once"
    assert page.locator(".codecbook-explore tbody tr:visible").count() == 4
    context.close()
