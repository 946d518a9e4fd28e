"""The one search for recordings: what it takes, what it leaves out, and how it names them."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codecbook import audio
from codecbook.audio_files import AUDIO_SUFFIXES
from codecbook.errors import CodecbookError, MissingInput, UnsupportedInput
from codecbook.paths import path_from_text
from codecbook.recordings import find_recordings, search

LATIN = os.fsdecode(b"caf\xe9.wav")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "in"


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder):
    return [path.relative_to(folder).as_posix() for path in search(folder)[0]]


def left(folder):
    return search(folder)[1]


def named(*inputs):
    return [recording.name for recording in find_recordings([str(text) for text in inputs])]


SPECIAL = {".opus": ("OGG", "OPUS"), ".oga": ("OGG", "VORBIS"), ".wave": ("WAV", "PCM_16"), ".bwf": ("WAV", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"), ".aifc": ("AIFF", "ULAW"), ".snd": ("AU", "PCM_16"), ".sph": ("NIST", "PCM_16"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_every_suffix_that_is_searched_for_can_be_read(tmp_path, suffix):
    name, subtype = SPECIAL.get(suffix, (suffix[1:].upper(), None))
    path = tmp_path / f"a{suffix}"
    samples = 0.5 * np.sin(np.arange(8000) / 10)
    soundfile.write(path, samples, 16000, format=name, subtype=subtype)
    assert audio.load(path).num_samples == 8000
    assert search(tmp_path) == ([path], [])


def test_a_folder_gives_its_recordings_in_order(folder):
    put(folder, "b/2.WAV", "b/1.au", "a.caf", "c.d.mp3", "dir.wav/inner.flac", "dir.wav/deep.mp3/z.w64")
    assert found(folder) == sorted(
        ["a.caf", "b/1.au", "b/2.WAV", "c.d.mp3", "dir.wav/deep.mp3/z.w64", "dir.wav/inner.flac"]
    )
    assert not left(folder)
    assert named(folder) == ["a", "b/1", "b/2", "c.d", "dir.wav/deep.mp3/z", "dir.wav/inner"]


def test_what_is_left_out_is_counted_by_kind(folder, caplog):
    put(folder, "a.wav", "._a.wav", ".cache/x.wav", "b.m4a", "deep/c.M4A", "d.wma", "notes.txt", "cover.jpg", "README")
    os.mkfifo(folder / "pipe.wav")
    (folder / "link.wav").symlink_to("gone.wav")
    lines = [
        "left out: 3 recordings in formats that cannot be read (.m4a, .wma); convert to wav or flac: "
        "ffmpeg -i IN OUT.flac",
        "left out: 2 hidden files or folders (._a.wav, .cache)",
        "left out: 4 other files (README, .jpg, .txt and 1 more)",
        "left out: 1 link that leads nowhere (link.wav); mend or remove",
    ]
    assert found(folder) == ["a.wav"]
    assert left(folder) == lines
    with caplog.at_level(logging.WARNING, "codecbook.recordings"):
        assert named(folder) == ["a"]
    assert caplog.messages == lines


def test_links_are_followed_and_each_file_is_taken_once(folder, tmp_path):
    put(tmp_path, "elsewhere/x.wav", "elsewhere/sub/y.wav", "single.flac")
    put(folder, "m/a.wav")
    (folder / "away.flac").symlink_to(tmp_path / "single.flac")
    (folder / "again.wav").symlink_to("m/a.wav")
    (folder / "all").symlink_to(tmp_path / "elsewhere")
    (folder / "a_copy_of_m").symlink_to("m")
    (folder / "m" / "up").symlink_to("..")
    (folder / "around").symlink_to(tmp_path)
    (folder / "itself").symlink_to("itself")
    assert found(folder) == ["all/sub/y.wav", "all/x.wav", "away.flac", "m/a.wav"]
    assert left(folder) == [
        "left out: 4 links to what is there already (a_copy_of_m, around, up and 1 more)",
        "left out: 1 link that leads nowhere (itself); mend or remove",
    ]
    assert named(folder) == ["all/sub/y", "all/x", "away", "m/a"]
    assert {recording.path.parent for recording in find_recordings(folder / "away.flac")} == {folder}


def test_a_folder_that_is_a_link_is_searched(folder, tmp_path):
    put(folder, "a.wav")
    (tmp_path / "link").symlink_to(folder)
    assert found(tmp_path / "link") == ["a.wav"]
    assert named(tmp_path / "link", folder) == ["a"]


def test_a_pattern_means_what_it_means_to_a_shell(folder):
    put(folder, "a.wav", "b/c.wav", "b/d/e.wav", "b/d/e.txt", ".hid/f.wav", "b/.g.wav")
    assert named(f"{folder}/*.wav") == ["a"]
    assert named(f"{folder}/**.wav") == ["a"]
    assert named(f"{folder}/**/*.wav") == ["a", "b/c", "b/d/e"]
    assert named(f"{folder}/**") == named(f"{folder}/*") == named(folder)
    assert named(f"{folder}/b/**/e.*", f"{folder}/?.wav") == ["a", "d/e"]
    assert named(f"{folder}/.h*/*.wav") == [".hid/f"]


def test_a_name_that_exists_is_no_pattern(folder):
    put(folder, "Live [2020].wav", "Live 2.wav", "Tour [a]/x.wav", "Tour a/y.wav", "what?.wav", "whats.wav")
    assert named(folder / "Live [2020].wav") == ["Live [2020]"]
    assert named(f"{folder}/Tour [a]/*.wav") == ["x"]
    assert named(f"{folder}/what?.wav") == ["what?"]


def test_home_is_written_out(folder, monkeypatch):
    put(folder, "a.wav")
    monkeypatch.setenv("HOME", str(folder))
    assert named("~/*.wav") == named("~/a.wav") == named("~") == ["a"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", UnsupportedInput, r"An input is empty \(''\); name a file"),
        (" ", UnsupportedInput, r"An input is empty"),
        ("{}/gone.wav", MissingInput, r"Nothing matches '.*gone\.wav': there is no such file or folder; check"),
        ("{}/**.mp3", MissingInput, r"Nothing matches .*quote patterns; for folders of any depth write \*\*/\*"),
        ("{}/gone/*.wav", MissingInput, r"Nothing matches"),
        ("{}/*/../*.wav", UnsupportedInput, r"goes up again after a wildcard; name the folder"),
        ("{}/*.txt", UnsupportedInput, r"matches no recording that can be read \(left out: 1 other file \(\.txt\)\)"),
        ("{}/sub", UnsupportedInput, r"sub holds no recording .*\(left out: 1 recording in a format .*\(\.m4a\); conv"),
        ("{}/empty", UnsupportedInput, r"empty holds no recording .*; expected names that end in \.wav, "),
        ("/dev/null", UnsupportedInput, r"/dev/null is a device, a pipe or a socket; write the audio to a file"),
        ("~nobody-of-that-name/a.wav", MissingInput, r"Nothing matches"),
    ],
)
def test_an_input_that_gives_nothing_is_named(folder, text, kind, message):
    put(folder, "a.wav", "notes.txt", "sub/b.m4a")
    (folder / "empty").mkdir()
    with pytest.raises(kind, match=message):
        find_recordings([f"{folder}/*.wav", text.format(folder)])


def test_a_missing_folder_is_named(folder):
    with pytest.raises(MissingInput, match=r"There is no folder .*in; name the one"):
        search(folder)


def test_files_that_are_named_are_taken_whatever_they_end_in(folder):
    put(folder, "a.m4a", ".b.wav", "c")
    assert named(folder / "a.m4a", folder / ".b.wav", folder / "c") == [".b", "a", "c"]


def test_names_are_as_short_as_they_can_be_told_apart(folder):
    put(folder, "a/one.wav", "b/one.wav", "c/one.wav", "c/one.flac", "c/one.wav.ogg")
    assert named(f"{folder}/a/*.wav", f"{folder}/b/*.wav") == ["a/one", "b/one"]
    assert named(folder / "a", folder / "b") == ["a/one", "b/one"]
    assert named(folder / "c") == ["one.flac", "one.wav", "one.wav.ogg"]
    assert named(folder / "a", folder) == ["b/one", "c/one.flac", "c/one.wav", "c/one.wav.ogg", "one"]


def test_a_name_that_is_no_utf_8_is_written_so_that_it_can_be_read_back(folder):
    put(folder, LATIN, "new\nline.wav", "back\\slash.wav", "é.wav")
    recordings = find_recordings([str(folder)])
    assert [recording.name for recording in recordings] == [r"back\x5cslash", r"caf\xe9", r"new\x0aline", "é"]
    assert all(path_from_text(f"{r.name}.wav") == r.path.relative_to(folder) for r in recordings)
    with pytest.raises(CodecbookError, match=r"r\\xe9m"):
        find_recordings([os.fsdecode(os.fsencode(folder) + b"/r\xe9m*.wav")])


def test_a_folder_that_may_not_be_read_is_named(folder, monkeypatch):
    put(folder, "a.wav", "closed/b.wav")
    listed = Path.iterdir

    def refuse(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # to root all folders are open
    assert found(folder) == ["a.wav"]
    assert left(folder) == ["left out: 1 folder that may not be read (closed); change permissions"]
