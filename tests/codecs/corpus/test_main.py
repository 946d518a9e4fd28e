"""Folders of token corpora: made by one command, resumed, described by an index."""

import json
import os

import numpy as np
import pytest

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.corpus import __main__ as corpus
from codecbook.codecs.corpus.index import CLIPS_NAME, SOURCES_NAME, read_index, read_sources
from codecbook.errors import CorruptInput, MissingWeights
from codecbook.models.store import CONFIG_NAME
from codecbook.paths import data_dir
from codecbook.recordings import held_out
from codecbook.tokens.parquet import read_tokens

SOURCES = {
    "talk": {
        "title": "Talk", "licence": "CC0", "credit": "us", "domain": "speech", "speaker": "^([0-9]+)-",
        "hold_out_every": 3,
    },
    "tunes": {
        "title": "Tunes", "licence": "CC0", "credit": "us", "domain": "music", "hold_out_every": 0,
        "hold_out": ["b*"],
    },
}  # fmt: skip


@pytest.fixture
def recordings(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("talk/1-a", "talk/2-a", "talk/3-a", "talk/4-a", "tunes/a", "tunes/deep/b"):
        samples = rng.standard_normal((1, 6000)).astype(np.float32) * 0.1
        audio.save(Clip(samples, 24_000), tmp_path / "in" / f"{name}.wav")
    out = tmp_path / "out"
    out.mkdir()
    (out / SOURCES_NAME).write_text(json.dumps(SOURCES))
    return tmp_path


def _command(root, weights, *more):
    folders = [f"{name}={root / 'in' / name}" for name in ("talk", "tunes")]
    return [
        *folders, "--out", str(root / "out"), "--work", str(root / "work"), "--codec", "snac_24khz", "--weights",
        str(weights), *more,
    ]  # fmt: skip


def test_corpora_are_made_resumed_and_described(recordings, small_folder, capsys):
    weights = small_folder("snac_24khz")
    assert corpus.main(_command(recordings, weights)) == 0
    index = read_index(recordings / "out")
    entry = index.entry("snac_24khz")
    tokens = read_tokens(index.path("snac_24khz"))
    assert list(tokens) == ["talk/1-a", "talk/2-a", "talk/3-a", "talk/4-a", "tunes/a", "tunes/deep/b"]
    assert (entry.clips, entry.num_codebooks) == (6, 3)
    assert entry.tokens == sum(clip.num_tokens for clip in tokens.values())
    codec = load_codec("snac_24khz", weights)
    assert entry.codec_weights_sha256 == codec.weights.sha256
    clip = audio.load(recordings / "in" / "talk" / "2-a.wav")
    assert codec.encode(clip).same_codes(tokens["talk/2-a"])
    sides = {row.clip: (row.split, row.speaker) for row in index.clips.values()}
    apart = held_out("1234", 1 / 3)  # each file is of one speaker, whose number decides
    assert {name: split for name, (split, _) in sides.items()} == {
        **{f"talk/{n}-a": "held_out" if n in apart else "train" for n in "1234"},
        "tunes/a": "train", "tunes/deep/b": "held_out",
    }  # fmt: skip
    assert sides["talk/4-a"][1] == "talk-4"

    made = {path: path.stat().st_mtime_ns for path in (recordings / "work").rglob("*.parquet")}
    assert len(made) == 6
    (recordings / "work" / "snac_24khz" / "tunes" / "a.parquet").unlink()
    capsys.readouterr()
    assert corpus.main(_command(recordings, weights)) == 0
    assert "6 clips" in capsys.readouterr().out
    again = {path: path.stat().st_mtime_ns for path in (recordings / "work").rglob("*.parquet")}
    assert [path.name for path in made if again[path] != made[path]] == ["a.parquet"]
    assert read_index(recordings / "out").entry("snac_24khz").sha256 == entry.sha256


def test_a_clip_and_a_speaker_stay_on_the_side_that_the_index_says(recordings, small_folder):
    command = _command(recordings, small_folder("snac_24khz"))
    assert corpus.main(command) == 0
    path = recordings / "out" / CLIPS_NAME
    turned = path.read_text().replace("train", "TRAIN").replace("held_out", "train").replace("TRAIN", "held_out")
    path.write_text(turned.replace("tunes/deep/b,tunes,music,,train", "tunes/deep/b,tunes,music,,held_out"))
    before = {row.clip: row.split for row in read_index(recordings / "out").clips.values()}
    samples = np.random.default_rng(1).standard_normal((1, 6000)).astype(np.float32) * 0.1
    audio.save(Clip(samples, 24_000), recordings / "in" / "talk" / "3-b.wav")
    (recordings / "in" / "tunes" / "a.wav").rename(recordings / "in" / "tunes" / "c.wav")
    audio.save(Clip(samples, 24_000), recordings / "in" / "tunes" / "a.wav")
    assert corpus.main(command) == 0
    after = {row.clip: row.split for row in read_index(recordings / "out").clips.values()}
    assert {clip: after[clip] for clip in before} == before
    assert after["talk/3-b"] == before["talk/3-a"]


def test_leading_codebooks_are_kept_and_progress_is_told(recordings, small_folder, capsys, monkeypatch):
    monkeypatch.setattr(corpus, "_SAID_EVERY", 2)
    assert corpus.main([*_command(recordings, small_folder("snac_24khz")), "--codebooks", "2"]) == 0
    out = capsys.readouterr().out
    assert [f"{n} of 6 recordings" in out for n in range(7)] == [False, False, True, False, True, False, True]
    index = read_index(recordings / "out")
    assert index.entry("snac_24khz").num_codebooks == 2
    assert all(clip.num_codebooks == 2 for clip in read_tokens(index.path("snac_24khz")).values())


def test_recordings_that_differ_by_suffix_are_two_clips(recordings, small_folder):
    weights = small_folder("snac_24khz")
    assert corpus.main(_command(recordings, weights)) == 0
    tunes = recordings / "in" / "tunes"
    audio.save(audio.load(tunes / "deep" / "b.wav"), tunes / "a.flac")
    assert corpus.main(_command(recordings, weights)) == 0
    tokens = read_tokens(read_index(recordings / "out").path("snac_24khz"))
    assert [name for name in tokens if "tunes" in name] == ["tunes/a.flac", "tunes/a.wav", "tunes/deep/b"]
    assert tokens["tunes/a.flac"].same_codes(tokens["tunes/deep/b"])
    assert not tokens["tunes/a.wav"].same_codes(tokens["tunes/deep/b"])


def test_recordings_that_cannot_be_read_are_left_out_by_name(recordings, small_folder, capsys):
    weights, tunes = small_folder("snac_24khz"), recordings / "in" / "tunes"
    audio.save(audio.load(tunes / "a.wav"), tunes / os.fsdecode(b"caf\xe9.wav"))
    (tunes / "bad.wav").touch()
    assert corpus.main(_command(recordings, weights)) == 0
    out = capsys.readouterr().out
    assert f"snac_24khz: left out: {tunes / 'bad.wav'} (" in out
    assert "snac_24khz: left out: 1 of 8 recordings; repair them" in out
    index = read_index(recordings / "out")
    assert r"tunes/caf\xe9" in index.clips
    assert r"tunes/caf\xe9" in read_tokens(index.path("snac_24khz"))
    assert "tunes/bad" not in index.clips
    for path in (recordings / "in").rglob("*.wav"):
        path.write_bytes(os.fsencode(path))
    assert corpus.main(_command(recordings, weights)) == 2
    assert "None of 8 recordings could be encoded; the first: " in capsys.readouterr().err


@pytest.mark.parametrize("left_out", ["talk", "speech"])
def test_plans_leave_sources_out(recordings, small_codec, left_out):
    sources = read_sources(recordings / "out" / SOURCES_NAME)
    found = corpus.find_clips({name: recordings / "in" / name for name in SOURCES}, sources, {})
    plan = corpus.Plan(num_codebooks=1, left_out=left_out)
    codec = small_codec("fsq_50hz")
    entry, durations = corpus.build_corpus(codec, found, plan, recordings, recordings / "work")
    assert list(durations) == ["tunes/a", "tunes/deep/b"]
    assert (entry.clips, entry.num_codebooks) == (2, 1)


def test_all_of_a_speaker_is_on_one_side(recordings):
    for number, name in enumerate(("3-b", "3-c", "1-b")):
        samples = np.full((1, 100), number / 8, dtype=np.float32)
        audio.save(Clip(samples, 24_000), recordings / "in" / "talk" / f"{name}.wav")
    sources = read_sources(recordings / "out" / SOURCES_NAME)
    found = corpus.find_clips({"talk": recordings / "in" / "talk"}, sources, {}).values()
    for split in ("train", "held_out"):
        assert {m.speaker for m in found if m.split == split}
    assert len({(m.speaker, m.split) for m in found}) == 4


def test_errors_are_one_line(recordings, small_folder, capsys):
    out = ["--out", str(recordings / "out")]
    for folders, message in (
        (["talk"], "NAME=FOLDER"),
        ([f"other={recordings / 'in' / 'talk'}"], "has no 'other'"),
        ([f"tunes={recordings / 'in' / 'talk'}", "--codec", "units_25hz"], "name the folder of another source"),
    ):
        assert corpus.main([*folders, *out]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_damaged_index_and_an_altered_file_are_noticed(recordings, small_folder):
    assert corpus.main(_command(recordings, small_folder("snac_24khz"))) == 0
    out = recordings / "out"
    path = out / "snac_24khz.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CorruptInput, match="not the file"):
        read_index(out).path("snac_24khz")
    with pytest.raises(MissingWeights, match="'mimi'"):
        read_index(out).entry("mimi")
    (out / "clips.csv").write_text("clip\na\n")
    with pytest.raises(CorruptInput, match="damaged"):
        read_index(out)
    for text, message in (("{", "no JSON"), ("[" * 100_000, "nested too deeply"), ("null", "no JSON object")):
        (out / "index.json").write_text(text)
        with pytest.raises(CorruptInput, match=message):
            read_index(out)
    with pytest.raises(MissingWeights):
        read_index(recordings)


# ---------------------------------------------------------------- the bundled corpora

BUNDLED = data_dir() / "tokens"
needs_tokens = pytest.mark.skipif(
    not (BUNDLED / "index.json").is_file(), reason="data/tokens is not there: python -m codecbook.codecs.corpus"
)


@needs_tokens
@pytest.mark.parametrize("codec", list(corpus.PLANS))
def test_bundled_tokens_are_of_the_bundled_codec(codec):
    index = read_index()
    config = json.loads((data_dir() / "models" / f"{codec}_mini" / CONFIG_NAME).read_text())
    assert index.entry(codec).codec_weights_sha256 == config["sha256"], (
        f"{codec} was trained again since its tokens were made; run the command in data/tokens/README.md"
    )
    assert index.path(codec).is_file()  # and is the file that the index describes


@needs_tokens
def test_bundled_tokens_are_small_and_their_speakers_apart():
    index = read_index()
    assert sum(entry.num_bytes for entry in index.corpora.values()) <= 12_000_000
    sources = read_sources(BUNDLED / SOURCES_NAME)
    for source in sources.values():
        sides = {
            split: {row.speaker for row in index.clips.values() if row.source == source.name and row.split == split}
            for split in ("train", "held_out")
        }
        assert all(sides.values()), source.name
        if source.speaker:
            assert not sides["train"] & sides["held_out"]
