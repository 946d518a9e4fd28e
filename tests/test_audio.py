import logging
import math
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook import audio
from codecbook.audio import Clip
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput

RATES_HZ = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
PCM16_STEP = 1 / 32768


def tone(duration_s=0.5, sample_rate_hz=24000, channels=1, frequency_hz=440.0, level=0.5) -> Clip:
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    phases = np.arange(channels)[:, None] * 0.7
    samples = level * np.sin(2 * np.pi * frequency_hz * time_s + phases)
    return audio.clip_from_array(samples, sample_rate_hz, "tone", "music")


# ---------------------------------------------------------------- Clip and clip_from_array


def test_a_clip_knows_its_size_and_peak():
    clip = Clip(np.array([[0.0, -0.5, 0.25, 0.0]], np.float32), 8)
    assert (clip.num_channels, clip.num_samples, clip.duration_s, clip.peak) == (1, 4, 0.5, 0.5)


@pytest.mark.parametrize("samples", [np.zeros(4, np.float32), np.zeros((1, 4)), np.zeros((1, 1, 4), np.float32)])
def test_a_clip_is_float32_with_two_axes(samples):
    with pytest.raises(UnsupportedInput, match=r"received float(32|64) \[.*clip_from_array"):
        Clip(samples, 16000)


@pytest.mark.parametrize("rate_hz", [0, -1, 44100.5, math.nan, "48000", None])
def test_a_rate_is_a_positive_whole_number(rate_hz):
    with pytest.raises(UnsupportedInput, match=rf"positive whole number; received '?{rate_hz}'?\."):
        Clip(np.zeros((1, 4), np.float32), rate_hz)


def test_numpy_integers_are_rates():
    clip = Clip(np.zeros((1, 4), np.float32), np.int64(16000))  # pyright: ignore[reportArgumentType]
    assert type(clip.sample_rate_hz) is int


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1.0, 0.0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1.0, 0.5]),
        (np.array([-128, 64], np.int8), [-1.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),
        (np.array([0.25, -2.0], np.float16), [0.25, -2.0]),
    ],
)
def test_pcm_is_scaled_to_full_scale_one(samples, expected):
    clip = audio.clip_from_array(samples, 16000)
    assert clip.samples.dtype == np.float32
    np.testing.assert_array_equal(clip.samples, np.array([expected], np.float32))


@pytest.mark.parametrize("dtype", [np.uint16, np.complex64, bool, object])
def test_other_types_are_refused(dtype):
    with pytest.raises(UnsupportedInput, match=r"(uint16|complex64|bool|object) is no float.*convert it to float32"):
        audio.clip_from_array(np.ones(4, dtype), 16000)


@pytest.mark.parametrize("shape", [(), (1, 2, 3)])
def test_other_numbers_of_axes_are_refused(shape):
    with pytest.raises(UnsupportedInput, match=r"\[C, S\] or \[S\]; received shape \[(1, 2, 3)?\]\."):
        audio.clip_from_array(np.zeros(shape), 16000)


def test_samples_first_is_recognised():
    with pytest.raises(UnsupportedInput, match=r"\[1000, 2\], has more channels than samples.*array\.T"):
        audio.clip_from_array(np.zeros((1000, 2)), 16000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e300])
def test_samples_that_are_not_finite_are_located(bad):
    samples = np.zeros((2, 9))
    samples[1, 3:5] = bad
    with pytest.raises(CorruptInput, match=r"'x' has 2 sample\(s\) not finite, first at 3 of channel 1.*repair"):
        audio.clip_from_array(samples, 16000, "x")


# ---------------------------------------------------------------- convert


@settings(max_examples=150, deadline=None)
@given(
    num_samples=st.integers(1, 3000),
    from_hz=st.sampled_from(RATES_HZ),
    to_hz=st.sampled_from(RATES_HZ),
    channels=st.integers(1, 3),
)
def test_resampling_gives_the_rounded_length(num_samples, from_hz, to_hz, channels):
    clip = audio.clip_from_array(np.full((channels, num_samples), 0.1), from_hz, "x", "speech")
    result = audio.convert(clip, to_hz)
    # S out / in in integers: half an output sample above or below at most, and a half is rounded either way
    assert abs(2 * (result.num_samples * from_hz - num_samples * to_hz)) <= from_hz or result.num_samples == 1
    assert (result.sample_rate_hz, result.num_channels) == (to_hz, channels)
    assert (result.name, result.domain) == ("x", "speech")
    assert np.isfinite(result.samples).all()
    assert result.samples.flags.c_contiguous


def test_resampling_is_deterministic():
    clip = tone(channels=2, sample_rate_hz=44100)
    first, second = (audio.convert(clip, 24000).samples.tobytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("from_hz", "to_hz"), [(48000, 16000), (16000, 48000), (44100, 24000), (22050, 24000)])
def test_resampling_keeps_a_tone_in_place(from_hz, to_hz):
    result = audio.convert(tone(1.0, from_hz, frequency_hz=1000.0), to_hz)
    inner = slice(to_hz // 10, -to_hz // 10)  # the filter rings at the clip's ends
    expected = tone(1.0, to_hz, frequency_hz=1000.0).samples[:, inner]
    # soxr's VHQ promises 28 bits; float32 samples and their sums leave 1e-6
    np.testing.assert_allclose(result.samples[:, inner], expected, rtol=0, atol=2e-6)


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    result = audio.convert(tone(1.0, 48000, frequency_hz=11000.0), 16000)
    assert audio.rms(result) < 1e-3  # -51 dB, all of it from the tone's abrupt ends


def test_a_clip_shorter_than_one_output_sample_becomes_its_mean():
    clip = audio.clip_from_array([[0.1, 0.3], [0.5, 0.7]], 48000)
    np.testing.assert_allclose(audio.convert(clip, 8000).samples, [[0.2], [0.6]], rtol=1e-6)
    np.testing.assert_allclose(audio.convert(clip, 8000, channels=1).samples, [[0.4]], rtol=1e-6)


def test_a_clip_without_samples_stays_without():
    clip = Clip(np.zeros((2, 0), np.float32), 48000)
    assert audio.convert(clip, 16000).samples.shape == (2, 0)
    assert (audio.rms(clip), clip.peak, audio.loudness_lufs(clip)) == (0.0, 0.0, -math.inf)


def test_channels_are_averaged_or_duplicated():
    stereo = audio.clip_from_array([[0.5, 0.25], [-0.5, 0.75]], 16000)
    mono = audio.convert(stereo, channels=1)
    np.testing.assert_array_equal(mono.samples, np.array([[0.0, 0.5]], np.float32))
    np.testing.assert_array_equal(audio.convert(mono, channels=2).samples, np.repeat(mono.samples, 2, axis=0))
    assert audio.convert(stereo).samples is stereo.samples


@pytest.mark.parametrize(("have", "want"), [(5, 2), (2, 3), (1, 3), (2, 0), (1, -1)])
def test_other_changes_of_channels_are_refused(have, want):
    with pytest.raises(UnsupportedInput, match=rf"has {have} channels, not {want}; choose or mix"):
        audio.convert(tone(0.01, channels=have), channels=want)


@pytest.mark.parametrize("rate_hz", [0, -16000, 24000.5])
def test_a_bad_target_rate_is_refused(rate_hz):
    with pytest.raises(UnsupportedInput, match=rf"received {rate_hz}"):
        audio.convert(tone(0.01), rate_hz)


def test_a_rate_in_kilohertz_is_recognised():
    with pytest.raises(UnsupportedInput, match=r"24000 Hz to 24 Hz.*in Hz"):
        audio.convert(tone(0.01), 24)


# ---------------------------------------------------------------- save and load


@settings(max_examples=25, deadline=None)
@given(
    pcm=st.lists(st.integers(-32768, 32767), min_size=1, max_size=400),
    channels=st.integers(1, 4),
    rate_hz=st.sampled_from(RATES_HZ),
    suffix=st.sampled_from([".wav", ".flac"]),
)
def test_16_bit_samples_return_exactly(tmp_path_factory, pcm, channels, rate_hz, suffix):
    samples = np.resize(np.array(pcm, np.int16), (channels, len(pcm)))
    clip = audio.clip_from_array(samples, rate_hz)
    path = audio.save(clip, tmp_path_factory.mktemp("pcm") / f"a{suffix}")
    again = audio.load(path)
    assert again.sample_rate_hz == rate_hz
    np.testing.assert_array_equal(again.samples, clip.samples)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_lossless_formats_round_to_16_bits(tmp_path, suffix):
    clip = tone(channels=2)
    again = audio.load(audio.save(clip, tmp_path / f"tone{suffix}"))
    assert again.name == "tone"
    # half a step of rounding; libsndfile truncates positive and negative values alike in some builds: one step
    np.testing.assert_allclose(again.samples, clip.samples, rtol=0, atol=PCM16_STEP)


@pytest.mark.parametrize(("suffix", "rate_hz"), [(".ogg", 24000), (".ogg", 48000), (".mp3", 24000), (".mp3", 44100)])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_keep_length_and_sound(tmp_path, suffix, rate_hz, channels):
    clip = tone(1.0, rate_hz, channels)
    again = audio.load(audio.save(clip, tmp_path / f"tone{suffix}"))
    assert (again.sample_rate_hz, again.num_channels) == (rate_hz, channels)
    # mp3 may keep part of its padding of up to two frames of 1152 samples
    assert 0 <= again.num_samples - clip.num_samples <= 2304
    inner = slice(rate_hz // 10, -rate_hz // 10)
    error = again.samples[:, : clip.num_samples][:, inner] - clip.samples[:, inner]
    assert np.sqrt(np.mean(error**2)) < 0.05 * audio.rms(clip)  # a pure tone at default quality: below -26 dB


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [
        ("PCM_U8", 1 / 128),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),
        ("FLOAT", 2**-24),
        ("DOUBLE", 2**-24),
        ("ULAW", 0.03),
    ],
)
def test_every_sample_format_of_wav_is_read_at_full_scale_one(tmp_path, subtype, tolerance):
    clip = tone(channels=2)
    soundfile.write(tmp_path / "a.wav", clip.samples.T.astype(np.float64), 24000, subtype=subtype)
    # one quantiser step; float32 keeps 24 bits; u-law's steps grow to 3 % of full scale
    np.testing.assert_allclose(audio.load(tmp_path / "a.wav").samples, clip.samples, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "expected"), [("a.wav", ("WAV", "PCM_16")), ("b.c.MP3", ("MP3", "MPEG_LAYER_III"))])
def test_the_suffix_names_the_format(name, expected):
    assert audio.write_format(name) == expected


@pytest.mark.parametrize("suffix", [".aiff", ".aif"])
def test_aiff_is_read(tmp_path, suffix):
    clip = tone()
    soundfile.write(tmp_path / f"a{suffix}", clip.samples.T, 24000, format="AIFF", subtype="PCM_16")
    np.testing.assert_allclose(audio.load(tmp_path / f"a{suffix}").samples, clip.samples, rtol=0, atol=PCM16_STEP)


def test_opus_is_read(tmp_path):
    clip = tone(1.0, 48000)
    soundfile.write(tmp_path / "a.opus", clip.samples.T, 48000, format="OGG", subtype="OPUS")
    again = audio.load(tmp_path / "a.opus")
    assert (again.sample_rate_hz, again.num_samples) == (48000, 48000)
    assert audio.rms(again) == pytest.approx(audio.rms(clip), rel=0.05)  # a lossy coder at its default bitrate


def test_load_resamples_and_mixes(tmp_path):
    path = audio.save(tone(1.0, 48000, channels=2), tmp_path / "a.wav")
    clip = audio.load(path, sample_rate_hz=16000, mono=True)
    assert (clip.samples.shape, clip.sample_rate_hz) == ((1, 16000), 16000)


def test_clipped_samples_are_counted_and_said(tmp_path, caplog):
    clip = audio.clip_from_array([0.5, 1.5, -2.0, 1.0], 16000)
    with caplog.at_level(logging.WARNING, "codecbook.audio"):
        path = audio.save(clip, tmp_path / "loud.wav")
    assert [record.getMessage() for record in caplog.records] == [
        f"2 of 4 samples beyond full scale are clipped in {path}"
    ]
    np.testing.assert_allclose(audio.load(path).samples, [[0.5, 1.0, -1.0, 1.0]], rtol=0, atol=PCM16_STEP)


def test_a_clip_within_full_scale_is_saved_in_silence(tmp_path, caplog):
    audio.save(audio.clip_from_array([1.0, -1.0], 16000), tmp_path / "a.wav")
    assert not caplog.records


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = audio.save(tone(0.1), tmp_path / "a.wav")
    before = path.read_bytes()
    with pytest.raises(CodecbookError, match=r"a\.wav exists; pass overwrite=True"):
        audio.save(tone(0.2), path)
    assert path.read_bytes() == before
    audio.save(tone(0.2), path, overwrite=True)
    assert audio.load(path).duration_s == 0.2


@pytest.mark.parametrize("name", ["a.m4a", "a", "a.wav.txt"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(UnsupportedInput, match=rf"Cannot write {name}: choose one of \.wav, \.flac"):
        audio.write_format(tmp_path / name)
    with pytest.raises(UnsupportedInput, match=rf"Cannot write {name}: choose one of \.wav, \.flac"):
        audio.save(tone(0.1), tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "channels"), [(".mp3", 96000, 1), (".mp3", 48000, 3), (".flac", 48000, 9)]
)
def test_what_a_format_cannot_hold_is_refused_without_a_trace(tmp_path, suffix, rate_hz, channels):
    with pytest.raises(UnsupportedInput, match=rf"{channels} channels at {rate_hz} Hz .*write wav"):
        audio.save(tone(0.1, rate_hz, channels), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_keeps_the_old_file_whole(tmp_path, monkeypatch):
    path = audio.save(tone(0.1), tmp_path / "a.wav")
    before = path.read_bytes()

    def fail(self, data):
        raise OSError("disk full")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        audio.save(tone(0.2), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_ogg_does_not_overflow_the_encoders_stack(tmp_path):
    # libsndfile ends the process when it is handed so many samples at once, under the usual stack of 8 MiB
    clip = Clip(np.zeros((1, 2_500_000), np.float32), 48000)
    assert audio.load(audio.save(clip, tmp_path / "long.ogg")).num_samples == clip.num_samples


# ---------------------------------------------------------------- files that cannot be used


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus", "a.raw", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all, but text\n" * 40])
def test_other_bytes_are_no_audio(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptInput, match=rf"{name} (could not be read as audio|holds no samples).*(export|record)"):
        audio.load(tmp_path / name)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_without_samples_is_refused(tmp_path, suffix):
    soundfile.write(tmp_path / f"a{suffix}", np.zeros((0, 1)), 16000)
    with pytest.raises(CorruptInput, match=r"could not be read as audio|holds no samples; record"):
        audio.load(tmp_path / f"a{suffix}")


def test_nan_in_a_float_wav_is_located(tmp_path):
    samples = np.zeros(2000, np.float32)
    samples[1234] = np.nan
    soundfile.write(tmp_path / "bad.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(CorruptInput, match=r"'bad' has 1 sample\(s\) not finite, first at 1234 of channel 0"):
        audio.load(tmp_path / "bad.wav")


def test_a_truncated_flac_is_refused(tmp_path):
    path = audio.save(tone(2.0), tmp_path / "a.flac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptInput, match=r"a\.flac (could not be read|is truncated)"):
        audio.load(path)


def test_a_truncated_mp3_is_refused(tmp_path):
    path = audio.save(tone(4.0, 44100), tmp_path / "a.mp3")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptInput, match=r"a\.mp3 is truncated: \d+ of 17\d{4} samples; copy"):
        audio.load(path)


def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path):
    clip = tone(0.25)
    data = bytearray(audio.save(clip, tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "pipe.wav").write_bytes(data)
    assert audio.load(tmp_path / "pipe.wav").num_samples == clip.num_samples


def test_a_header_that_promises_too_much_does_not_take_the_memory(tmp_path):
    data = bytearray(audio.save(tone(0.5), tmp_path / "a.flac").read_bytes())
    data[21] |= 0x0F  # the 36 bits of STREAMINFO's number of samples
    data[22:26] = b"\xff" * 4
    (tmp_path / "huge.flac").write_bytes(data)
    with pytest.raises(CorruptInput, match=r"huge\.flac .*(truncated|could not be read)"):
        audio.load(tmp_path / "huge.flac")


def test_a_file_of_more_channels_than_samples_is_named(tmp_path):
    soundfile.write(tmp_path / "wide.wav", np.zeros((1, 33)), 8000)
    with pytest.raises(UnsupportedInput, match=r"'wide'.*\[33, 1\]"):
        audio.load(tmp_path / "wide.wav")


@settings(max_examples=80, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".wav", ".flac"]))
def test_damaged_files_load_or_raise_ours(tmp_path_factory, data, suffix):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(audio.save(tone(0.05, channels=2), folder / f"good{suffix}").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    (folder / f"bad{suffix}").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        clip = audio.load(folder / f"bad{suffix}")
    except CodecbookError as error:
        message = str(error)
    else:
        assert np.isfinite(clip.samples).all()
        assert clip.num_samples > 0
        return
    assert "bad" in message


# ---------------------------------------------------------------- loudness


@pytest.mark.parametrize("rate_hz", [16000, 24000, 44100, 48000])
def test_the_standards_reference_tone_reads_as_the_standard_says(rate_hz):
    # BS.1770-4: a 997 Hz sine at 0 dB FS in one front channel reads -3.01 LKFS; the filters are warped a little
    # by the bilinear transform at lower rates
    clip = tone(2.0, rate_hz, frequency_hz=997.0, level=1.0)
    assert audio.loudness_lufs(clip) == pytest.approx(-3.01, abs=0.1)


def test_a_second_equal_channel_adds_three_decibels():
    mono = tone(1.0)
    stereo = audio.convert(mono, channels=2)
    assert audio.loudness_lufs(stereo) - audio.loudness_lufs(mono) == pytest.approx(3.01, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(num_samples=st.integers(2, 12000), rate_hz=st.sampled_from(RATES_HZ))
def test_short_clips_have_a_loudness(num_samples, rate_hz):
    noise = np.random.default_rng(num_samples).uniform(-0.5, 0.5, num_samples)
    clip = audio.clip_from_array(noise, rate_hz)
    assert -70 < audio.loudness_lufs(clip) < 3


@pytest.mark.parametrize("samples", [np.zeros(48000), np.zeros(100), np.full(48000, 1e-6), np.ones(1)])
def test_silence_and_single_samples_read_minus_infinity(samples):
    assert audio.loudness_lufs(audio.clip_from_array(samples, 48000)) == -math.inf


def test_loudness_is_refused_where_it_is_not_defined():
    with pytest.raises(UnsupportedInput, match=r"up to 5 channels; received 6\. Convert"):
        audio.loudness_lufs(tone(0.5, 48000, 6))


@pytest.mark.parametrize("rate_hz", [100, 2000, 3999])
def test_the_loudness_of_a_low_rate_is_that_of_the_same_sound_at_a_higher_one(rate_hz):
    low = tone(1.0, rate_hz, frequency_hz=40.0)
    high = tone(1.0, 48000, frequency_hz=40.0)
    assert audio.loudness_lufs(low) == pytest.approx(audio.loudness_lufs(high), abs=0.3)
    assert audio.loudness_lufs(audio.clip_from_array([0.5, 0.5], 2000)) < 0


def test_samples_that_are_not_finite_are_not_saved(tmp_path):
    clip = Clip(np.array([[0.0, np.nan]], np.float32), 16000, "x")
    with pytest.raises(CorruptInput, match=r"'x' has 1 sample\(s\) not finite"):
        audio.save(clip, tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


def test_rms_of_a_sine_is_its_level_over_root_two():
    # 440 Hz in 0.5 s: whole periods
    assert audio.rms(tone(0.5, level=0.5)) == pytest.approx(0.5 / math.sqrt(2), rel=1e-6)
