import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codecbook.audio import clip_from_array, save
from codecbook.codecs.training.data import (
    Crops,
    check_apart,
    load_recordings,
    parse_folder,
    recording_identity,
    split_files,
)
from codecbook.errors import MissingInput, UnsupportedInput


def levels_db(batch):
    return 10 * np.log10(np.square(batch).mean(axis=(1, 2)))


def constant(value, num_samples=400):
    return np.full((1, num_samples), value, np.float16)


@pytest.mark.parametrize(
    ("text", "path", "share"),
    [("speech", "speech", 1.0), ("speech=0.7", "speech", 0.7), ("a=b/speech=2", "a=b/speech", 2.0)],
)
def test_a_folder_may_name_its_share(text, path, share):
    assert parse_folder(text) == (Path(path), share)


@pytest.mark.parametrize("text", ["speech=", "speech=half", "speech=0", "speech=-1", "speech=nan", "speech=inf"])
def test_a_share_that_is_no_positive_number_is_refused(text):
    with pytest.raises(UnsupportedInput, match=r"must be a positive number, e\.g\. speech=0\.7"):
        parse_folder(text)


@pytest.fixture
def folder(tmp_path):
    for name in ("b/3.flac", "a/1.wav", "a/2.WAV", "b/notes.txt", "b/4.ogg", "b/5.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"no audio, and not that of others: {name}")
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_files_that_come_go_or_are_renamed_move_no_other(folder):
    for number in range(20):
        (folder / f"more {number}.wav").write_text(str(number))
    held = names(split_files(folder, 4)[1])
    assert len(held) > 1  # so that no exception is at work
    (folder / "0.wav").write_text("new")
    (folder / next(name for name in held if name.startswith("more"))).rename(folder / "x.wav")
    (folder / "b" / "4.ogg").unlink()
    kept, now = (set(names(side)) for side in split_files(folder, 4))
    assert "x.wav" in now
    assert now & set(held) == set(held) - {"4.ogg"} - {name for name in held if name not in kept | now}


def test_what_was_decided_before_stays(folder):
    kept, held = split_files(folder, 2)
    turned = dict.fromkeys(kept, True) | dict.fromkeys(held, False)
    assert split_files(folder, 2, known=turned) == (held, kept)


def test_recordings_of_one_speaker_stay_together(tmp_path):
    for speaker in range(9):
        for number in range(3):
            (tmp_path / f"s{speaker}-{number}.wav").write_text(f"{speaker} {number}")
    (tmp_path / "alone.wav").write_text("nobody's")
    kept, held = split_files(tmp_path, 3, speaker="^(s[0-9])-")
    speakers = [{path.stem.split("-")[0] for path in side} for side in (kept, held)]
    assert all(speakers)
    assert not speakers[0] & speakers[1]
    with pytest.raises(UnsupportedInput, match="no regular expression"):
        split_files(tmp_path, 3, speaker="(")


def test_a_recording_is_known_by_its_samples_in_any_lossless_file(tmp_path, tones):
    (samples,) = tones(1)
    paths = [save(clip_from_array(samples, 16_000), tmp_path / "a.wav"), tmp_path / "b.flac"]
    soundfile.write(paths[1], soundfile.read(paths[0], dtype="int16")[0], 16_000)
    assert len({recording_identity(path) for path in paths}) == 1
    others = [
        save(clip_from_array(samples, 8_000), tmp_path / "slow.wav"),
        save(clip_from_array(samples * 0.5, 16_000), tmp_path / "quiet.wav"),
        save(clip_from_array(np.repeat(samples, 2, axis=0), 16_000), tmp_path / "twice.wav"),
    ]
    assert len({recording_identity(path) for path in [*paths, *others]}) == 4
    soundfile.write(tmp_path / "c.ogg", samples[0], 16_000)
    copy = tmp_path / "d.ogg"
    copy.write_bytes((tmp_path / "c.ogg").read_bytes())
    assert recording_identity(copy) == recording_identity(tmp_path / "c.ogg")


def test_names_that_are_no_utf_8_and_files_from_pipes_are_told_apart(tmp_path, tones):
    paths = [tmp_path / name for name in (os.fsdecode(b"\xe9.wav"), "b.wav", "c.wav")]
    for path, samples in zip(paths, [*tones(2), tones(1)[0]], strict=True):
        save(clip_from_array(samples, 16_000), path)
    assert recording_identity(paths[0]) == recording_identity(paths[2]) != recording_identity(paths[1])
    for path in paths:
        data = path.read_bytes()
        at = data.index(b"data") + 4
        path.write_bytes(data[:at] + bytes(4) + data[at + 4 :])
    assert recording_identity(paths[0]) == recording_identity(paths[2]) != recording_identity(paths[1])


def test_patterns_hold_out_as_well_and_copies_with_them(folder):
    (folder / "copy.wav").write_bytes((folder / "b" / "5.wav").read_bytes())
    kept, held = split_files(folder, 3, ("5.*", "?.flac"))
    assert {"5.wav", "copy.wav", "3.flac"} < set(names(held))
    assert len(kept) + len(held) == 6


@pytest.mark.parametrize("every", [0, *range(2, 7)])
@pytest.mark.parametrize("patterns", [(), ("[13].*",), ("2.WAV", "nothing")])
def test_no_file_is_both_trained_on_and_held_out(folder, every, patterns):
    kept, held = split_files(folder, every, patterns)
    assert not set(kept) & set(held)
    assert sorted(names(kept) + names(held)) == ["1.wav", "2.WAV", "3.flac", "4.ogg", "5.wav"]
    assert bool(held) == bool(every or patterns)


@pytest.mark.parametrize("every", [1, -3])
def test_holding_out_all_is_refused(folder, every):
    with pytest.raises(UnsupportedInput, match=f"One in {every} held out leaves none"):
        split_files(folder, every)


def test_hidden_files_are_not_trained_on(folder):
    (folder / "a" / "._1.wav").touch()
    assert names(split_files(folder, 0, ())[0]) == ["1.wav", "2.WAV", "3.flac", "4.ogg", "5.wav"]


def test_holding_out_every_noughth_file_holds_out_none(folder):
    assert len(split_files(folder, 0, ())[0]) == 5


def test_a_folder_without_audio_is_refused(folder, tmp_path):
    with pytest.raises(UnsupportedInput, match=r"no audio to train on, 5 files found and 5 held out"):
        split_files(folder, 0, ("*",))
    with pytest.raises(MissingInput, match=r"There is no folder .*absent"):
        split_files(tmp_path / "absent", 10, ())


def test_recordings_are_resampled_and_mixed(tmp_path, tones):
    (stereo,) = tones(1, channels=2)
    path = save(clip_from_array(stereo, 16_000), tmp_path / "stereo.wav")
    ((_, mono),) = load_recordings([path], 16_000, 1)
    assert mono.dtype == np.float16
    # 16-bit file, float16 in memory: steps of 2^-12 at amplitudes up to 1
    np.testing.assert_allclose(mono, stereo.mean(axis=0, keepdims=True), rtol=0, atol=2**-11)
    ((_, both),) = load_recordings([path], 8_000, 2)
    assert both.shape == (2, stereo.shape[1] // 2)


def test_a_recording_that_cannot_be_read_is_left_out_with_its_reason(tmp_path, tones, caplog):
    (samples,) = tones(1)
    good = save(clip_from_array(samples, 16_000), tmp_path / "good.wav")
    bad, gone = tmp_path / "bad.wav", tmp_path / "gone.wav"
    bad.touch()
    assert [path for path, _ in load_recordings([bad, good, gone], 16_000, 1)] == [good]
    assert [message.partition("(")[0] for message in caplog.messages] == [
        f"left out: {bad} could not be read as audio ",
        f"left out: There is no audio file at {gone}; check the path.",
        "left out: 2 of 3 recordings that cannot be used",
    ]
    with pytest.raises(UnsupportedInput, match=r"None of 2 recording\(s\) can be used; the last: There is no"):
        list(load_recordings([bad, gone], 16_000, 1))
    assert not list(load_recordings([bad], 16_000, 1, needs_one=False))


def test_crops_depend_on_the_seed_alone(tones):
    recordings = tones(3)
    first, same, other = (Crops([recordings], [1.0], seed) for seed in (5, 5, 6))
    batch = first.batch(6, 800)
    assert batch.shape == (6, 1, 800)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, same.batch(6, 800))
    assert not np.array_equal(batch, other.batch(6, 800))


def test_crops_go_on_from_a_state(tones):
    crops = Crops([tones(3)], [1.0], 0)
    crops.batch(3, 800)
    state = crops.random.bit_generator.state
    expected = [crops.batch(3, 800) for _ in range(2)]
    fresh = Crops([tones(3)], [1.0], 99)
    fresh.random.bit_generator.state = state
    for batch in expected:
        np.testing.assert_array_equal(fresh.batch(3, 800), batch)


def test_a_crop_is_a_stretch_of_a_recording_times_a_gain(tones):
    recordings = tones(2)
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(r[0], 800) for r in recordings])
    for (crop,) in Crops([recordings], [1.0], 0).batch(4, 800):
        cosine = windows @ crop / np.linalg.norm(windows, axis=1) / np.linalg.norm(crop)
        assert cosine.max() == pytest.approx(1.0, abs=1e-5)


def test_folders_are_drawn_by_share_and_recordings_by_duration():
    # the sign tells the folder; the constant's shape tells the recording: long ones fill the crop
    short_and_long = [constant(0.1, 100), constant(0.1, 300)]
    batch = Crops([short_and_long, [constant(-0.1)]], [3.0, 1.0], 0).batch(2000, 300)[:, 0]
    first = batch[:, 0] > 0
    # four standard deviations of a binomial proportion
    assert first.mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 2000))
    is_long = batch[first][:, -1] != 0
    assert is_long.mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / first.sum()))


def test_levels_are_spread_evenly_over_their_range(tones):
    drawn = levels_db(Crops([tones(3)], [1.0], 0).batch(400, 800))
    assert drawn.min() >= -32.001
    assert drawn.max() <= -13.999
    quarters, _ = np.histogram(drawn, bins=4, range=(-32.001, -13.999))
    assert quarters.min() > 60, quarters


def test_no_gain_makes_a_crop_clip():
    spike = constant(0.001)
    spike[0, 200] = 0.5
    batch = Crops([[spike]], [1.0], 0).batch(50, 400)
    assert np.abs(batch).max() == pytest.approx(0.99, abs=1e-6)


def test_a_recording_shorter_than_a_crop_is_followed_by_silence():
    (crop,) = Crops([[constant(0.25, 100)]], [1.0], 0).batch(1, 160)
    assert np.all(crop[0, :100] == crop[0, 0])
    assert crop[0, 0] > 0
    assert not crop[0, 100:].any()


def test_silence_is_drawn_again_and_silence_alone_refused():
    batch = Crops([[constant(0.0), constant(0.1)]], [1.0], 0).batch(50, 400)
    assert batch.min() > 0
    with pytest.raises(UnsupportedInput, match="1000 crops in a row are below -60 dB"):
        Crops([[constant(0.0005)]], [1.0], 0).batch(1, 400)


def test_folders_must_lie_apart(tmp_path):
    inner = tmp_path / "speech" / "clean"
    inner.mkdir(parents=True)
    (tmp_path / "music").mkdir()
    check_apart([tmp_path / "speech", tmp_path / "music"])
    for other in (inner, tmp_path / "speech", tmp_path / "music" / ".." / "speech"):
        with pytest.raises(UnsupportedInput, match="share files"):
            check_apart([tmp_path / "speech", other])
