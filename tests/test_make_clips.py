"""The script of ``data/clips`` that makes the bundled clips."""

import hashlib
import json
import math
import sys
from fractions import Fraction

import numpy as np
import pytest

from codecbook import audio
from codecbook.clips import catalogue
from codecbook.errors import UnsupportedInput
from codecbook.paths import repository_dir

SCRIPT_DIR = repository_dir() / "data" / "clips"
SCRIPT_MODULES = ("make_clips", "midi_writer", "music_scores", "speech_texts")


@pytest.fixture(scope="module")
def script():
    """Import the script and its neighbours as Python does when it is run, and forget them afterwards."""
    sys.path.insert(0, str(SCRIPT_DIR))
    import make_clips  # pyright: ignore[reportMissingImports]

    yield make_clips
    sys.path.remove(str(SCRIPT_DIR))
    for name in SCRIPT_MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def midi(script):
    return sys.modules["midi_writer"]


# ---------------------------------------------------------------- MIDI


@pytest.mark.parametrize(
    ("value", "expected"),
    # the examples of the Standard MIDI Files specification
    [(0, "00"), (0x40, "40"), (0x7F, "7f"), (0x80, "8100"), (0x2000, "c000"), (0x3FFF, "ff7f"), (0x4000, "818000")],
)
def test_variable_length_quantities(midi, value, expected):
    assert midi.variable_length(value).hex() == expected


@pytest.mark.parametrize(
    ("name", "number"), [("C4", 60), ("A4", 69), ("F#3", 54), ("Bb5", 82), ("C-1", 0), ("snare", 38)]
)
def test_pitch_numbers(midi, name, number):
    assert midi.pitch_number(name) == number


def test_an_unknown_pitch_is_refused(midi):
    with pytest.raises(ValueError, match=r"'H4' is neither a pitch such as F#3 nor one of kick"):
        midi.pitch_number("H4")


def test_a_midi_file_byte_for_byte(midi):
    part = midi.Part("flute", 73, "!90 C4/1 -/.5 ~64 E4+G4", volume=100, pan=64, gate=Fraction(1, 2))
    expected = (
        "4d546864 00000006 0001 0002 01e0"  # MThd, format 1, 2 tracks, 480 ticks a beat
        "4d54726b 0000000c 00ff51030f4240 8930ff2f00"  # 1,000,000 microseconds a beat; end after 2.5 beats
        "4d54726b 0000002e 00b00764 00b00a40 00c049"  # volume, pan, program
        "00903c5a 8170803c00"  # C4 for half of its beat
        "8360b00b40 0090405a 0090435a"  # one beat later: expression, then E4 and G4 (as long as the rest)
        "78804000 00804300 8268ff2f00"
    ).replace(" ", "")
    assert midi.midi_file((part,), 60.0, Fraction(5, 2)).hex() == expected


def test_percussion_plays_on_its_channel_and_pitched_parts_do_not(midi):
    kit = midi.Part("kit", 0, "kick/1", percussion=True)
    parts = (midi.Part("0", 0, "C4/1"), midi.Part("1", 1, "C4/1"), kit)
    channels = {
        part.instrument: {message[0] & 15 for _, _, message in midi.part_events(part, channel)}
        for part, channel in zip(parts, (0, 1, midi.PERCUSSION_CHANNEL), strict=True)
    }
    assert channels == {"0": {0}, "1": {1}, "kit": {9}}
    assert bytes([0x99, 36]) in midi.midi_file(parts, 120.0, Fraction(1))


def test_parts_of_a_score_end_within_its_duration_or_soon_after(script):
    for score in script.SCORES:
        beats = score.duration_s * score.tempo_bpm / 60
        ends = [
            max(tick for tick, _, _ in sys.modules["midi_writer"].part_events(part, 0)) / 480 for part in score.parts
        ]
        # no part falls silent long before the others, and little of a score is cut off
        assert min(ends) > 0.75 * beats, score.name
        assert max(ends) < 1.3 * beats, score.name


# ---------------------------------------------------------------- the clips


def test_scripts_and_catalogue_name_the_same_clips_and_texts(script):
    names = [item.name for item in (*script.UTTERANCES, *script.SCORES)]
    assert names == [entry.name for entry in catalogue()]
    texts = {utterance.name: utterance.text for utterance in script.UTTERANCES}
    assert texts == {entry.name: entry.transcript for entry in catalogue() if entry.domain == "speech"}


def test_a_missing_tool_is_named_by_its_debian_package(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script.shutil, "which", lambda program: None if program == "espeak-ng" else program)
    monkeypatch.setattr(script, "SOUNDFONT", tmp_path / "gone.sf2")
    with pytest.raises(UnsupportedInput, match=r"apt-get install espeak-ng fluid-soundfont-gm\."):
        script.require_tools()


@pytest.mark.parametrize("name", ["speech_05_awb", "speech_14_whisper", "music_03_nylon_guitar"])
def test_the_same_tools_make_the_same_bytes(script, tmp_path, name):
    try:
        script.require_tools()
    except UnsupportedInput as error:
        pytest.skip(str(error))
    made_with = json.loads((SCRIPT_DIR / "catalogue.json").read_text(encoding="utf-8"))["made_with"]
    if script.tool_versions() != made_with:
        pytest.skip("other versions of the tools than the catalogue's")
    [item] = [item for item in (*script.UTTERANCES, *script.SCORES) if item.name == name]
    clip = (script.render if name.startswith("music") else script.speak)(item, tmp_path)
    entry = script.write_clip(clip, item.loudness_lufs, {}, tmp_path)
    [listed] = [listed for listed in catalogue() if listed.name == name]
    assert entry["sha256"] == listed.sha256
    assert hashlib.sha256((SCRIPT_DIR / listed.file).read_bytes()).hexdigest() == listed.sha256


# ---------------------------------------------------------------- loudness


def tone(level: float) -> audio.Clip:
    return audio.clip_from_array(level * np.sin(np.arange(48_000) * (math.tau * 440 / 48_000)), 48_000, "tone", "music")


def test_normalising_reaches_the_target(script):
    clip = script.normalise_loudness(tone(0.01), -23.0, 0.98)
    assert audio.loudness_lufs(clip) == pytest.approx(-23.0, abs=0.01)
    assert (clip.name, clip.domain) == ("tone", "music")


def test_normalising_stops_at_the_peak(script):
    clip = script.normalise_loudness(tone(0.5), 6.0, 0.9)
    assert clip.peak == pytest.approx(0.9, rel=1e-6)


def test_silence_cannot_be_normalised(script):
    with pytest.raises(UnsupportedInput, match=r"'hush' is silent .*\(peak 0\).*leave it out"):
        script.normalise_loudness(audio.clip_from_array(np.zeros(48_000), 48_000, "hush"), -23.0, 0.98)
