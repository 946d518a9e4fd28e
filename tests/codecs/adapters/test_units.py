import json

import numpy as np
import pytest

from codecbook.codecs import load_codec
from codecbook.codecs.adapters import units as units_module
from codecbook.codecs.adapters.units import NUM_FEATURES, Units, load_units_model, unit_features
from codecbook.codecs.training.units import save_units
from codecbook.errors import CorruptInput, UnsupportedInput


@pytest.fixture(scope="module")
def units():
    rng = np.random.default_rng(0)
    centroids, mean = rng.standard_normal((16, NUM_FEATURES)), rng.standard_normal(NUM_FEATURES)
    return Units(*(values.astype(np.float32) for values in (centroids, mean, np.linspace(0.5, 4.0, NUM_FEATURES))))


@pytest.mark.parametrize(("num_samples", "num_units"), [(1, 1), (640, 1), (641, 2), (16_000, 25)])
def test_there_is_a_unit_per_forty_milliseconds(num_samples, num_units):
    assert unit_features(np.zeros(num_samples, np.float32)).shape == (num_units, NUM_FEATURES)


def test_features_do_not_depend_on_how_many_are_computed_at_once(monkeypatch, pitches):
    samples = pitches().samples[0]
    whole = unit_features(samples)
    for at_once in (1, 7):
        monkeypatch.setattr(units_module, "_UNITS_AT_ONCE", at_once)
        # FFT and matrix products of other lengths may round differently in float64
        np.testing.assert_allclose(unit_features(samples), whole, rtol=0, atol=1e-10)


def test_the_first_feature_follows_the_level(pitches):
    quiet, loud = (unit_features(level * pitches().samples[0])[:, 0].mean() for level in (0.1, 1.0))
    # ten times the amplitude is a hundred times the power in each of 40 bands; the orthonormal DCT's first
    # coefficient is their sum over sqrt(40)
    assert loud - quiet == pytest.approx(np.log(100) * np.sqrt(40), rel=0.1)


def test_a_steady_sound_has_no_slopes():
    samples = 0.3 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    inner = unit_features(samples)[3:-3]
    assert np.abs(inner[:, 13:]).max() < 0.05 * np.abs(inner[:, :13]).max()


def test_the_nearest_centroid_is_assigned(units):
    features = units.centroids[[3, 0, 7]] * units.deviation + units.mean
    np.testing.assert_array_equal(units.assign(features), [3, 0, 7])


def test_damaged_or_altered_units_are_refused(tmp_path, units):
    save_units(tmp_path, units, {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "sha256": "0" * 64}))
    with pytest.raises(CorruptInput, match="fetch it again"):
        load_units_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "fsq"}))
    with pytest.raises(UnsupportedInput, match="architecture fsq"):
        load_units_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CorruptInput, match="truncated or damaged"):
        load_units_model(tmp_path)


def test_the_bundled_units_use_their_vocabulary_on_speech():
    codec = load_codec("units_25hz")
    assert codec.codebook_sizes == (512,)
    assert codec.bandwidths_kbps == (0.225,)
