import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs import codec_names
from codecbook.codecs.__main__ import main
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.npq import write_npq


@pytest.fixture
def recording(tmp_path):
    samples = np.random.default_rng(0).standard_normal((2, 44_100)).astype(np.float32) * 0.1
    return audio.save(Clip(samples, 44_100), tmp_path / "in" / "song.wav")


def test_list_names_all_codecs_and_the_weights_that_they_take(capsys):
    assert main(["list"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == list(codec_names())
    assert lines["units_25hz"] == "bundled, random:SEED, or a path"
    assert lines["mimi"] == "pretrained, random:SEED, or a path"
    assert lines["lyra_v2"] == "pretrained, or a path"


def test_export_inspect_and_to_wav(recording, tmp_path, small_folder, capsys):
    out = tmp_path / "out"
    weights = small_folder("encodec_24khz")
    command = ["export", f"{recording.parent}/*.wav", "--codec", "encodec_24khz", "--weights", weights]
    assert main([*command, "--codebooks", "3", "--chunk-seconds", "1", "--outdir", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "75 frames/s x 3, 75 frames, 33 B header, 258 B" in shown
    assert "1 exported, 0 skipped, 0 failed" in shown

    assert main(["inspect", str(out / "song.npq")]) == 0
    shown = capsys.readouterr().out
    assert "258 bytes, 33 of them header" in shown
    assert f"encodec_24khz, bundled: {weights}" in shown
    assert "codebook 2: 75 codes at 75 Hz" in shown

    # codec and weights are those that made the file, and the length is the recording's
    assert main(["to-wav", str(out / "song.npq"), "--out", str(tmp_path / "song.wav")]) == 0
    decoded = audio.load(tmp_path / "song.wav")
    assert (decoded.num_samples, decoded.sample_rate_hz, decoded.num_channels) == (24_000, 24_000, 1)
    assert main(["to-wav", str(out / "song.npq"), "--out", str(tmp_path / "song.wav")]) == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err

    assert main([*command, "--codebooks", "3", "--chunk-seconds", "1", "--outdir", str(out)]) == 0
    assert "0 exported, 1 skipped, 0 failed" in capsys.readouterr().out


def test_parquet_keeps_several_rates(recording, tmp_path, small_folder, capsys):
    command = ["export", str(recording), "--codec", "snac_24khz", "--weights", small_folder("snac_24khz")]
    assert main([*command, "--outdir", str(tmp_path)]) == 2
    assert "choose parquet" in capsys.readouterr().err
    assert main([*command, "--outdir", str(tmp_path), "--format", "parquet"]) == 0
    assert "11.7188/23.4375/46.875 frames/s x 3, 12/24/48 frames" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "song.parquet")]) == 0
    assert "codebook 1: 24 codes" in capsys.readouterr().out
    assert main(["to-wav", str(tmp_path / "song.parquet"), "--codebooks", "2", "--out", str(tmp_path / "a.wav")]) == 0
    assert audio.load(tmp_path / "a.wav").num_samples == 24_000


def test_a_recording_that_fails_sets_the_exit_status(recording, tmp_path, small_folder, capsys):
    (recording.parent / "bad.wav").write_bytes(b"no audio")
    command = ["export", str(recording.parent), "--codec", "fsq_50hz", "--weights", small_folder("fsq_50hz")]
    assert main([*command, "--outdir", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert "1 exported, 0 skipped, 1 failed" in shown


def test_a_folder_that_takes_nothing_is_said_once_before_the_weights_are_loaded(recording, tmp_path, capsys, room):
    out = tmp_path / "out"
    command = ["export", str(recording), "--codec", "fsq_50hz", "--weights", "gone", "--outdir", str(out)]
    with room(0):
        assert main(command) == 2
    assert capsys.readouterr() == ("", f"codecbook: File too large: {out}\n")
    with room(0):
        assert main(["to-wav", "gone.npq", "--out", str(out / "a.wav")]) == 2
    assert capsys.readouterr() == ("", f"codecbook: File too large: {out}\n")


@pytest.fixture
def shelf(recording, tmp_path):
    """A folder of recordings as people keep them: links, brackets, things that are none."""
    folder = tmp_path / "shelf"
    album = folder / "Live [2020]"
    album.mkdir(parents=True)
    (album / "one.wav").write_bytes(recording.read_bytes())
    (folder / "link.wav").symlink_to(recording)
    (folder / "elsewhere").symlink_to(recording.parent)
    (folder / "._one.wav").write_bytes(b"of a Macintosh")
    (folder / "cover.jpg").write_bytes(b"no audio")
    (folder / "folder.wav").mkdir()
    return folder


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["shelf"], ["Live [2020]/one", "elsewhere/song"]),
        (["shelf/*/*.wav"], ["Live [2020]/one", "elsewhere/song"]),
        (["shelf/Live [2020]"], ["one"]),
        (["shelf/Live [2020]/*.wav", "shelf/link.wav"], ["one", "link"]),
        (["shelf/**/one.wav"], ["Live [2020]/one"]),
    ],
)
def test_what_people_name_is_exported(inputs, names, shelf, tmp_path, small_folder, capsys, monkeypatch):
    monkeypatch.chdir(shelf.parent)
    weights = ["--codec", "fsq_50hz", "--weights", small_folder("fsq_50hz")]
    assert main(["export", *inputs, *weights, "--outdir", "out"]) == 0
    assert f"{len(names)} exported, 0 skipped, 0 failed; see out/export.csv" in capsys.readouterr().out
    made = {path.relative_to("out").with_suffix("").as_posix() for path in Path("out").rglob("*.npq")}
    assert made == set(names)


@pytest.mark.parametrize("inputs", [[""], [" "], ["shelf/**.wav"], ["shelf/cover.jpg/*"], ["/dev/null"], ["gone"]])
def test_what_names_no_recording_is_one_line(inputs, shelf, capsys, monkeypatch):
    monkeypatch.chdir(shelf.parent)
    assert main(["export", *inputs, "--codec", "fsq_50hz", "--weights", "gone", "--outdir", "out"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "options", [["--codebooks", "0"], ["--bandwidth", "7"], ["--chunk-seconds", "nan"], ["--format", "zip"], []]
)
def test_bad_usage_is_told_from_recordings_that_fail(options, recording, tmp_path, small_folder, capsys):
    recording.write_bytes(b"no audio")
    weights = ["--codec", "fsq_50hz", "--weights", small_folder("fsq_50hz"), "--outdir", str(tmp_path / "out")]
    try:
        status = main(["export", str(recording), *weights, *options])
    except SystemExit as error:  # of argparse
        status = error.code
    assert status == (2 if options else 1)
    assert (tmp_path / "out").exists() != bool(options)


def test_weights_other_than_those_that_made_a_file_are_refused(recording, tmp_path, small_folder, capsys):
    command = ["export", str(recording), "--codec", "fsq_50hz", "--weights", small_folder("fsq_50hz")]
    assert main([*command, "--outdir", str(tmp_path)]) == 0
    out = ["--out", str(tmp_path / "a.wav")]
    assert main(["to-wav", str(tmp_path / "song.npq"), "--weights", "random:1", *out]) == 2
    error = capsys.readouterr().err
    # the architecture of random weights has other codebooks; either way it is the weights that are named
    assert "made with the weights" in error
    assert not (tmp_path / "a.wav").exists()


def test_a_bare_token_file_needs_the_codecs_name(tmp_path, small_folder, capsys):
    frames = np.random.default_rng(0).integers(0, 64, (50, 1))
    write_npq(tmp_path / "a.npq", tokens_from_frames(frames, 64, 50.0))
    assert main(["inspect", str(tmp_path / "a.npq")]) == 0
    assert "codec unknown" in capsys.readouterr().out
    out = ["--out", str(tmp_path / "a.wav")]
    assert main(["to-wav", str(tmp_path / "a.npq"), *out]) == 2
    assert "name it with --codec" in capsys.readouterr().err
    named = ["--codec", "fsq_50hz", "--weights", small_folder("fsq_50hz")]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["to-wav", str(tmp_path / "a.npq"), *named, *out]) == 0
    error = capsys.readouterr().err
    assert error.startswith("codecbook: Which weights made these tokens is not known for sure")
    assert error.count("\n") == 1
    assert audio.load(tmp_path / "a.wav").num_samples == 24_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "gone/*.mp3", "--codec", "fsq_50hz", "--weights", "random:0", "--outdir", "out"],
        ["export", ".", "--codec", "mimi", "--outdir", "out"],
        ["to-wav", "gone.npq", "--codec", "fsq_50hz", "--out", "a.wav"],
        ["inspect", "gone.parquet"],
        ["inspect", "song.wav"],
    ],
)
def test_errors_are_one_line_and_no_traceback(recording, arguments, capsys, monkeypatch):
    monkeypatch.chdir(recording.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("codecbook: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_the_module_runs_as_a_command():
    result = subprocess.run(
        [sys.executable, "-m", "codecbook.codecs", "inspect", "gone.npq"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == "codecbook: There is no NPQ file at gone.npq; check the path.\n"
