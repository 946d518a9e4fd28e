"""The command line of streams: what it prints, what it refuses, how it exits."""

import io
import os
import sys
import threading

import numpy as np
import pytest
import soundfile
import stream_cases as cases

from codecbook import audio
from codecbook.coding import inspect
from codecbook.coding.__main__ import main


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "noise.wav"
    samples = 0.1 * np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    return audio.save(audio.clip_from_array(samples, 24_000), path)


@pytest.fixture(scope="module")
def stream(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "noise.cbs"
    command = ["compress", str(recording), str(path), "--codec", "fsq_50hz", "--lm", "none", "--segment-seconds", "1"]
    assert main(command) == 0
    return path


def test_there_and_back(stream, tmp_path, capsys):
    target = tmp_path / "out.wav"
    assert main(["decompress", str(stream), str(target)]) == 0
    assert "2.083 s" in capsys.readouterr().out
    assert soundfile.info(target).frames == 50_000
    assert main(["decompress", str(stream), str(target)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["decompress", str(stream), str(target), "--overwrite"]) == 0


def test_a_stretch(stream, tmp_path):
    target = tmp_path / "part.flac"
    assert main(["decompress", str(stream), str(target), "--start", "0.5", "--end", "1.25"]) == 0
    assert soundfile.info(target).frames == 18_000


def test_inspect_names_codec_coder_and_length(stream, capsys):
    assert main(["inspect", str(stream)]) == 0
    out = capsys.readouterr().out
    for words in ("codec fsq_50hz", "bundled: fsq_50hz_mini", "24000 Hz", "50000 samples", "at 50 Hz", "coder raw"):
        assert words in out


def test_inspect_says_how_a_stream_is_protected(recording, tmp_path, capsys):
    target = tmp_path / "protected.cbs"
    given = ["--codec", "fsq_50hz", "--lm", "none", "--segment-seconds", "1", "--parity", "2,1"]
    assert main(["compress", str(recording), str(target), *given]) == 0
    assert main(["inspect", str(target)]) == 0
    assert "parity 1 to 2, 1 group(s) side by side: 2 segment(s) found" in capsys.readouterr().out


def test_verify_says_intact_or_where_it_is_damaged(stream, tmp_path, capsys):
    assert main(["verify", str(stream)]) == 0
    assert "intact" in capsys.readouterr().out
    data = bytearray(stream.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.cbs"
    damaged.write_bytes(data)
    assert main(["verify", str(damaged)]) == 1
    out = capsys.readouterr().out
    assert "Segment 1 (1.000 to 2.000 s" in out
    assert "damaged" in out
    assert main(["decompress", str(damaged), str(tmp_path / "damaged.wav")]) == 1
    assert (tmp_path / "damaged.wav").is_file(), "what is intact was decoded"
    assert main(["decompress", str(damaged), str(tmp_path / "silent.wav"), "--conceal", "silence"]) == 1
    heard, silent = (soundfile.read(tmp_path / name)[0][24_000:48_000] for name in ("damaged.wav", "silent.wav"))
    assert heard[:100].any()
    assert not silent.any()


def test_inspect_reports_the_damage_that_it_sees(stream, tmp_path, capsys):
    data = bytearray(stream.read_bytes())
    data[inspect(stream).segments[1][0] + 5] ^= 1
    damaged = tmp_path / "damaged.cbs"
    damaged.write_bytes(data)
    assert main(["inspect", str(damaged)]) == 1
    out = capsys.readouterr().out
    assert "2 found" in out
    assert "Segment 1 (1.000 to 2.000 s" in out
    assert main(["verify", str(damaged)]) == 1
    assert inspect(damaged).damage[0].kind == "missing"


def test_a_stretch_has_its_target_checked_before_any_work(tmp_path, capsys):
    (tmp_path / "there.wav").write_bytes(b"")
    for name, words in (("there.wav", "exists"), ("there.xyz", "Cannot write there.xyz")):
        assert main(["decompress", "no stream", str(tmp_path / name), "--start", "1"]) == 2
        assert words in capsys.readouterr().err


def test_compress_refuses_to_overwrite(recording, stream, capsys):
    before = stream.read_bytes()
    assert main(["compress", str(recording), str(stream), "--codec", "fsq_50hz", "--lm", "none"]) == 2
    assert "exists" in capsys.readouterr().err
    assert stream.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nothing.cbs"], "no stream at"),
        (["compress", "nothing.wav", "x.cbs", "--codec", "fsq_50hz", "--lm", "none"], "no audio file"),
        (["compress", "{wav}", "x.cbs", "--codec", "opus"], "no codec"),
        (["compress", "{wav}", "x.cbs", "--codec", "fsq_50hz", "--lm", "none", "--bandwidth", "6"], "no bandwidth"),
        (["compress", "{wav}", "x.cbs", "--codec", "fsq_50hz", "--lm", "missing"], "no language model"),
        (["decompress", "{cbs}", "x.txt"], "Cannot write x.txt"),
        (["decompress", "{wav}", "x.wav"], "no stream of codecbook"),
        (["decompress", "{cbs}", "x.wav", "--start", "inf"], "give seconds from 0 on"),
        (["decompress", "{cbs}", "x.wav", "--start", "nan"], "give seconds from 0 on"),
        (["decompress", "{cbs}", "x.wav", "--start", "-4"], "stretch from -4.0 s on is none; give seconds from 0 on"),
        (["decompress", "{cbs}", "x.wav", "--start", "5"], "which is 2.083 s long"),
        (["decompress", "{cbs}", "x.wav", "--weights", f"random:{10**26}"], "below 2^63"),
        (["decompress", "{cbs}", "x.wav", "--weights", "random:1"], "the right ones as --weights"),
    ],
)
def test_errors_are_one_line(arguments, words, recording, stream, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([part.format(wav=recording, cbs=stream) for part in arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("codecbook: ")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_none_is_no_folder_of_a_language_model(tmp_path, capsys):
    path = tmp_path / "exact.cbs"
    path.write_bytes(cases.encoded(cases.parallel(20), cases.exact_model()))
    assert main(["verify", str(path), "--lm", "none"]) == 2
    assert "was coded with the language model 'toy_lm'" in capsys.readouterr().err


class Bytes(io.TextIOWrapper):
    """A standard stream in memory, which is no terminal."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(io.BytesIO(data), write_through=True)

    def bytes(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()


@pytest.fixture
def piped(tmp_path, monkeypatch):
    """Return a function that runs a command with bytes on standard input; gives status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(arguments, data=b""):
        out, error = Bytes(), io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", Bytes(data))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", error)
            status = main(arguments)
        return status, out.bytes(), error.getvalue()

    return run


@pytest.mark.parametrize("dash", ["-", "/dev/std"])
def test_pipes_carry_what_files_would(dash, recording, stream, piped, tmp_path):
    source, target = (dash, dash) if dash == "-" else (f"{dash}in", f"{dash}out")
    options = ["--codec", "fsq_50hz", "--lm", "none", "--segment-seconds", "1"]
    status, coded, words = piped(["compress", source, target, *options], recording.read_bytes())
    assert (status, coded) == (0, stream.read_bytes())
    assert words.startswith("standard output: 2.083 s")
    status, sound, words = piped(["decompress", source, target], coded)
    assert status == 0
    assert soundfile.info(io.BytesIO(sound)).frames == 50_000
    assert "standard output: 2.083 s" in words
    for command, part in (("inspect", b"codec fsq_50hz"), ("verify", b"intact")):
        status, out, words = piped([command, source], coded)
        assert (status, words) == (0, "")
        assert out.startswith(b"standard input: ")
        assert part in out
    assert not list(tmp_path.iterdir()), "no file called - is made"


def test_named_pipes_are_read_and_written_once(recording, stream, piped, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    os.mkfifo(source)
    os.mkfifo(target)
    read = []
    threads = [
        threading.Thread(target=source.write_bytes, args=(recording.read_bytes(),)),
        threading.Thread(target=lambda: read.append(target.read_bytes())),
    ]
    for thread in threads:
        thread.start()
    options = ["--codec", "fsq_50hz", "--lm", "none", "--segment-seconds", "1"]
    status, out, _ = piped(["compress", str(source), str(target), *options])
    for thread in threads:
        thread.join()
    assert (status, read) == (0, [stream.read_bytes()])
    assert out.decode().startswith(f"{target}: 2.083 s"), "words go to stdout where the stream does not"


@pytest.mark.parametrize(
    ("arguments", "data", "words"),
    [
        (["decompress", "-", "-"], b"", "0 bytes"),
        (["inspect", "-"], b"no stream", "no stream of codecbook"),
        (["compress", "-", "-", "--codec", "fsq_50hz", "--lm", "none"], b"no audio", "standard input could not be"),
        (["compress", "-", "-", "--codec", "fsq_50hz", "--lm", "none"], b"", "standard input"),
    ],
)
def test_nothing_goes_out_where_what_came_in_is_wrong(arguments, data, words, piped, tmp_path):
    status, out, error = piped(arguments, data)
    assert (status, out, error.count("\n")) == (2, b"", 1)
    assert words in error
    assert not list(tmp_path.iterdir())


def test_a_terminal_is_neither_read_nor_written(stream, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["inspect", "-"]) == 2
    assert "Standard input is a terminal" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["decompress", str(stream), "-"]) == 2
    assert "Standard output is a terminal" in capsys.readouterr().err


def test_a_stream_takes_no_name_of_another_format_and_never_its_recording(recording, tmp_path, capsys):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(recording.read_bytes())
    for target, words in ((copy, "is the file that is read"), (tmp_path / "x.ecdc", "end it with .cbs")):
        command = ["compress", str(copy), str(target), "--codec", "fsq_50hz", "--lm", "none", "--overwrite"]
        assert main(command) == 2
        assert words in capsys.readouterr().err
    assert copy.read_bytes() == recording.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["copy.wav"]
