import numpy as np
import pytest

from codecbook import audio
from codecbook.codecs import load_codec
from codecbook.codecs.adapters.units import NUM_FEATURES, load_units_model, unit_features
from codecbook.codecs.training.units import fit_units, main, save_units
from codecbook.errors import UnsupportedInput


@pytest.fixture(scope="module")
def fitted(pitches):
    return fit_units([pitches(seed) for seed in range(3)], num_units=16, seed=0)


def test_equal_seeds_give_equal_units(fitted, pitches):
    again = fit_units((pitches(seed) for seed in range(3)), num_units=16, seed=0)
    np.testing.assert_array_equal(again.centroids, fitted.centroids)
    other = fit_units([pitches(seed) for seed in range(3)], num_units=16, seed=1)
    assert not np.array_equal(other.centroids, fitted.centroids)


def test_too_little_speech_is_refused(pitches):
    with pytest.raises(UnsupportedInput, match="63 stretches of 40 ms for num_units=16"):
        fit_units([pitches()], num_units=16)
    with pytest.raises(UnsupportedInput, match="0 stretches"):
        fit_units([], num_units=2)


def test_units_are_saved_and_loaded_as_a_codec(tmp_path, fitted, pitches):
    sha256 = save_units(tmp_path, fitted, {"credits": ["tones, made here"]})
    loaded, loaded_sha256 = load_units_model(tmp_path)
    np.testing.assert_array_equal(loaded.centroids, fitted.centroids)
    codec = load_codec("units_25hz", weights=tmp_path)
    assert codec.weights.sha256 == loaded_sha256 == sha256
    assert codec.weights.kind == "bundled"
    np.testing.assert_array_equal(codec.encode(pitches()).codes[0], fitted.assign(unit_features(pitches().samples[0])))


def test_the_command_writes_a_model_and_its_card(tmp_path, capsys, pitches):
    for seed in range(2):
        audio.save(pitches(seed), tmp_path / "speech" / f"{seed}.wav")
    out = tmp_path / "model"
    arguments = [str(tmp_path / "speech"), "--out", str(out), "--units", "8", "--credit", "tones, CC0"]
    assert main(arguments) == 0
    assert "8 units from 5.0 s" in capsys.readouterr().out
    assert "- tones, CC0" in (out / "README.md").read_text()
    assert load_units_model(out)[0].centroids.shape == (8, NUM_FEATURES)
    assert main([*arguments[:-3], "900", "--credit", "x"]) == 2
    assert "give at least ten" in capsys.readouterr().err
