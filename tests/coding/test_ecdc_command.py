"""``.ecdc`` at the command line: looked at, checked, decoded, converted; and refused before any model is loaded."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codecbook.codecs import load_codec
from codecbook.coding import decompress, ecdc, inspect, stream
from codecbook.coding.__main__ import main
from codecbook.coding.convert import convert
from codecbook.coding.ecdc.segments import MODEL_SHAPES
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens

FRAMES = 12
# acv, dialect
VERSIONS = {"raw": (0, None), "upstream": (1, None), "qstep128": (4, "qstep128"), "qstep64": (4, "qstep64")}


def some_tokens(name: str, segments: int = 2) -> Tokens:
    shape = MODEL_SHAPES[name]
    rng = np.random.default_rng(3)
    if shape.segment_samples is None:
        frames, num_samples, more = FRAMES, FRAMES * 320 - 7, {}
    else:
        num_samples = (segments - 1) * 47_520 + FRAMES * 320
        frames = (segments - 1) * 150 + FRAMES
        scales = tuple(np.float32([0.1, 0.25, 0.3])[:segments].tolist())
        more = {"segment_frames": (150,) * (segments - 1) + (FRAMES,), "scales": scales}
    return Tokens(
        codes=tuple(rng.integers(0, 1024, (2, frames))), codebook_sizes=(1024,) * 2,
        frame_rates_hz=(float(shape.frame_rate_hz),) * 2, codec=name,
        weights=f"bundled: {name}_mini", sample_rate_hz=shape.sample_rate_hz,
        channels=shape.channels, num_samples=num_samples, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lm() -> Any:
    return ecdc.load_upstream_lm(MODEL_SHAPES["encodec_24khz_mini"], "random:0")


@pytest.fixture(scope="module")
def streams(lm: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ecdc")
    tokens = some_tokens("encodec_24khz")
    paths = {name: folder / f"{name}.ecdc" for name in VERSIONS}
    for name, (acv, dialect) in VERSIONS.items():
        paths[name].write_bytes(ecdc.write_ecdc_codes(tokens, lm if acv else None, acv, dialect))
    paths["stereo"] = folder / "stereo.ecdc"
    paths["stereo"].write_bytes(ecdc.write_ecdc_codes(some_tokens("encodec_48khz")))
    return paths


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("codecbook.coding.ecdc.lm.load_upstream_lm", refuse)
    monkeypatch.setattr("codecbook.coding.stream.models.load_codec", refuse)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raw", "0.160 s|24000 Hz, 1 channel(s), 3833 samples|2 codebook(s): 1024 at 75 Hz|coder raw|12 frames in 1 "),
        ("upstream", "coder of package encodec (acv 1)|without checksums"),
        ("qstep128", "acv 4; fp 65536, mr 1, tau 1.0|each with a checksum"),
        ("qstep64", "acv 4; fp 8192, mr 2, tau 1.0"),
        ("stereo", "1.070 s|48000 Hz, 2 channel(s), 51360 samples|162 frames in 2 segment(s)"),
    ],
)
@pytest.mark.usefixtures("no_models")
def test_inspect_reads_every_version_without_models(name: str, words: str, streams: dict, capsys) -> None:
    assert main(["inspect", str(streams[name])]) == 0
    out = capsys.readouterr().out
    for part in words.split("|"):
        assert part in out


@pytest.mark.usefixtures("no_models")
def test_inspect_names_chunks_with_another_checksum(streams: dict, tmp_path: Path, capsys) -> None:
    data = bytearray(streams["qstep128"].read_bytes())
    data[-3] ^= 1
    bad = tmp_path / "bad.ecdc"
    bad.write_bytes(data)
    assert main(["inspect", str(bad)]) == 1
    assert "Segment 0, bytes" in capsys.readouterr().out


@pytest.mark.parametrize("name", VERSIONS)
def test_verify_decodes_every_version(name: str, streams: dict, capsys) -> None:
    assert main(["verify", str(streams[name]), "--lm", "random:0"]) == 0
    assert ("complete" if name == "raw" else "intact") in capsys.readouterr().out
    if name == "raw":
        return
    status = main(["verify", str(streams[name]), "--lm", "random:1"])
    out, error = capsys.readouterr()
    if name == "upstream":
        assert (status, error.count("\n")) == (2, 1)
    else:
        assert status == 1
        assert "(coding)" in out
    assert main(["verify", str(streams[name]), "--lm", "none"]) == 2
    assert "--lm none was given" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["raw", "upstream", "qstep64", "stereo"])
def test_decompress_writes_the_audio_of_the_codes(name: str, streams: dict, tmp_path: Path, capsys) -> None:
    command = ["decompress", str(streams[name]), "", "--lm", "random:0"]
    command[2] = str(tmp_path / "whole.wav")
    assert main(command) == 0
    assert "bundled: encodec" in capsys.readouterr().out
    tokens = some_tokens("encodec_48khz" if name == "stereo" else "encodec_24khz")
    whole, rate_hz = soundfile.read(tmp_path / "whole.wav", always_2d=True)
    assert whole.shape == (tokens.num_samples, tokens.channels)
    assert np.abs(whole).max() > 0
    command[2] = str(tmp_path / "part.wav")
    assert main([*command, "--start", "0.05", "--end", "0.1"]) == 0
    part = soundfile.read(tmp_path / "part.wav", always_2d=True)[0]
    np.testing.assert_array_equal(part, whole[round(0.05 * rate_hz) : round(0.1 * rate_hz)])
    assert main([*command, "--start", "9", "--overwrite"]) == 2
    assert "lies outside of the recording" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*VERSIONS, "stereo"])
def test_codes_go_to_cbs_and_back(name: str, streams: dict, tmp_path: Path, capsys) -> None:
    tokens = some_tokens("encodec_48khz" if name == "stereo" else "encodec_24khz")
    there, back = tmp_path / "a.cbs", tmp_path / "b.ecdc"
    assert main(["convert", str(streams[name]), str(there), "--lm", "random:0"]) == 0
    assert "kept: all" in capsys.readouterr().out
    read = stream.decode_tokens(there).tokens
    assert read.same_codes(tokens)
    assert (read.num_samples, read.scales, read.weights) == (tokens.num_samples, tokens.scales, tokens.weights)
    assert inspect(there).duration_s == pytest.approx(tokens.duration_s)
    acv, dialect = VERSIONS.get(name, (0, None))
    options = ["--acv", str(acv), "--to-lm", "random:0", *(["--dialect", dialect] if dialect else [])]
    assert main(["convert", str(there), str(back), *options]) == 0
    assert "not kept: the index" in capsys.readouterr().out
    assert back.read_bytes() == streams[name].read_bytes()
    assert main(["convert", str(there), str(back), *options]) == 2
    assert "pass --overwrite" in capsys.readouterr().err


def test_versions_go_into_each_other(streams: dict, lm: Any) -> None:
    data = {name: path.read_bytes() for name, path in streams.items()}
    for name in ("upstream", "qstep64"):
        acv, dialect = VERSIONS[name]
        assert convert(data["qstep128"], "ecdc", lm=lm, to_lm=lm, acv=acv, dialect=dialect).data == data[name]
    assert convert(data["upstream"], "ecdc", lm=lm).data == data["raw"]


def test_weights_are_kept_as_far_as_each_format_names_them(streams: dict) -> None:
    named = convert(streams["raw"].read_bytes(), "cbs", weights="bundled")
    assert named.tokens.weights == "bundled: encodec_24khz_mini"
    assert len(inspect(named.data).header.format.weights_sha256) == 12
    assert decompress(named.data).clip.num_samples == named.tokens.num_samples
    authors = replace(some_tokens("encodec_24khz"), weights="")
    there = convert(ecdc.write_ecdc_codes(authors), "cbs")
    assert there.tokens.weights == "pretrained"
    other = convert(stream.encode_tokens(replace(authors, weights="random: seed 3")), "ecdc")
    assert ecdc.read_ecdc_header(other.data)[0].model_name == "encodec_24khz"
    assert "the weights (random: seed 3)" in other.lost[0]


def test_codes_that_are_read_with_a_codec_are_its_codes(streams: dict) -> None:
    codec = load_codec("encodec_24khz")
    decoded = ecdc.read_ecdc(streams["raw"].read_bytes(), codec)
    np.testing.assert_allclose(codec.decode(decoded.tokens).samples, decoded.clip.samples, rtol=0, atol=1e-5)


def test_what_cannot_be_converted_is_refused(streams: dict, lm: Any, tmp_path: Path, capsys) -> None:
    bad = bytearray(streams["qstep128"].read_bytes())
    bad[-3] ^= 1
    with pytest.raises(CorruptInput, match="checksum"):
        convert(bytes(bad), "cbs", lm=lm)
    tokens = Tokens(codes=(np.arange(8),), codebook_sizes=(16,), frame_rates_hz=(50.0,), codec="fsq_50hz")
    with pytest.raises(UnsupportedInput, match="'fsq_50hz'"):
        convert(stream.encode_tokens(tokens), "ecdc")
    with pytest.raises(UnsupportedInput, match="acv=4"):
        convert(streams["raw"].read_bytes(), "cbs", acv=4)
    with pytest.raises(UnsupportedInput, match="how long"):
        ecdc.write_ecdc_codes(Tokens(tokens.codes, (1024,), (75.0,), codec="encodec_24khz"))
    with pytest.raises(UnsupportedInput, match="up to 32 codebooks of 1024 codes at 75 Hz"):
        ecdc.write_ecdc_codes(Tokens(tokens.codes, (1024,), (50.0,), codec="encodec_24khz", num_samples=9))
    assert main(["convert", str(streams["raw"]), str(tmp_path / "x.npq")]) == 2
    assert "end it with .cbs or .ecdc" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qstep128", {"al": 1 << 40}, "claims"),
        ("qstep128", {"nc": 33}, "33 codebooks"),
        ("qstep128", {"m": "mimi"}, "'mimi'"),
        ("qstep128", {"x": [[[]]]}, "unknown keys"),
        ("qstep128", {"fp": 4096}, "no known dialect"),
        ("qstep128", {"mr": 20000}, "does not fit 2^24"),
        ("upstream", {"al": 1, "nc": 1}, "at most"),
        ("stereo", {"al": 51361}, "damaged stream"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "decompress", "convert"])
@pytest.mark.usefixtures("no_models")
def test_lies_are_refused_before_models_are_loaded(
    command: str, name: str, changes: dict, message: str, streams: dict, tmp_path: Path, capsys
) -> None:
    data = streams[name].read_bytes()
    header, body = ecdc.read_ecdc_header(data)
    text = json.dumps(header.metadata() | changes).encode()
    bad = tmp_path / "bad.ecdc"
    bad.write_bytes(struct.pack(">4sBI", b"ECDC", 0, len(text)) + text + data[body:])
    target = [] if command == "verify" else [str(tmp_path / ("x.wav" if command == "decompress" else "x.cbs"))]
    assert main([command, str(bad), *target]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n"), message in error) == ("", 1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ecdc"]


@pytest.mark.usefixtures("no_models")
def test_damage_that_codes_show_is_refused_before_models_are_loaded(streams: dict, tmp_path: Path, capsys) -> None:
    data = bytearray(streams["stereo"].read_bytes())
    data[ecdc.read_ecdc_header(data)[1]] |= 0x80  # the sign of the first scale
    bad = tmp_path / "bad.ecdc"
    bad.write_bytes(data)
    assert main(["decompress", str(bad), str(tmp_path / "x.wav")]) == 2
    assert "must be above 0" in capsys.readouterr().err
    data = bytearray(streams["qstep128"].read_bytes())
    data[-3] ^= 1
    bad.write_bytes(data)
    assert main(["convert", str(bad), str(tmp_path / "x.cbs")]) == 2
    assert "(checksum)" in capsys.readouterr().err


def test_the_reader_of_codecbook_streams_names_the_other_format(streams: dict) -> None:
    with pytest.raises(UnsupportedInput, match="read_ecdc"):
        decompress(streams["raw"])
