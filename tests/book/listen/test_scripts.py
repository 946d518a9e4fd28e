"""Pure functions of the players' scripts, under Node."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from codecbook.book.labels import ASSETS
from codecbook.book.listen.widgets import script

TAKES = [
    {"codec": "original"}, {"codec": "a", "bitrate": "3", "damage": "none"}, {"codec": "a", "bitrate": "6"},
    {"codec": "b", "bitrate": "6"}, {"codec": "b", "bitrate": "9"},
]  # fmt: skip


@pytest.fixture
def node(tmp_path):
    """Run statements after a script, and return what `answer` was given."""
    if shutil.which("node") is None:
        pytest.skip("no node here; install nodejs")

    def run(name: str, statements: str):
        program = f"{(ASSETS / name).read_text()}\nconst answer = (x) => console.log(JSON.stringify(x));\n{statements}"
        path = tmp_path / "program.mjs"
        path.write_text(program)
        return json.loads(subprocess.run(["node", path], capture_output=True, text=True, check=True).stdout)

    return run


def test_all_scripts_together_are_one_module(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no node here; install nodejs")
    (tmp_path / "module.mjs").write_text(script())
    subprocess.run(["node", "--check", tmp_path / "module.mjs"], check=True)


def test_choices_lead_to_the_take_that_fits_best(node):
    takes = json.dumps([{"choice": choice} for choice in TAKES])
    wanted = [{"codec": "b", "bitrate": "6"}, {"codec": "b", "bitrate": "3"}, {"codec": "original", "bitrate": "6"}, {}]
    assert node("player.js", f"answer({json.dumps(wanted)}.map((w) => fitting({takes}, w)))") == [3, 3, 0, 0]
    offered = f"const t = {takes}; answer(['codec', 'bitrate', 'damage'].map((name) => optionsOf(t, t[4], name)))"
    assert node("player.js", offered) == [["original", "a", "b"], ["6", "9"], []]


def test_a_spectrum_is_numpys(node):
    samples = np.random.default_rng(0).standard_normal(64)
    found = node("picture.js", f"answer([...powerSpectrum({samples.tolist()})])")
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(samples))[:32] ** 2, rtol=1e-9)


def test_a_spectrogram_shows_a_tone_and_keeps_a_click(node):
    rate_hz = 16_000
    tone = np.sin(2 * np.pi * 2000 * np.arange(12 * rate_hz) / rate_hz)
    tone[100_000] += 50
    columns = np.array(
        node("picture.js", f"answer(spectrogram({tone.round(6).tolist()}, {rate_hz}).map((c) => [...c]))")
    )
    assert columns.shape == (420, 256)  # windows of 32 ms, thinned
    assert (np.median(columns, axis=0).argmax()) == 2000 / (rate_hz / 512)
    at = columns[:, 200].argmax()  # where the tone is not
    assert at == pytest.approx(420 * 100_000 / (12 * rate_hz), abs=1)
