"""Audio files that are not what their headers say: joined, written to a pipe, out of range, oddly named."""

import logging
import os
import struct

import numpy as np
import pytest
import soundfile

from codecbook import audio
from codecbook.audio_files import AudioFile
from codecbook.codecs.blocks import AudioBlocks
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.paths import extra_dir

RATE_HZ = 16000
KINDS = {".mp3": ("MP3", None), ".flac": ("FLAC", None), ".ogg": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS")}


def noise(num_samples, channels=1):
    return np.random.default_rng(num_samples).uniform(-0.3, 0.3, (num_samples, channels))


def write(path, samples, rate_hz=RATE_HZ):
    file_format, subtype = KINDS[path.suffix]
    soundfile.write(path, samples, rate_hz, format=file_format, subtype=subtype)
    return path


def read_in_blocks(path, monkeypatch, channels=1):
    monkeypatch.setattr("codecbook.codecs.blocks._WHOLE_SAMPLES", 0)
    return np.concatenate(list(AudioBlocks(path, RATE_HZ, channels)), axis=1)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)])
def test_joined_files_are_read_to_the_end(tmp_path, monkeypatch, caplog, suffix, tag):
    if tag and suffix != ".mp3":
        pytest.skip("only mp3 has such a tag in front")
    parts = [write(tmp_path / f"{count}{suffix}", noise(count)) for count in (32000, 16000, 20000)]
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(tag + part.read_bytes() for part in parts))
    expected = np.concatenate([audio.load(part).samples for part in parts], axis=1)
    with caplog.at_level(logging.WARNING, "codecbook"):
        clip = audio.load(joined)
    np.testing.assert_array_equal(clip.samples, expected)
    assert clip.note == "3 recordings joined in one file, read one after the other"
    assert caplog.messages == [f"{joined}: {clip.note}"]
    np.testing.assert_array_equal(read_in_blocks(joined, monkeypatch), expected)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_is_not_joined_is_one_part_and_blocks_are_the_whole(tmp_path, monkeypatch, suffix):
    path = write(tmp_path / f"a{suffix}", noise(50000))
    whole = audio.load(path).samples
    # exactly: where each block ends in a seek, as soundfile does it, mp3 comes back with errors of 1e-3
    monkeypatch.setattr("codecbook.audio_files._BLOCK_SAMPLES", 7000)
    with AudioFile(path) as file:
        assert file.promised_samples == 50000
        np.testing.assert_array_equal(np.concatenate(list(file.blocks())).T, whole)
        assert not file.note


@pytest.mark.parametrize(
    ("second", "rate_hz", "found"), [(noise(8000), 8000, "1 at 8000 Hz"), (noise(8000, 2), RATE_HZ, "2 at 16000 Hz")]
)
def test_joined_files_that_do_not_fit_are_refused(tmp_path, second, rate_hz, found):
    first = write(tmp_path / "a.flac", noise(8000)).read_bytes()
    path = write(tmp_path / "b.flac", second, rate_hz)
    path.write_bytes(first + path.read_bytes())
    with pytest.raises(CorruptInput, match=rf"do not fit: 1 channel\(s\) at 16000 Hz, and part 2 has {found}; split"):
        audio.load(path)


def test_a_damaged_part_is_named(tmp_path):
    part = write(tmp_path / "a.ogg", noise(8000)).read_bytes()
    (tmp_path / "b.ogg").write_bytes(part + part[:40])
    with pytest.raises(CorruptInput, match=rf"from byte {len(part)} on, where another file was joined"):
        audio.load(tmp_path / "b.ogg")


@pytest.mark.parametrize("length", [4, 20, 26, 27, 28])
def test_an_ogg_that_ends_within_its_first_page_is_refused(tmp_path, length):
    path = write(tmp_path / "a.ogg", noise(8000))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptInput, match=r"a\.ogg"):
        audio.load(path)


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_from_a_pipe_is_read_whatever_length_it_has(tmp_path, monkeypatch, length, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(8000, 2), RATE_HZ, subtype=subtype)
    expected = audio.load(path).samples
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", length)
    data[4:8] = struct.pack("<I", min(length + 36, 0xFFFFFFFF))
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.load(path).samples, expected)
    np.testing.assert_array_equal(read_in_blocks(path, monkeypatch, 2), expected)


def test_a_flac_from_a_pipe_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "a.flac", noise(8000))
    expected = audio.load(path).samples
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of STREAMINFO's number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.load(path).samples, expected)
    with AudioFile(path) as file:
        assert file.promised_samples is None


@pytest.mark.parametrize("after", [b"", b"LIST\x04\x00\x00\x00INFO", b"LIST\x04\x00\x00\x00INFOid3 \x02\x00\x00\x00xx"])
def test_a_wav_without_samples_stays_one(tmp_path, monkeypatch, after):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((0, 1)), RATE_HZ, subtype="PCM_16")
    path.write_bytes(path.read_bytes() + after)
    for read in (audio.load, lambda path: read_in_blocks(path, monkeypatch)):
        with pytest.raises(CorruptInput, match=r"a\.wav holds no samples; record or export it again"):
            read(path)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_whole_numbers_in_a_float_file_are_16_bit_values(tmp_path, monkeypatch, caplog, subtype):
    values = np.round(noise(8000) * 32768)
    soundfile.write(tmp_path / "a.wav", values, RATE_HZ, subtype=subtype)
    with caplog.at_level(logging.WARNING, "codecbook"):
        clip = audio.load(tmp_path / "a.wav")
    np.testing.assert_array_equal(clip.samples, (values.T / 32768).astype(np.float32))
    peak = int(np.abs(values).max())
    assert clip.note == f"float samples are whole numbers up to {peak}, so 16-bit values: divided by 32768"
    assert caplog.messages == [f"{tmp_path / 'a.wav'}: {clip.note}"]
    np.testing.assert_array_equal(read_in_blocks(tmp_path / "a.wav", monkeypatch), clip.samples)


@pytest.mark.parametrize(("peak", "is_said"), [(1.0, False), (4.0, False), (9000.5, True), (100000.0, True)])
def test_samples_far_beyond_full_scale_are_said(tmp_path, caplog, peak, is_said):
    soundfile.write(tmp_path / "a.wav", [0.25, peak, -0.5], RATE_HZ, subtype="FLOAT")
    with caplog.at_level(logging.WARNING, "codecbook"):
        clip = audio.load(tmp_path / "a.wav")
    assert clip.peak == peak
    assert clip.note == ""
    assert [f"samples reach {peak:g}, and full scale is 1; divide" in text for text in caplog.messages] == [
        True
    ] * is_said


@pytest.mark.parametrize("num_samples", [1, 160])
def test_the_shortest_files_are_read(tmp_path, monkeypatch, num_samples):
    soundfile.write(tmp_path / "a.wav", noise(num_samples), RATE_HZ)
    assert audio.load(tmp_path / "a.wav", 48000).num_samples == 3 * num_samples
    assert read_in_blocks(tmp_path / "a.wav", monkeypatch).shape == (1, num_samples)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_name_that_is_no_utf_8_is_read_and_written_out(tmp_path, monkeypatch, suffix):
    path = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    plain = write(tmp_path / f"plain{suffix}", noise(8000))
    path.write_bytes(plain.read_bytes())
    clip = audio.load(path)
    assert clip.name == r"caf\xe9"
    np.testing.assert_array_equal(clip.samples, audio.load(plain).samples)
    np.testing.assert_array_equal(read_in_blocks(path, monkeypatch), clip.samples)
    path.write_bytes(b"no audio")
    with pytest.raises(CorruptInput, match=r"caf\\xe9\.\w+ could not be read as audio \("):
        audio.load(path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path, kind, message in (
        (tmp_path, UnsupportedInput, r"is a folder; pass one file, or use codecbook\.clips\.load_folder"),
        (tmp_path / "gone.wav", MissingInput, r"no audio file at .*gone\.wav; check the path"),
        (tmp_path / "pipe.wav", UnsupportedInput, r"pipe\.wav is a device, a pipe or a socket; write"),
    ):
        with pytest.raises(kind, match=message):
            audio.load(path)
        with pytest.raises(kind, match=message):
            list(AudioBlocks(path, RATE_HZ, 1))


def test_opposite_channels_are_said_where_they_are_averaged(tmp_path, monkeypatch, caplog):
    one = noise(8000)
    soundfile.write(tmp_path / "a.flac", np.concatenate([one, -one], axis=1), RATE_HZ)
    with caplog.at_level(logging.WARNING, "codecbook"):
        assert audio.load(tmp_path / "a.flac").num_channels == 2
        assert not caplog.messages
        audio.load(tmp_path / "a.flac", mono=True)
        read_in_blocks(tmp_path / "a.flac", monkeypatch)
    line = (
        "a: the channels cancel each other, and their average is next to silence; turn the sign of one, or pass one "
        "channel alone"
    )
    assert caplog.messages == [line, line]


@pytest.mark.parametrize("right", [0.0, 0.5, -0.9])
def test_channels_that_leave_something_are_averaged_in_silence(caplog, right):
    one = noise(8000)[:, 0]
    for samples in ([one, right * one], np.zeros((2, 10))):
        audio.convert(audio.clip_from_array(np.array(samples), RATE_HZ), channels=1)
    assert not caplog.messages


def test_files_tried_before_are_read_as_they_should():
    folder = extra_dir() and extra_dir() / "cases" / "audio"
    if not folder or not folder.is_dir():
        pytest.skip("CODECBOOK_EXTRA has no files of such kinds")
    once = audio.load(folder / "plain.wav")
    assert audio.load(folder / "cat_twice.mp3").num_samples == 2 * once.num_samples
    np.testing.assert_array_equal(audio.load(folder / "pipe_zero.wav").samples, once.samples)
    assert audio.load(folder / "float_in_int16_range.wav").peak < 1
    assert -70 < audio.loudness_lufs(audio.load(folder / "rate_2000.wav")) < 0
    with pytest.raises(CorruptInput, match=r"\._song\.wav could not be read"):
        audio.load(folder / "._song.wav")
