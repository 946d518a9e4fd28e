import csv
import dataclasses
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from codecbook import audio
from codecbook.audio import Clip, clip_from_array
from codecbook.codecs.base import Codec
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.export import check_seams, export, write_summary
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.paths import path_from_text
from codecbook.recordings import Recording, find_recordings
from codecbook.tokens.npq import read_npq
from codecbook.tokens.parquet import read_tokens, write_tokens
from codecbook.tokens.token_files import companion_path, read_companion, read_token_file, write_with_companion

ENCODE = "codecbook.codecs.base.Codec.encode_blocks"


@pytest.fixture
def music(tmp_path):
    """A folder of recordings of several rates, channels and formats."""
    rng = np.random.default_rng(0)
    for path, channels, rate_hz, suffix in (
        ("a/one", 2, 44_100, "wav"),
        ("a/two", 1, 22_050, "flac"),
        ("b/one", 2, 48_000, "wav"),
    ):
        samples = (rng.standard_normal((channels, rate_hz // 2)) * 0.1).astype(np.float32)
        audio.save(Clip(samples, rate_hz), tmp_path / "music" / f"{path}.{suffix}")
    return tmp_path / "music"


@pytest.mark.parametrize("file_format", ["npq", "parquet"])
def test_files_become_the_tokens_that_the_codec_gives(music, tmp_path, small_codec, file_format):
    codec = small_codec("encodec_24khz")
    reports = export(find_recordings([str(music)]), codec, tmp_path / "out", file_format=file_format, num_codebooks=3)
    assert [report.status for report in reports] == ["exported"] * 3
    for report, path in zip(reports, ("a/one.wav", "a/two.flac", "b/one.wav"), strict=True):
        source = music / path
        clip = audio.convert(audio.load(source), codec.sample_rate_hz, codec.channels)
        output = tmp_path / "out" / f"{path.split('.')[0]}.{file_format}"
        tokens = read_token_file(output)
        expected = codec.encode(clip, num_codebooks=3)
        assert tokens.same_codes(expected)
        assert dataclasses.replace(tokens, source_bitrate_kbps=None) == expected
        np.testing.assert_array_equal(codec.decode(tokens).samples, codec.decode(expected).samples)
        assert report.output == str(output)
        assert report.frames == (len(expected.codes[0]),) * 3


def test_the_report_counts_bytes(music, tmp_path, small_codec):
    codec = small_codec("encodec_24khz")
    (report, *_) = export(find_recordings([str(music)]), codec, tmp_path / "out", bandwidth_kbps=0.9)
    output = tmp_path / "out/a/one.npq"
    assert report.header_bytes == 21 + 4 * 2
    assert report.file_bytes == output.stat().st_size == report.header_bytes + 38 * 2
    assert report.pcm16_bytes == 2 * 2 * 22_050
    assert report.source_bytes == (music / "a/one.wav").stat().st_size
    assert report.ratio_to_pcm16 == pytest.approx(88_200 / output.stat().st_size)
    assert report.bitrate_kbps == pytest.approx(output.stat().st_size * 8 / 0.5 / 1000)
    assert (report.duration_s, report.sample_rate_hz, report.channels) == (0.5, 24_000, 1)
    assert read_npq(output).source_bitrate_kbps == pytest.approx(report.source_bytes * 8 / 0.5 / 1000)


def test_the_summary_is_written_as_json_and_csv(music, tmp_path, small_codec):
    reports = export(find_recordings([str(music)]), small_codec("fsq_50hz"), tmp_path)
    rows = json.loads((tmp_path / "export.json").read_text())
    assert [row["source"] for row in rows] == [report.source for report in reports]
    assert rows[0]["frames"] == list(reports[0].frames)
    with (tmp_path / "export.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["file_bytes"]) for line in lines] == [report.file_bytes for report in reports]
    assert lines[0]["frame_rates_hz"] == "50"


def test_a_second_export_does_nothing_but_report(music, tmp_path, small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")
    recordings = find_recordings([str(music)])
    first = export(recordings, codec, tmp_path)
    monkeypatch.setattr(ENCODE, lambda *args, **settings: pytest.fail("encoded again"))
    second = export(recordings, codec, tmp_path)
    assert [report.status for report in second] == ["skipped"] * 3
    assert [dataclasses.replace(report, status="exported") for report in second] == first


@pytest.mark.parametrize("change", ["cut", "altered", "no companion", "bad companion", "source", "settings"])
def test_what_is_not_complete_or_made_otherwise_is_exported_again(music, tmp_path, small_codec, change):
    codec = small_codec("encodec_24khz")
    recordings = find_recordings([str(music / "a")])
    export(recordings, codec, tmp_path, num_codebooks=2)
    output = tmp_path / "one.npq"
    content = output.read_bytes()
    if change == "cut":
        output.write_bytes(content[:-2])
    elif change == "altered":
        output.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif change == "no companion":
        companion_path(output).unlink()
    elif change == "bad companion":
        companion_path(output).write_text("{}")
    elif change == "source":
        audio.save(audio.load(music / "a/two.flac"), music / "a/one.wav", overwrite=True)
    reports = export(recordings, codec, tmp_path, num_codebooks=3 if change == "settings" else 2)
    expected = ["exported", "exported" if change == "settings" else "skipped"]
    assert [report.status for report in reports] == expected
    assert (output.read_bytes() == content) == (change not in ("source", "settings"))


def test_recordings_that_fail_are_reported_and_the_others_go_on(music, tmp_path, small_codec):
    (music / "a/bad.wav").write_bytes(b"RIFF, but no more")
    reports = export(
        [*find_recordings([str(music)]), Recording(music / "gone.wav", "gone")], small_codec("fsq_50hz"), tmp_path
    )
    assert [report.status for report in reports] == ["failed", "exported", "exported", "exported", "failed"]
    assert "could not be read as audio" in reports[0].error
    assert "gone.wav" in reports[-1].error
    assert not (tmp_path / "a/bad.npq").exists()
    assert [row["status"] for row in json.loads((tmp_path / "export.json").read_text())] == [r.status for r in reports]


def test_an_interrupted_export_keeps_what_is_done(music, tmp_path, small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")
    calls, encode_blocks = [], Codec.encode_blocks

    def interrupted(*args, **settings):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode_blocks(*args, **settings)

    monkeypatch.setattr(ENCODE, interrupted)
    recordings = find_recordings([str(music)])
    with pytest.raises(KeyboardInterrupt):
        export(recordings, codec, tmp_path)
    assert len(json.loads((tmp_path / "export.json").read_text())) == 1
    assert not list(tmp_path.rglob("*.part"))
    assert [report.status for report in export(recordings, codec, tmp_path)] == ["skipped", "exported", "exported"]


def test_settings_that_hold_for_no_recording_are_refused_before_any_is_read(tmp_path, small_codec):
    recordings = [Recording(tmp_path / "gone.wav", "gone")]
    codec = small_codec("encodec_24khz")
    for wrong in ({"file_format": "zip"}, {"bandwidth_kbps": 7.0}, {"num_codebooks": 5}, {"chunk_s": 0.1}):
        with pytest.raises(UnsupportedInput):
            export(recordings, codec, tmp_path, **wrong)
    with pytest.raises(UnsupportedInput, match="choose parquet"):
        export(recordings, small_codec("snac_24khz"), tmp_path)
    with pytest.raises(UnsupportedInput, match="depend on the whole clip"):
        export(recordings, small_codec("neucodec"), tmp_path, chunk_s=10.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "file_format"), [("encodec_48khz", "npq"), ("snac_24khz", "parquet")])
def test_segments_scales_and_several_rates_survive(music, tmp_path, small_codec, name, file_format):
    codec = small_codec(name)
    export(find_recordings([f"{music}/b/one.wav"]), codec, tmp_path, file_format=file_format)
    clip = audio.convert(audio.load(music / "b/one.wav"), codec.sample_rate_hz, codec.channels)
    expected = codec.encode(clip)
    tokens = read_token_file(tmp_path / f"one.{file_format}")
    assert dataclasses.replace(tokens, source_bitrate_kbps=None) == expected


def long_clip(codec, duration_s):
    samples = np.random.default_rng(1).standard_normal((1, round(duration_s * codec.sample_rate_hz))) * 0.1
    return clip_from_array(samples.astype(np.float32), codec.sample_rate_hz)


@pytest.mark.parametrize("name", ["encodec_24khz", "snac_24khz", "dac_44khz", "mimi", "fsq_50hz"])
def test_tokens_around_a_seam_are_counted_and_equal(small_codec, name):
    codec = small_codec(name)
    clip = long_clip(codec, 3.2)
    checked, differing = check_seams(codec, [clip.samples], codec.encode(clip, chunk_s=1.0), 1.0)
    assert checked == sum(int(1.5 * rate) for rate in codec.frame_rates_hz)
    assert differing <= 1e-3 * checked


def test_a_codec_that_forgets_at_seams_is_found_out(small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")
    clip = long_clip(codec, 3.2)
    encode = codec._encode

    def forgetful(queue, num_codebooks, chunk_s):
        chunk, samples = round(chunk_s * codec.sample_rate_hz), queue.rest()
        for start in range(0, samples.shape[1], chunk):
            yield from encode(BlockQueue([samples[:, start : start + chunk]], 1), num_codebooks, 9.0)

    monkeypatch.setattr(codec, "_encode", forgetful)
    _, differing = check_seams(codec, [clip.samples], codec.encode(clip, chunk_s=1.0), 1.0)
    assert differing > 0


def test_short_clips_and_codecs_with_segments_have_no_seams(small_codec):
    codec = small_codec("fsq_50hz")
    clip = long_clip(codec, 1.9)
    assert check_seams(codec, [clip.samples], codec.encode(clip), 1.0) == (0, 0)
    stereo = small_codec("encodec_48khz")
    samples = np.repeat(long_clip(stereo, 2.5).samples, 2, axis=0)
    clip = Clip(samples, 48_000)
    assert check_seams(stereo, [clip.samples], stereo.encode(clip), stereo.chunk_s) == (0, 0)


def test_torch_running_out_of_memory_fails_one_file(music, tmp_path, small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")

    def exhausted(*args, **settings):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(ENCODE, exhausted)
    (report,) = export(find_recordings([f"{music}/b/one.wav"]), codec, tmp_path)
    assert (report.status, report.error) == ("failed", "DefaultCPUAllocator: can't allocate memory")


def test_token_files_altered_since_their_companion_are_refused(music, tmp_path, small_codec):
    export(find_recordings([f"{music}/b/one.wav"]), small_codec("fsq_50hz"), tmp_path)
    path = tmp_path / "one.npq"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptInput, match="was altered"):
        read_token_file(path)
    companion_path(path).write_text('{"codecbook_companion": 1}')
    with pytest.raises(CorruptInput, match="is damaged"):
        read_companion(path)
    companion_path(path).unlink()
    assert read_token_file(path).codec == ""


def test_a_companion_of_another_file_is_refused(music, tmp_path, small_codec):
    codec = small_codec("encodec_48khz")
    export(find_recordings([f"{music}/b/one.wav"]), codec, tmp_path)
    companion = json.loads(companion_path(tmp_path / "one.npq").read_text())
    companion["tokens"]["segment_frames"] = [3]
    companion_path(tmp_path / "one.npq").write_text(json.dumps(companion))
    with pytest.raises(CorruptInput, match="does not fit its file"):
        read_token_file(tmp_path / "one.npq")


def test_a_clip_of_several_must_be_named(tmp_path, small_codec):
    codec = small_codec("fsq_50hz")
    tokens = codec.encode(long_clip(codec, 0.2))
    path = write_tokens(tmp_path / "two.parquet", {"a": tokens, "b": tokens})
    assert read_token_file(path, "b") == tokens == read_tokens(path)["b"]
    for clip in (None, "c"):
        with pytest.raises(UnsupportedInput, match="holds the clips a, b"):
            read_token_file(path, clip)


def test_other_suffixes_are_refused(tmp_path, small_codec):
    tokens = small_codec("fsq_50hz").encode(long_clip(small_codec("fsq_50hz"), 0.1))
    with pytest.raises(UnsupportedInput, match=r"must end in \.npq or \.parquet"):
        write_with_companion(tmp_path / "x.wav", tokens, {}, {})
    with pytest.raises(MissingInput, match=r"gone\.npq"):
        read_token_file(tmp_path / "gone.npq")


def test_the_summary_of_nothing_has_its_columns(tmp_path):
    write_summary(tmp_path, [])
    assert (tmp_path / "export.csv").read_text().startswith("source,status,error")


def test_what_earlier_exports_said_of_other_token_files_stays(music, tmp_path, small_codec):
    codec, out = small_codec("fsq_50hz"), tmp_path / "out"
    (music / "a/bad.wav").write_bytes(b"no audio")
    export(find_recordings([str(music / "a")]), codec, out)
    export(find_recordings([f"{music}/a/one.wav"]), codec, out, file_format="parquet")
    assert summary(out) == {
        "bad.npq": "failed", "one.npq": "exported", "two.npq": "exported", "one.parquet": "exported"
    }  # fmt: skip
    (out / "two.npq").unlink()
    (music / "a/bad.wav").unlink()
    export(find_recordings([f"{music}/a/one.wav"]), codec, out)
    assert summary(out) == {"one.npq": "skipped", "one.parquet": "exported"}
    with (out / "export.csv").open(newline="") as file:
        assert {row["name"]: row["status"] for row in csv.DictReader(file)} == summary(out)


def summary(outdir):
    return {row["name"]: row["status"] for row in json.loads((outdir / "export.json").read_text())}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("export.csv", "price,product", "beside it; choose another folder"),
        ("export.json", "{}}", "is no JSON text"),
        ("export.json", "[" * 100_000, "nested too deeply"),
        ("export.json", '[{"source": 3, "output": ""}]', "no summary of an export"),
        ("export.json", '{"a": 1}', "holds no JSON list"),
    ],
)
def test_what_is_no_summary_is_not_replaced(name, content, words, music, tmp_path, small_codec, monkeypatch):
    monkeypatch.setattr(ENCODE, lambda *args, **settings: pytest.fail("encoded"))
    (tmp_path / name).write_text(content)
    with pytest.raises(CodecbookError, match=words):
        export(find_recordings([str(music)]), small_codec("fsq_50hz"), tmp_path)
    assert (tmp_path / name).read_text() == content


def test_a_recording_that_comes_later_moves_no_tokens(music, tmp_path, small_codec):
    codec, out = small_codec("fsq_50hz"), tmp_path / "out"
    export(find_recordings([str(music / "a")]), codec, out)
    (music / "a/one.flac").write_bytes((music / "a/two.flac").read_bytes())
    both = export(find_recordings([str(music / "a")]), codec, out)
    assert [(Path(r.source).name, r.name, r.status) for r in both] == [
        ("one.flac", "one.flac.npq", "exported"), ("one.wav", "one.npq", "skipped"), ("two.flac", "two.npq", "skipped")
    ]  # fmt: skip
    for suffix in (".flac", ".wav"):  # alone, each would be called "one"
        (report,) = export(find_recordings([f"{music}/a/one{suffix}"]), codec, out)
        assert report.status == "skipped"
    assert {path.name for path in out.glob("*.npq")} == {"one.flac.npq", "one.npq", "two.npq"}


def test_tokens_of_another_recording_are_not_replaced(music, tmp_path, small_codec):
    codec, out = small_codec("fsq_50hz"), tmp_path / "out"
    (first,) = export(find_recordings([f"{music}/a/one.wav"]), codec, out)
    (second,) = export(find_recordings([f"{music}/b/one.wav"]), codec, out)
    assert (second.name, second.status) == ("one.wav.npq", "exported")
    audio.save(audio.load(music / "b/one.wav"), music / "c/one.wav")
    (third,) = export(find_recordings([f"{music}/c/one.wav"]), codec, out)
    assert third.status == "failed"
    assert f"is of {music}/a/one.wav" in third.error
    assert summary(out) == {"one.npq": "exported", "one.wav.npq": "exported", "": "failed"}
    # what was moved is the same recording
    (music / "a/one.wav").rename(music / "a/moved.wav")
    (report,) = export([Recording(music / "a/moved.wav", "one")], codec, out)
    assert (report.name, report.status) == (first.name, "exported")


def test_recordings_that_are_given_one_name_are_kept_apart(music, tmp_path, small_codec):
    given = [Recording(music / path, "x/same") for path in ("a/one.wav", "a/two.flac")]
    reports = export(given, small_codec("fsq_50hz"), tmp_path / "out")
    assert [report.name for report in reports] == ["x/same.npq", "x/same.flac.npq"]


def test_a_recording_is_never_replaced_by_its_tokens(music, tmp_path, small_codec):
    source = (music / "a/one.wav").rename(music / "a/one.npq")
    content = source.read_bytes()
    (report,) = export([Recording(source, "one")], small_codec("fsq_50hz"), music / "a")
    assert "is the file that is read" in report.error
    assert source.read_bytes() == content


@pytest.mark.parametrize("length", [246, 247])
def test_a_long_name_has_both_files_or_none(length, music, tmp_path, small_codec):
    source = (music / "a/one.wav").rename(music / "a" / f"{'x' * length}.wav")
    (report,) = export(find_recordings([str(source)]), small_codec("fsq_50hz"), tmp_path / "out")
    written = sorted(len(path.name) for path in (tmp_path / "out").glob("x*"))
    assert (written, report.status) == (([250, 255], "exported") if length == 246 else ([], "failed"))
    assert ("too long" in report.error) == (length == 247)


def test_a_full_disk_ends_the_export_at_the_first_file(music, tmp_path, small_codec, room, monkeypatch):
    reports, out = [], tmp_path / "out"
    codec = small_codec("fsq_50hz")
    recordings = find_recordings([str(music)])
    for path in ("a", "b"):
        (out / path).mkdir(parents=True)
    monkeypatch.setattr("codecbook.codecs.export.check_folder", lambda folder: None)  # it is full later
    with room(0), pytest.raises(OSError, match="File too large") as caught:
        export(recordings, codec, out, on_report=reports.append)
    assert caught.value.filename == str(out / "a/one.npq")
    assert reports == []
    assert not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["full", "file"])
def test_a_folder_that_takes_nothing_is_found_before_encoding(kind, music, small_codec, tmp_path, room, monkeypatch):
    monkeypatch.setattr(ENCODE, lambda *args, **settings: pytest.fail("encoded"))
    out = tmp_path / "out" / "deep"
    if kind == "file":
        out.parent.write_bytes(b"a file")
    recordings = find_recordings([str(music)])
    with room(0), pytest.raises(OSError if kind == "full" else CodecbookError, match=r"too large|is no folder"):
        export(recordings, small_codec("fsq_50hz"), out)
    assert not out.exists()


@pytest.mark.parametrize("file_format", ["npq", "parquet"])
def test_names_that_are_no_text_are_exported_and_told_apart(file_format, music, tmp_path, small_codec):
    folder = tmp_path / "in"
    for number, name in enumerate((b"caf\xe9.wav", b"caf\xe8.wav", "café.wav".encode(), b"new\nline.wav")):
        folder.mkdir(exist_ok=True)
        (folder / os.fsdecode(name)).write_bytes((music / f"{'ab'[number % 2]}/one.wav").read_bytes())
    (folder / os.fsdecode(b"bad\xff.wav")).write_bytes(b"no audio")
    reports = export(find_recordings([str(folder)]), small_codec("fsq_50hz"), tmp_path / "out", file_format=file_format)
    assert [report.status for report in reports] == ["failed", *["exported"] * 4]
    assert {path_from_text(report.source) for report in reports} == set(folder.iterdir())
    with (tmp_path / "out/export.csv").open(newline="", encoding="utf-8") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [report.source for report in reports]
    for report in reports[1:]:
        assert read_token_file(tmp_path / "out" / report.name).num_tokens == report.frames[0]
    again = export(find_recordings([str(folder)]), small_codec("fsq_50hz"), tmp_path / "out", file_format=file_format)
    assert [report.status for report in again] == ["failed", *["skipped"] * 4]


def test_memory_does_not_grow_with_a_recording(tmp_path, small_codec, noise_clip):
    codec = small_codec("fsq_50hz")
    second = noise_clip(codec, 1.0).samples
    peaks, shortest = [], 1 + (1 << 20) // codec.sample_rate_hz  # seconds that are read by blocks
    for seconds in (3, shortest, 2 * shortest):  # the first one fills caches
        path = audio.save(Clip(np.tile(second, seconds), codec.sample_rate_hz), tmp_path / "a.wav", overwrite=True)
        tracemalloc.start()
        (report,) = export(
            [Recording(path, "a")], codec, tmp_path / f"{len(peaks)}", file_format="parquet", chunk_s=1.0
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.status, report.duration_s) == ("exported", seconds)
    audio_bytes = 4 * codec.channels * codec.sample_rate_hz * shortest
    assert peaks[2] - peaks[1] < 0.2 * audio_bytes
