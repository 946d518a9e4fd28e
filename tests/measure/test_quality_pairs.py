import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.measure.quality import check_pair, misalignment_note

RATE_HZ = 16000


def lag_samples(reference: Clip, estimate: Clip) -> int:
    pair = (clip.samples.astype(np.float64) for clip in (reference, estimate))
    return misalignment_note(*pair, reference.sample_rate_hz)[0]


def noise(seed: int, num_samples: int = RATE_HZ, channels: int = 1, rate_hz: int = RATE_HZ) -> Clip:
    samples = 0.1 * np.random.default_rng(seed).standard_normal((channels, num_samples))
    return Clip(samples.astype(np.float32), rate_hz, name=f"noise{seed}")


@pytest.mark.parametrize("extra", [-2048, 0, 7, 2048])
def test_up_to_one_frame_is_cut_from_the_end(extra):
    longest = noise(0, RATE_HZ + 2048)
    reference = Clip(longest.samples[:, :RATE_HZ], RATE_HZ)
    estimate = Clip(longest.samples[:, : RATE_HZ + extra], RATE_HZ)
    wanted, received = check_pair(reference, estimate)
    assert wanted.shape == received.shape == (1, RATE_HZ + min(0, extra))
    assert wanted.dtype == np.float64
    np.testing.assert_array_equal(wanted, received)


def test_a_larger_difference_states_lengths_and_rate():
    with pytest.raises(UnsupportedInput, match=r"16000 samples and the estimate 18049.*16000 Hz.*2048 samples"):
        check_pair(noise(0), noise(0, RATE_HZ + 2049))


def test_a_missed_resampling_is_guessed_from_the_lengths():
    with pytest.raises(UnsupportedInput, match="ratio is that of 24000 to 16000 Hz"):
        check_pair(noise(0), noise(0, 24000))
    with pytest.raises(UnsupportedInput, match="decoding of this clip"):
        check_pair(noise(0), noise(0, 29000))


def test_rates_and_channels_must_agree():
    with pytest.raises(UnsupportedInput, match=r"16000 Hz, estimate at 24000 Hz.*convert"):
        check_pair(noise(0), noise(0, rate_hz=24000))
    with pytest.raises(UnsupportedInput, match=r"1 channels, the estimate 2"):
        check_pair(noise(0), noise(0, channels=2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_must_be_finite(bad):
    samples = noise(0).samples.copy()
    samples[0, 5] = bad
    with pytest.raises(CorruptInput, match="estimate of 'noise0' has samples that are not finite"):
        check_pair(noise(0), Clip(samples, RATE_HZ))
    with pytest.raises(CorruptInput, match="reference has samples"):
        check_pair(Clip(samples, RATE_HZ), noise(0))


def test_empty_clips_are_refused():
    with pytest.raises(CorruptInput, match="holds no samples"):
        check_pair(noise(0, 0), noise(0, 0))


@pytest.mark.parametrize("lag", [-1200, -1, 0, 1, 320])
def test_lag_is_found_with_its_sign(lag):
    source = noise(3, RATE_HZ + 4000).samples
    reference = Clip(source[:, 2000 : 2000 + RATE_HZ], RATE_HZ)
    estimate = Clip(-0.3 * source[:, 2000 - lag : 2000 - lag + RATE_HZ], RATE_HZ)  # inverted as well
    assert lag_samples(reference, estimate) == lag


def test_lag_is_looked_for_only_up_to_the_limit():
    source = noise(3, RATE_HZ + 8000).samples
    reference = Clip(source[:, :RATE_HZ], RATE_HZ)
    assert lag_samples(reference, Clip(source[:, 4000 : 4000 + RATE_HZ], RATE_HZ)) == -4000
    assert abs(lag_samples(reference, Clip(source[:, 4001 : 4001 + RATE_HZ], RATE_HZ))) <= 4000


def test_lag_of_a_periodic_signal_is_the_shortest():
    tone = np.sin(2 * np.pi * np.arange(RATE_HZ) / 40)[None].astype(np.float32)
    assert lag_samples(Clip(tone, RATE_HZ), Clip(tone, RATE_HZ)) == 0


def test_lag_of_silence_is_zero():
    silence = Clip(np.zeros((1, 1000), np.float32), RATE_HZ)
    assert lag_samples(silence, noise(0, 1000)) == 0


def test_note_speaks_up_only_where_a_shift_would_help():
    x = noise(5).samples.astype(np.float64)
    assert misalignment_note(x, x, RATE_HZ) == (0, "")
    lag, note = misalignment_note(x, np.roll(x, 24), RATE_HZ)
    assert lag == 24
    assert "24 samples late" in note
    assert "24 samples early" in misalignment_note(np.roll(x, 24), x, RATE_HZ)[1]
    # unrelated signals peak somewhere by chance, but not by much
    assert misalignment_note(x, noise(6).samples.astype(np.float64), RATE_HZ)[1] == ""
