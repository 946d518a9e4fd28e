import numpy as np
import pytest
import scipy.signal
import torch

from codecbook.audio import Clip
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.measure import quality
from codecbook.measure.quality import MEASURES, evaluate
from codecbook.measure.spectral import channel_log_mel_distance_db

RATE_HZ = 16000
CORE = tuple(name for name in MEASURES if name != "pesq_wideband")

pytestmark = pytest.mark.usefixtures("one_thread")  # small transforms spend more time on waking threads than on work
needs_pesq = pytest.mark.skipif(not quality.pesq_available(), reason="the optional package pesq is not installed")


def clip(samples: np.ndarray, rate_hz: int = RATE_HZ, **names) -> Clip:
    return Clip(np.atleast_2d(samples).astype(np.float32), rate_hz, **names)


def speechlike(seed: int, duration_s: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Harmonics of a gliding pitch in syllables of 4 Hz: enough like speech for STOI and PESQ to work on."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(duration_s * rate_hz)) / rate_hz
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / rate_hz
    voice = sum(np.sin(h * phase + rng.uniform(0, 6)) / h for h in range(1, 30))
    return 0.1 * (voice + 0.1 * rng.standard_normal(len(t))) * np.clip(np.sin(2 * np.pi * 2 * t), 0, 1)


def noisy(samples: np.ndarray, level: float, seed: int = 99) -> np.ndarray:
    return samples + level * np.random.default_rng(seed).standard_normal(samples.shape)


def test_si_sdr_and_snr_by_hand():
    reference = clip(np.array([1.0, -1.0, 1.0, -1.0]))
    estimate = clip(np.array([1.0, -1.0, 1.0, -1.0]) + 0.1 * np.array([1.0, 1.0, -1.0, -1.0]))
    # noise orthogonal to the reference and a hundredth of its energy
    assert quality.si_sdr_db(reference, estimate) == pytest.approx(20, abs=1e-5)
    assert quality.snr_db(reference, estimate) == pytest.approx(20, abs=1e-5)
    halved = clip(0.5 * reference.samples)
    assert quality.snr_db(reference, halved) == pytest.approx(20 * np.log10(2), rel=1e-9)
    assert quality.si_sdr_db(reference, halved) == np.inf
    assert quality.snr_db(reference, reference) == np.inf
    assert quality.snr_db(reference, clip(np.zeros(4))) == 0.0
    assert quality.si_sdr_db(reference, clip(np.array([1.0, 1.0, -1.0, -1.0]))) == -np.inf


def test_si_sdr_does_not_care_for_gain_polarity_and_offset():
    x = speechlike(0)
    y = noisy(x, 0.01)
    expected = quality.si_sdr_db(clip(x), clip(y))
    for changed in (0.01 * y, -y, y + 0.25):
        # clips are float32, so a changed gain rounds the samples anew
        assert quality.si_sdr_db(clip(x), clip(changed)) == pytest.approx(expected, abs=1e-3)
    assert quality.snr_db(clip(x), clip(-y)) < 0


def test_si_sdr_agrees_with_torchmetrics():
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    x = speechlike(1).astype(np.float32)
    y = noisy(x, 0.02).astype(np.float32)
    expected = scale_invariant_signal_distortion_ratio(
        torch.from_numpy(y.astype(np.float64)), torch.from_numpy(x.astype(np.float64)), zero_mean=True
    )
    assert quality.si_sdr_db(clip(x), clip(y)) == pytest.approx(float(expected), abs=1e-9)


def test_identity_is_perfect():
    x = clip(speechlike(2))
    values, notes = evaluate(x, x, CORE)
    assert values["si_sdr_db"] == values["snr_db"] == np.inf
    assert values["log_mel_distance_db"] == values["stft_distance"] == 0
    assert values["stoi"] == pytest.approx(1, abs=1e-6)
    assert notes == []


@pytest.mark.parametrize("name", CORE)
def test_more_noise_is_worse(name):
    x = speechlike(3)
    values = [getattr(quality, name)(clip(x), clip(noisy(x, level))) for level in (0.003, 0.01, 0.03, 0.1, 0.3)]
    rising = name.endswith(("distance", "distance_db"))
    assert (np.diff(values) > 0).all() if rising else (np.diff(values) < 0).all(), values


@pytest.mark.parametrize("name", CORE)
def test_function_and_evaluate_agree(name):
    x = speechlike(4)
    reference, estimate = clip(x), clip(noisy(x, 0.02))
    values, _ = evaluate(reference, estimate, [name])
    assert values == {name: getattr(quality, name)(reference, estimate)}


def test_channels_are_averaged():
    x = np.stack([speechlike(5), speechlike(6)])
    y = noisy(x, 0.02)
    for name in CORE:
        measure = getattr(quality, name)
        each = [measure(clip(x[c]), clip(y[c])) for c in range(2)]
        assert measure(clip(x), clip(y)) == pytest.approx(np.mean(each), rel=1e-12)


def test_a_silent_channel_is_left_out_and_named():
    x = np.stack([speechlike(5), np.zeros(2 * RATE_HZ)])
    y = noisy(x, 0.02)
    values, notes = evaluate(clip(x), clip(y), ["si_sdr_db", "snr_db"])
    assert values["si_sdr_db"] == quality.si_sdr_db(clip(x[0]), clip(y[0]))
    assert "snr_db: channel 1: the reference is silent" in notes


def test_a_silent_reference_is_undefined_not_an_error():
    silence = clip(np.zeros(2 * RATE_HZ))
    values, notes = evaluate(silence, clip(speechlike(0)), CORE)
    for name in CORE:
        assert np.isnan(values[name]), name
        assert any(note.startswith(f"{name}: the reference is silent") for note in notes)


def test_a_silent_estimate():
    x = clip(speechlike(0))
    values, notes = evaluate(x, clip(np.zeros(x.num_samples)), CORE)
    assert np.isnan(values["si_sdr_db"])
    assert "si_sdr_db: the estimate is silent or constant" in notes
    assert values["snr_db"] == 0
    assert values["stoi"] == pytest.approx(0, abs=1e-6)
    assert values["log_mel_distance_db"] > 10


def test_a_constant_reference_is_no_signal_for_si_sdr():
    assert np.isnan(quality.si_sdr_db(clip(np.full(1000, 0.1)), clip(speechlike(0)[:1000])))


@pytest.mark.parametrize("num_samples", [1, 100, 1025, 6143, 6200])
def test_clips_too_short_for_stoi_are_undefined_with_a_reason(num_samples):
    x = clip(0.1 * np.random.default_rng(0).standard_normal(num_samples))
    values, notes = evaluate(x, x, ["stoi"])
    assert np.isnan(values["stoi"])
    assert notes[0].startswith("stoi: too short")


def test_short_clips_still_have_the_other_measures():
    x = 0.1 * np.random.default_rng(0).standard_normal(1024)
    values, notes = evaluate(clip(x), clip(noisy(x, 0.01)), ["si_sdr_db", "log_mel_distance_db", "stft_distance"])
    assert 15 < values["si_sdr_db"] < 25
    assert 0 < values["log_mel_distance_db"] < 3
    assert np.isnan(values["stft_distance"])
    assert "1024 samples are fewer than the 1025" in notes[0]


def test_rates_too_low_for_a_measure_are_undefined():
    x = clip(speechlike(0, rate_hz=8000), 8000)
    assert np.isnan(quality.stoi(x, x))
    assert "8000 Hz is below the 10000 Hz" in evaluate(x, x, ["stoi"])[1][0]


def test_a_difference_in_length_is_reported():
    x = speechlike(8)
    assert evaluate(clip(x), clip(noisy(x, 0.02)[:-100]), ["snr_db"])[1] == [
        "estimate has -100 samples; compared without"
    ]


def test_a_delay_is_reported_and_not_removed():
    x = speechlike(9)
    delayed = np.concatenate([np.zeros(37), x[:-37]])
    values, notes = evaluate(clip(x), clip(delayed), ["si_sdr_db"])
    assert "37 samples late" in notes[0]
    assert "did you forget" in notes[0]
    assert values["si_sdr_db"] < 10


def test_log_mel_distance_sees_a_missing_band():
    x = np.random.default_rng(0).standard_normal(2 * RATE_HZ) * 0.1
    lowpass = scipy.signal.butter(10, 3000, fs=RATE_HZ, output="sos")
    y = scipy.signal.sosfiltfilt(lowpass, x)
    assert quality.log_mel_distance_db(clip(x), clip(y)) > 10
    assert channel_log_mel_distance_db(x, y.copy(), RATE_HZ, max_frequency_hz=2000) < 1


def test_unknown_measures_are_named():
    x = clip(speechlike(0))
    with pytest.raises(UnsupportedInput, match=r"no measure visqol; choose from si_sdr_db"):
        evaluate(x, x, ["visqol"])


def test_pairs_are_checked():
    x = clip(speechlike(0))
    with pytest.raises(UnsupportedInput, match="24000 Hz"):
        quality.snr_db(x, clip(speechlike(0), 24000))
    broken = x.samples.copy()
    broken[0, 0] = np.nan
    with pytest.raises(CorruptInput, match="not finite"):
        evaluate(x, clip(broken), ["snr_db"])


def test_without_pesq_it_is_refused_clearly(monkeypatch):
    monkeypatch.setattr(quality, "pesq_available", lambda: False)
    x = clip(speechlike(0))
    with pytest.raises(UnsupportedInput, match=r"pip install 'codecbook\[pesq\]'"):
        quality.pesq_wideband(x, x)
    with pytest.raises(UnsupportedInput, match="needs pesq"):
        evaluate(x, x, ["pesq_wideband"])


@needs_pesq
def test_pesq_of_a_copy_is_its_maximum_and_falls_with_noise():
    x = speechlike(10)
    scores = [quality.pesq_wideband(clip(x), clip(noisy(x, level))) for level in (0.0, 0.003, 0.03)]
    assert scores[0] == pytest.approx(4.64, abs=0.01)
    assert scores[0] > scores[1] > scores[2] >= 1.0


@needs_pesq
def test_pesq_works_at_other_rates():
    x = speechlike(10, rate_hz=24000)
    assert quality.pesq_wideband(clip(x, 24000), clip(x, 24000)) == pytest.approx(4.64, abs=0.01)


@needs_pesq
def test_pesq_is_undefined_with_a_reason():
    short = clip(speechlike(0)[:3000])
    values, notes = evaluate(short, short, ["pesq_wideband"])
    assert np.isnan(values["pesq_wideband"])
    assert "1/4 of a second" in notes[0]
    low = clip(speechlike(0, rate_hz=8000), 8000)
    assert "8000 Hz is below" in evaluate(low, low, ["pesq_wideband"])[1][0]
    silence = clip(np.zeros(RATE_HZ))
    speech = clip(speechlike(0)[:RATE_HZ])
    assert np.isnan(quality.pesq_wideband(silence, speech))
    assert "the estimate is silent" in evaluate(speech, silence, ["pesq_wideband"])[1][0]


@needs_pesq
@pytest.mark.parametrize("level", [1e-30, 1e-20, 1e-10])
def test_pesq_of_an_estimate_that_is_all_but_silent_does_not_fail(level):
    speech = speechlike(0)
    score = quality.pesq_wideband(clip(speech), clip(level * noisy(speech, 0.1)))
    assert np.isnan(score) or 1 <= score < 4.65


@needs_pesq
def test_all_measures_together_on_speechlike_audio():
    x = speechlike(11)
    values, notes = evaluate(clip(x), clip(noisy(x, 0.01)), MEASURES)
    assert tuple(values) == MEASURES
    assert np.isfinite(list(values.values())).all()
    assert notes == []
