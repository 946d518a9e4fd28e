import json
import logging
import math
import os
import shutil
import sys

import numpy as np
import pytest
import soundfile

from codecbook import audio, clips
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.paths import data_dir, extra_dir

ENTRIES = {entry.name: entry for entry in clips.catalogue()}


def write(path, samples=None, sample_rate_hz=16000, channels=1, duration_s=0.25, **options):
    """Write a file of noise, or of the samples given as [S, C]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples is None:
        size = (round(duration_s * sample_rate_hz), channels)
        samples = np.random.default_rng(0).uniform(-0.5, 0.5, size)
    soundfile.write(path, samples, sample_rate_hz, **options)
    return path


def longest_silence_s(clip, level=10 ** (-55 / 20), block_s=0.02):
    """Return the longest run of blocks below a level between the clip's first and last sound, in seconds."""
    block = round(block_s * clip.sample_rate_hz)
    mono = clip.samples.mean(axis=0)
    blocks = mono[: len(mono) // block * block].reshape(-1, block)
    loud = np.flatnonzero(np.sqrt(np.mean(blocks**2, axis=1)) > level)
    return float(max(np.diff(loud), default=1) - 1) * block_s


# ---------------------------------------------------------------- the bundled clips


def test_the_catalogue_and_the_folder_list_the_same_files():
    folder = data_dir() / "clips"
    assert sorted(path.name for path in folder.glob("*.flac")) == sorted(e.file for e in ENTRIES.values())
    assert len(ENTRIES) == len(clips.catalogue())


def test_the_clips_are_small_and_of_both_domains():
    folder = data_dir() / "clips"
    assert sum((folder / entry.file).stat().st_size for entry in ENTRIES.values()) < 15e6
    domains = [entry.domain for entry in ENTRIES.values()]
    assert (domains.count("speech"), domains.count("music")) == (16, 8)
    assert len({entry.voice for entry in ENTRIES.values() if entry.domain == "speech"}) >= 10
    assert len({name for entry in ENTRIES.values() for name in entry.instruments}) >= 15


@pytest.mark.parametrize("name", ENTRIES)
def test_a_bundled_clip_is_what_the_catalogue_says(name):
    entry = ENTRIES[name]
    clip = clips.load_entry(ENTRIES[name])
    assert (clip.name, clip.domain) == (name, entry.domain)
    assert (clip.sample_rate_hz, clip.num_channels) == (entry.sample_rate_hz, entry.channels)
    assert clip.duration_s == pytest.approx(entry.duration_s, abs=1e-4)
    assert 5.0 <= clip.duration_s <= 10.0
    assert 0.2 < clip.peak <= 0.951
    assert -27.0 < audio.loudness_lufs(clip) < -14.0
    assert longest_silence_s(clip) < 1.0
    assert entry.licence
    assert entry.how_made


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.domain == "speech"])
def test_speech_has_a_voice_and_a_transcript_of_fitting_length(name):
    clip = clips.load_entry(ENTRIES[name])
    assert clip.num_channels == 1
    assert ENTRIES[name].voice
    assert not ENTRIES[name].instruments
    assert not any(letter.isdigit() for letter in ENTRIES[name].transcript)
    # English is spoken at some 10 to 20 letters a second; a transcript of another text would rarely fit
    assert 10 < len(ENTRIES[name].transcript) / clip.duration_s < 22


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.domain == "music"])
def test_music_is_wide_in_space_and_frequency(name):
    clip = clips.load_entry(ENTRIES[name])
    assert (clip.num_channels, clip.sample_rate_hz) == (2, 48000)
    assert ENTRIES[name].instruments
    assert not ENTRIES[name].transcript
    left, right = clip.samples
    assert -0.2 < np.corrcoef(left, right)[0, 1] < 0.999  # two channels, which do not cancel in a mono mix
    power = np.square(np.abs(np.fft.rfft(clip.samples))).sum(axis=0)
    above_8_khz = power[np.fft.rfftfreq(clip.num_samples, 1 / 48000) > 8000].sum() / power.sum()
    assert 10 * math.log10(above_8_khz) > -50


def test_a_limit_takes_bundled_clips_of_both_domains():
    loaded, skipped = clips.load_clips(limit=4)
    assert [clip.domain for clip in loaded] == ["speech", "speech", "music", "music"]
    assert not skipped
    with pytest.raises(UnsupportedInput, match=r"at least 1, or None for all clips; received 0"):
        clips.load_clips(limit=0)


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """Return a copy of the data folder with one clip, where things may be broken."""
    folder = tmp_path / "clips"
    folder.mkdir()
    source = data_dir() / "clips"
    catalogue = json.loads((source / "catalogue.json").read_text(encoding="utf-8"))
    catalogue["clips"] = catalogue["clips"][:1]
    (folder / "catalogue.json").write_text(json.dumps(catalogue), encoding="utf-8")
    shutil.copy(source / catalogue["clips"][0]["file"], folder)
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    assert len(clips.load_clips()[0]) == 1
    return folder


def test_an_altered_bundled_clip_is_refused(own_data):
    [path] = own_data.glob("*.flac")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptInput, match=r"has SHA-256 [0-9a-f]{64}, the catalogue .*restore it"):
        clips.load_clips()


def test_a_missing_bundled_clip_is_named(own_data):
    [path] = own_data.glob("*.flac")
    path.unlink()
    with pytest.raises(MissingInput, match=r"speech_01_slt\.flac is missing; restore it"):
        clips.load_clips()


def test_a_broken_catalogue_of_the_bundled_clips_is_refused(own_data):
    path = own_data / "catalogue.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["clips"][0]["colour"] = "blue"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CorruptInput, match=r"entry with other fields .*colour.*restore"):
        clips.catalogue()
    path.unlink()
    with pytest.raises(CorruptInput, match=r"lists no clips; restore"):
        clips.catalogue()


# ---------------------------------------------------------------- a folder of one's own


def test_a_folder_is_loaded_recursively_in_order_at_any_rate(tmp_path):
    write(tmp_path / "b.wav", sample_rate_hz=8000)
    write(tmp_path / "a" / "z.flac", sample_rate_hz=96000, channels=2)
    write(tmp_path / "a" / "deep" / "y.OGG", sample_rate_hz=44100, format="OGG")
    write(tmp_path / "c.mp3", sample_rate_hz=48000)
    write(tmp_path / "d.aiff", sample_rate_hz=22050, format="AIFF")
    (tmp_path / "notes.txt").write_text("not audio")
    write(tmp_path / ".hidden" / "x.wav")
    write(tmp_path / "._b.wav")
    loaded, skipped = clips.load_folder(tmp_path)
    assert [clip.name for clip in loaded] == ["y", "z", "b", "c", "d"]
    assert [clip.sample_rate_hz for clip in loaded] == [44100, 96000, 8000, 48000, 22050]
    assert {clip.domain for clip in loaded} == {"unknown"}
    assert not skipped


def test_a_clip_of_a_folder_is_the_files_samples(tmp_path):
    path = write(tmp_path / "a.wav", channels=2)
    [clip], _ = clips.load_folder(tmp_path)
    np.testing.assert_array_equal(clip.samples, audio.load(path).samples)
    assert clip.note == ""


def test_sub_folders_say_the_domain(tmp_path):
    write(tmp_path / "speech" / "ann" / "a.wav")
    write(tmp_path / "Music" / "b.wav")
    write(tmp_path / "music" / "speech" / "c.wav")
    write(tmp_path / "d.wav")
    loaded, _ = clips.load_folder(tmp_path)
    assert {clip.name: clip.domain for clip in loaded} == {
        "a": "speech", "b": "music", "c": "speech", "d": "unknown",
    }  # fmt: skip
    inside, _ = clips.load_folder(tmp_path / "speech")
    assert [clip.domain for clip in inside] == ["speech"]


def test_a_catalogue_says_the_domain_and_what_should_be_there(tmp_path):
    write(tmp_path / "speech" / "a.wav")
    write(tmp_path / "b.wav")
    listed = [{"file": "speech/a.wav", "domain": "music"}, {"file": "gone.wav", "domain": "speech"}, {"file": "b.wav"}]
    (tmp_path / "catalogue.json").write_text(json.dumps({"clips": listed}))
    loaded, skipped = clips.load_folder(tmp_path)
    assert {clip.name: clip.domain for clip in loaded} == {"a": "music", "b": "unknown"}
    assert [name for name, _ in skipped] == ["gone.wav"]
    assert "There is no audio file at" in skipped[0][1]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("{", r"JSONDecodeError"),
        ("[]", r"TypeError"),
        ('{"clips": [{"domain": "speech"}]}', r"KeyError: 'file'"),
        ('{"clips": [{"file": 3}]}', r"file 3 .*should be strings"),
        ('{"clips": [{"file": "../a.wav"}]}', r"'\.\./a\.wav' should be a path inside"),
        ('{"clips": [{"file": "/etc/a.wav"}]}', r"'/etc/a\.wav' should be a path inside"),
    ],
)
def test_a_damaged_catalogue_is_refused(tmp_path, content, shown):
    write(tmp_path / "a.wav")
    (tmp_path / "catalogue.json").write_text(content)
    with pytest.raises(CorruptInput, match=rf"catalogue\.json is no catalogue of clips \(.*{shown}.*Correct it"):
        clips.load_folder(tmp_path)


def test_equal_stems_get_distinct_names(tmp_path):
    for name in ("x.wav", "x.flac", "a/x.wav", "a/y.wav"):
        write(tmp_path / name)
    loaded, _ = clips.load_folder(tmp_path)
    assert [clip.name for clip in loaded] == ["a__x.wav", "y", "x.flac", "x.wav"]


UNUSABLE = {
    "empty.wav": r"empty\.wav could not be read as audio",
    "no_samples.wav": r"no_samples\.wav holds no samples; record",
    "nan.wav": r"'nan' has 1 sample\(s\) not finite",
    "one_sample.wav": r"one_sample\.wav lasts 6\.25e-05 s, less than 0\.1 s",
    "silent.wav": r"silent\.wav is silent: all 4000 samples are zero; leave",
    "text.mp3": r"text\.mp3 could not be read as audio",
}


def write_unusable(folder):
    (folder / "empty.wav").write_bytes(b"")
    write(folder / "no_samples.wav", np.zeros((0, 1)))
    write(folder / "nan.wav", np.array([0.1] * 4000 + [math.nan]), subtype="FLOAT")
    write(folder / "one_sample.wav", np.array([0.5]))
    write(folder / "silent.wav", np.zeros((4000, 2)))
    (folder / "text.mp3").write_bytes(b"this is no music\n" * 50)


def test_what_cannot_be_used_is_skipped_with_a_reason_and_the_rest_goes_on(tmp_path):
    write_unusable(tmp_path)
    write(tmp_path / "good.wav")
    write(tmp_path / "z" / "better.flac")
    loaded, skipped = clips.load_folder(tmp_path)
    assert [clip.name for clip in loaded] == ["good", "better"]
    assert [name for name, _ in skipped] == sorted(UNUSABLE)
    for name, reason in skipped:
        with pytest.raises(CodecbookError, match=UNUSABLE[name]):
            raise CodecbookError(reason)


def test_a_folder_without_a_usable_clip_says_why_of_each_file(tmp_path):
    write_unusable(tmp_path)
    with pytest.raises(UnsupportedInput, match=r"None of the 6 audio files in .* is usable:\n- ") as caught:
        clips.load_folder(tmp_path)
    for name in UNUSABLE:
        assert name.partition(".")[0] in str(caught.value)


def test_a_long_list_of_reasons_is_cut(tmp_path):
    for index in range(12):
        (tmp_path / f"{index}.wav").write_bytes(b"")
    with pytest.raises(UnsupportedInput, match=r"None of the 12 audio files(.*\n)+- and 2 more$"):
        clips.load_folder(tmp_path)


def test_a_folder_without_audio_or_that_is_missing_is_named(tmp_path):
    with pytest.raises(UnsupportedInput, match=r"No audio file is in .* expected one of \.wav"):
        clips.load_folder(tmp_path)
    with pytest.raises(MissingInput, match=r"There is no folder .*gone; name the one"):
        clips.load_folder(tmp_path / "gone")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_names_that_are_no_utf_8_are_written_so_that_tables_can_hold_them(tmp_path):
    write(tmp_path / "good.wav")
    (tmp_path / os.fsdecode(b"na\xefve.wav")).write_text("no audio")
    loaded, skipped = clips.load_folder(tmp_path)
    assert [clip.name for clip in loaded] == ["good"]
    assert [name for name, _ in skipped] == [r"na\xefve.wav"]
    assert r"na\xefve.wav" in skipped[0][1]


def test_a_file_that_the_system_does_not_give_is_skipped(tmp_path, monkeypatch):
    write(tmp_path / "a.wav")
    write(tmp_path / "closed.wav")
    load = audio.load

    def refuse(path):
        if path.stem == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return load(path)

    monkeypatch.setattr(audio, "load", refuse)  # to root all files are open
    loaded, skipped = clips.load_folder(tmp_path)
    assert [clip.name for clip in loaded] == ["a"]
    assert [reason for _, reason in skipped] == [
        f"{tmp_path / 'closed.wav'} could not be read (Permission denied); see to it, or remove it."
    ]


def test_what_is_left_out_is_said_and_what_was_done_is_noted(tmp_path, caplog):
    write(tmp_path / "six.wav", np.round(np.ones((8000, 6)) * 1000), subtype="FLOAT")
    write(tmp_path / "._six.wav")
    (tmp_path / "song.m4a").touch()
    (tmp_path / "notes.txt").touch()
    with caplog.at_level(logging.WARNING, "codecbook.recordings"):
        [clip], skipped = clips.load_folder(tmp_path)
    assert not skipped
    assert clip.note == (
        "float samples are whole numbers up to 1000, so 16-bit values: divided by 32768; 6 channels averaged to mono"
    )
    assert [text for text in caplog.messages if text.startswith("left out")] == [
        "left out: 1 recording in a format that cannot be read (.m4a); convert to wav or flac: ffmpeg -i IN OUT.flac",
        "left out: 1 hidden file or folder (._six.wav)",
        "left out: 1 other file (.txt)",
    ]


def test_more_than_two_channels_are_averaged_and_noted(tmp_path):
    path = write(tmp_path / "surround.wav", channels=6)
    [clip], skipped = clips.load_folder(tmp_path)
    np.testing.assert_array_equal(clip.samples, audio.load(path, mono=True).samples)
    assert clip.note == "6 channels averaged to mono"
    assert audio.convert(clip, 24000, 2).note == clip.note
    assert not skipped


def test_a_limit_counts_usable_clips_and_cuts_domains_alike(tmp_path):
    for index in range(3):
        write(tmp_path / "music" / f"m{index}.wav")
        write(tmp_path / "speech" / f"s{index}.wav")
    (tmp_path / "music" / "m0.wav").write_bytes(b"")
    loaded, skipped = clips.load_folder(tmp_path, limit=3)
    assert [clip.name for clip in loaded] == ["m1", "s0", "s1"]
    assert [name for name, _ in skipped] == ["m0.wav"]
    with pytest.raises(UnsupportedInput, match=r"received -1"):
        clips.load_folder(tmp_path, limit=-1)


# ---------------------------------------------------------------- what notebooks call


def test_load_clips_takes_the_bundled_clips_or_a_folder(tmp_path):
    bundled, skipped = clips.load_clips()
    assert [clip.name for clip in bundled] == list(ENTRIES)
    assert not skipped
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav", np.zeros(4000))
    for clips_dir in (tmp_path, str(tmp_path)):
        own, skipped = clips.load_clips(clips_dir)
        assert [clip.name for clip in own] == ["a"]
        assert [name for name, _ in skipped] == ["b.wav"]


def test_the_bundled_folder_reads_as_a_folder_too():
    as_folder, skipped = clips.load_clips(data_dir() / "clips", limit=6)
    bundled, _ = clips.load_clips(limit=6)
    assert not skipped
    assert {clip.name for clip in as_folder} == {c.name for c in bundled}
    assert {clip.domain for clip in as_folder} == {"speech", "music"}


def test_real_recordings_load_as_a_folder():
    folder = extra_dir()
    if folder is None:
        pytest.skip("CODECBOOK_EXTRA is not set: no further recordings to read")
    loaded, skipped = clips.load_folder(folder / "data", limit=6)
    assert len(loaded) == 6
    assert all(clip.peak > 0 for clip in loaded)
    assert all(reason for _, reason in skipped)
