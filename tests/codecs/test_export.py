import csv
import dataclasses
import json

import numpy as np
import pytest

from codecbook import audio
from codecbook.audio import Clip, clip_from_array
from codecbook.codecs import export as export_module
from codecbook.codecs.base import Encoded
from codecbook.codecs.export import check_seams, export
from codecbook.codecs.recordings import Recording, find_recordings
from codecbook.codecs.token_files import (
    companion_path,
    read_companion,
    read_token_file,
    write_with_companion,
)
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.tokens.npq import read_npq
from codecbook.tokens.parquet import read_tokens, write_tokens


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


def names(recordings):
    return [recording.name for recording in recordings]


def test_a_pattern_a_folder_and_files_keep_the_paths_below_them(music):
    assert names(find_recordings([f"{music}/**/*.wav"])) == ["a/one", "b/one"]
    assert names(find_recordings([str(music)])) == ["a/one", "a/two", "b/one"]
    assert names(find_recordings([f"{music}/a/one.wav", f"{music}/a/two.flac"])) == ["one", "two"]
    assert names(find_recordings([f"{music}/a/one.wav", f"{music}/b/one.wav"])) == ["a/one", "b/one"]
    assert names(find_recordings([f"{music}/a/*.wav", f"{music}/a/one.wav"])) == ["one"]


def test_recordings_of_one_stem_keep_their_suffix(music):
    (music / "a/one.flac").write_bytes((music / "a/two.flac").read_bytes())
    assert names(find_recordings([str(music / "a")])) == ["one.flac", "one.wav", "two"]


def test_one_name_from_several_inputs_is_refused(music):
    with pytest.raises(UnsupportedInput, match=r"would be written as 'one\.wav'"):
        find_recordings([f"{music}/a/*.wav", f"{music}/b/*.wav"])


@pytest.mark.parametrize("text", ["{}/**/*.mp3", "{}/gone.wav", "{}/gone/*.wav"])
def test_an_input_that_matches_nothing_is_named(music, text):
    text = text.format(music)
    with pytest.raises(UnsupportedInput, match="Nothing matches"):
        find_recordings([f"{music}/**/*.wav", text])


@pytest.mark.parametrize("file_format", ["npq", "parquet"])
def test_files_become_the_tokens_that_the_codec_gives(music, tmp_path, small_codec, file_format):
    codec = small_codec("encodec_24khz")
    reports = export(
        find_recordings([str(music)]), codec, tmp_path / "out", file_format=file_format, num_codebooks=3
    )
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
    monkeypatch.setattr(codec, "_encode_samples", lambda *args: pytest.fail("encoded again"))
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
        [*find_recordings([str(music)]), Recording(music / "gone.wav", "gone")],
        small_codec("fsq_50hz"),
        tmp_path,
    )
    assert [report.status for report in reports] == ["failed", "exported", "exported", "exported", "failed"]
    assert "could not be read as audio" in reports[0].error
    assert "gone.wav" in reports[-1].error
    assert not (tmp_path / "a/bad.npq").exists()
    assert [row["status"] for row in json.loads((tmp_path / "export.json").read_text())] == [
        r.status for r in reports
    ]


def test_an_interrupted_export_keeps_what_is_done(music, tmp_path, small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")
    encode = codec._encode_samples
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(codec, "_encode_samples", interrupted)
    recordings = find_recordings([str(music)])
    with pytest.raises(KeyboardInterrupt):
        export(recordings, codec, tmp_path)
    assert len(json.loads((tmp_path / "export.json").read_text())) == 1
    assert not list(tmp_path.rglob("*.part"))
    assert [report.status for report in export(recordings, codec, tmp_path)] == [
        "skipped",
        "exported",
        "exported",
    ]


def test_settings_that_hold_for_no_recording_are_refused_before_any_is_read(tmp_path, small_codec):
    recordings = [Recording(tmp_path / "gone.wav", "gone")]
    codec = small_codec("encodec_24khz")
    for wrong in ({"file_format": "zip"}, {"bandwidth_kbps": 7.0}, {"num_codebooks": 5}, {"chunk_s": 0.1}):
        with pytest.raises(UnsupportedInput):
            export(recordings, codec, tmp_path, **wrong)
    with pytest.raises(UnsupportedInput, match="choose parquet"):
        export(recordings, small_codec("snac_24khz"), tmp_path)
    with pytest.raises(UnsupportedInput, match="depends on the whole clip"):
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
    checked, differing = check_seams(codec, clip, codec.encode(clip, chunk_s=1.0), 1.0)
    assert checked == sum(int(1.5 * rate) for rate in codec.frame_rates_hz)
    assert differing <= 1e-3 * checked


def test_a_codec_that_forgets_at_seams_is_found_out(small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")
    clip = long_clip(codec, 3.2)
    encode = codec._encode_samples

    def forgetful(samples, num_codebooks, chunk_s):
        chunk = round(chunk_s * codec.sample_rate_hz)
        starts = range(0, samples.shape[1], chunk)
        parts = [encode(samples[:, start : start + chunk], num_codebooks, 9.0).codes[0] for start in starts]
        return Encoded([np.concatenate(parts)])

    monkeypatch.setattr(codec, "_encode_samples", forgetful)
    _, differing = check_seams(codec, clip, codec.encode(clip, chunk_s=1.0), 1.0)
    assert differing > 0


def test_short_clips_and_codecs_with_segments_have_no_seams(small_codec):
    codec = small_codec("fsq_50hz")
    clip = long_clip(codec, 1.9)
    assert check_seams(codec, clip, codec.encode(clip), 1.0) == (0, 0)
    stereo = small_codec("encodec_48khz")
    samples = np.repeat(long_clip(stereo, 2.5).samples, 2, axis=0)
    clip = Clip(samples, 48_000)
    assert check_seams(stereo, clip, stereo.encode(clip), None) == (0, 0)


def test_torch_running_out_of_memory_fails_one_file(music, tmp_path, small_codec, monkeypatch):
    codec = small_codec("fsq_50hz")

    def exhausted(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(codec, "_encode_samples", exhausted)
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
    with pytest.raises(CodecbookError):
        read_token_file(tmp_path / "gone.npq")


def test_the_summary_of_nothing_has_its_columns(tmp_path):
    export_module.write_summary(tmp_path, [])
    assert (tmp_path / "export.csv").read_text().startswith("source,status,error")
