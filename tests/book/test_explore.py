"""Exploration cells: what they offer and show, prepared and live."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from bs4 import BeautifulSoup

from codecbook.audio import clip_from_array
from codecbook.book import explore as room
from codecbook.book.explore import Answer, Explorer, choices, explore, first_choice, static_html, values_of
from codecbook.errors import UnsupportedInput

CONTROLS = {
    "animal": {"cat": "c", "<b>dog</b>": "d"},
    "legs": lambda animal: {str(n): n for n in range(2 if animal == "c" else 5)},
}
TONE = clip_from_array(0.1 * np.sin(np.arange(2_000) / 5), 16_000)


def count(animal: str, legs: int) -> Answer:
    if (animal, legs) == ("d", 4):
        raise UnsupportedInput("a <i>dog</i> of four legs")
    return Answer({"animal_legs": f"{animal}{legs}"}, "<em>seen</em>")


def sound(animal: str, legs: int) -> Answer:
    return replace(count(animal, legs), clips={"bark & meow": TONE, f"{animal}{legs}": TONE})


def test_choices_follow_what_was_chosen_before():
    assert [len([c for c in choices(CONTROLS) if c[0] == animal]) for animal in CONTROLS["animal"]] == [2, 5]
    assert [legs for animal, legs in choices(CONTROLS, {"legs": 3}) if animal != "cat"] == ["0", "2", "4"]
    assert values_of(CONTROLS, ("<b>dog</b>", "3")) == {"animal": "d", "legs": 3}
    assert first_choice(CONTROLS) == ("cat", "1")
    with pytest.raises(UnsupportedInput, match="no options"):
        list(choices({"nothing": {}}))


def test_a_report_holds_every_prepared_answer_as_text():
    soup = BeautifulSoup(static_html("Who <walks>?", CONTROLS, count, {"legs": 3}), "html.parser")
    sections = soup.select("section[data-choice]")
    assert [json.loads(s["data-choice"]) for s in sections] == list(map(list, choices(CONTROLS, {"legs": 3})))
    assert [s.has_attr("hidden") for s in sections] == [True, False, True, True, True]
    assert [s.dd.get_text() for s in sections] == [
        "c0",
        "c1",
        "d0",
        "d2",
        "UnsupportedInput: a <i>dog</i> of four legs",
    ]
    assert soup.find(["b", "i", "walks"]) is None, "labels and errors are text"
    assert len(soup.select("details tbody tr")) == 5


def test_what_is_heard_is_chosen_in_the_player():
    soup = BeautifulSoup(static_html("Who <walks>?", CONTROLS, sound, {"legs": 3}), "html.parser")
    takes = json.loads(soup.select_one("[data-state]")["data-state"])["content"]["takes"]
    assert [take["choice"] for take in takes[:3]] == [
        {"Animal": "cat", "Legs": "0", "Heard": "bark & meow"},
        {"Animal": "cat", "Legs": "0", "Heard": "c0"},
        {"Animal": "cat", "Legs": "1", "Heard": "bark & meow"},
    ]
    assert [detail.dd.get_text() for detail in soup.select("[data-detail]")] == [
        "c0",
        "c0",
        "c1",
        "c1",
        "d0",
        "d0",
        "d2",
        "d2",
    ]
    assert len(soup.select("details tbody tr")) == 5, "the answer that failed is in the table"


def test_a_batch_run_shows_the_prepared_answers(monkeypatch):
    shown = []
    monkeypatch.setenv("CODECBOOK_BATCH", "1")
    monkeypatch.setattr(room, "display", lambda html: shown.append(html.data))
    explore("Legs", CONTROLS, count)
    assert shown[0].startswith('<div class="codecbook-explore"')


def test_a_moved_control_is_answered_and_an_overtaken_choice_is_not_shown():
    asked, overtaken = [], threading.Event()

    def slow(animal: str, legs: int) -> Answer:
        asked.append((animal, legs))
        if legs == 2:
            overtaken.wait(timeout=60)
        return sound(animal, legs)

    async def move() -> tuple[list[str], Explorer]:
        explorer, seen = Explorer("Legs", CONTROLS, slow), []
        explorer.answer.observe(lambda change: seen.append(BeautifulSoup(change["new"], "html.parser").dd.get_text()))
        explorer.inputs[0].value = "<b>dog</b>"  # rests: answered with the place that the slider had
        while explorer.chosen != explorer.shown:
            await asyncio.sleep(0.01)
        explorer.inputs[1].value = "2"
        while asked[-1] != ("d", 2):
            await asyncio.sleep(0.005)
        explorer.inputs[1].value = "3"  # while the answer to 2 is being computed
        overtaken.set()
        while explorer.chosen != explorer.shown:
            await asyncio.sleep(0.01)
        assert explorer.status.value == ""
        assert [take.choice["Heard"] for take in explorer.player.takes] == ["bark & meow", "d3"]
        explorer.inputs[1].value = "4"
        while explorer.chosen != explorer.shown:
            await asyncio.sleep(0.01)
        assert explorer.player.layout.display == "none", "an error makes no sound"
        explorer.answer.unobserve_all()
        return seen, explorer

    with ThreadPoolExecutor(1) as pool:  # a browser of other tests may have a loop in this thread
        seen, explorer = pool.submit(asyncio.run, move()).result()
    assert seen == ["d1", "d3", "UnsupportedInput: a <i>dog</i> of four legs"]
    assert list(explorer.inputs[1].options) == ["0", "1", "2", "3", "4"]
    explorer.compute(explorer.shown)
    assert asked == [("c", 1), ("d", 1), ("d", 2), ("d", 3), ("d", 4)], "answers are kept"
