from dataclasses import replace

import numpy as np
import pytest

from codecbook.audio import clip_from_array
from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.measure.rates.material import bundled_sides, cut, encode_own, measured_on_own, read_own, token_sides
from codecbook.paths import data_dir
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.token_files import write_with_companion


class Counter(Codec):
    """Writes the number of each sample, twenty a second; takes no silence."""

    weights = Weights("random", "none")
    sample_rate_hz = 20
    channels = 1
    codebook_sizes = (64, 64)
    frame_rates_hz = (20.0, 20.0)
    bandwidths_kbps = (0.24,)

    def __init__(self, name: str = "counter") -> None:
        self.name = name

    def _encode(self, queue, num_codebooks, chunk_s):
        samples = queue.rest()
        if not samples.any():
            raise CorruptInput("Nothing is heard.")
        yield Encoded([np.arange(samples.shape[1]) % 64] * num_codebooks)

    def _decode(self, tokens, mend=None):
        yield np.zeros((1, tokens.num_frames))


def clip(name: str, frames: int = 20, value: float = 0.5, domain: str = "speech"):
    return clip_from_array(np.full((1, frames), value, np.float32), 20, name, domain)


def quiet(_line: str) -> None:
    pass


def own_of(clips, *names: str):
    return encode_own(clips, {name: Counter(name) for name in names or ("counter",)}, None, quiet)


def test_sides_follow_the_content_and_none_is_empty() -> None:
    clips = [clip(f"c{i}", 20 + i) for i in range(12)]
    own = own_of(clips)
    assert sorted(own.parts.all) == sorted(c.name for c in clips)
    assert min(len(own.parts.train), len(own.parts.validation), len(own.parts.test)) >= 1
    renamed = own_of([clip(f"other{i}", 20 + i) for i in range(12)])
    assert {name.removeprefix("other") for name in renamed.parts.test} == {
        name.removeprefix("c") for name in own.parts.test
    }
    copy = own_of([*clips, clip("copy", 20)])
    assert [{"c0", "copy"} <= set(side) for side in vars(copy.parts).values()].count(True) == 1
    sides = own.sides("counter")
    assert (sides.train.clips, sides.validation.clips) == (own.parts.train, own.parts.validation)
    assert (sides.test.clips, sides.known_voice) == (own.parts.test, None)
    assert {name for name, row in own.rows.items() if row.split == "held_out"} == set(own.parts.test)


@pytest.mark.parametrize("count", [1, 2])
def test_of_few_clips_the_end_is_measured_on(count: int) -> None:
    own = own_of([clip(f"c{i}", 20 + i) for i in range(count)], "a", "b")
    assert own.parts.test == tuple(f"c{i}, end" for i in range(count))
    assert "each is cut" in own.note
    for tokens in own.tokens.values():
        pieces = [tokens[f"c0, {place}"].codes[0] for place in ("beginning", "middle", "end")]
        assert [len(piece) for piece in pieces] == [12, 3, 5]
        assert np.concatenate(pieces).tolist() == list(range(20))
    assert own.rows["c0, end"].domain == "speech"


def test_a_clip_that_one_codec_cannot_take_is_left_out_of_all() -> None:
    own = own_of([clip("silent", value=0.0), *(clip(f"c{i}", 20 + i) for i in range(4))], "a", "b")
    assert all("silent" not in tokens for tokens in own.tokens.values())
    assert own.skipped[0] == ("a: silent", "Nothing is heard.")
    with pytest.raises(UnsupportedInput, match="Nothing is heard"):
        own_of([clip("silent", value=0.0)])
    with pytest.raises(UnsupportedInput, match="2 frames cannot be cut into 3"):
        own_of([clip("blip", 2)])


def test_pieces_of_several_rates_begin_and_end_together() -> None:
    tokens = Tokens(tuple(np.arange(n) for n in (4, 8, 16)), (64,) * 3, (10.0, 20.0, 40.0))
    pieces = list(cut(tokens).values())
    assert [[len(codes) for codes in piece.codes] for piece in pieces] == [[2, 4, 8], [1, 2, 4], [1, 2, 4]]
    assert all(piece.frame_rates_hz == tokens.frame_rates_hz for piece in pieces)


@pytest.mark.parametrize("suffix", ["npq", "parquet"])
def test_exported_tokens_are_read_by_codec(tmp_path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    for i in range(5):
        codec = Counter("b" if i == 4 else "a")
        tokens = codec.encode(clip(f"c{i}", 20 + int(rng.integers(40))))
        write_with_companion(tmp_path / f"deep/c{i % 4}_{codec.name}.{suffix}", tokens, {}, {})
    with pytest.raises(UnsupportedInput, match="No clip has tokens of a, b"):
        read_own(tmp_path)
    for left in tmp_path.glob("deep/*_b.*"):
        left.unlink()
    own = read_own(tmp_path)
    assert list(own.tokens) == ["a"]
    assert len(own.parts.all) == 4


def test_tests_are_of_speakers_that_nothing_was_trained_on() -> None:
    bundled = bundled_tokens("units_25hz")
    sides, speakers = bundled_sides(bundled), {row.clip: row.speaker for row in bundled.clips}
    trained, validated, tested = (
        {speakers[clip] for clip in side.clips} for side in (sides.train, sides.validation, sides.test)
    )
    assert not (trained | validated) & tested
    assert not trained & validated
    assert len(tested) == len(sides.test), "one clip of each, so that an interval over clips is one over speakers"
    assert sides.known_voice is not None
    assert {speakers[clip] for clip in sides.known_voice.clips} == {"kathleen"} <= trained
    assert len(sides.test) + len(sides.known_voice) == len(bundled.held_out)
    # no clip of a new speaker: the known one is tested, as there is nothing else
    one_voice = tuple(row for row in bundled.clips if row.speaker == "kathleen")
    kept = {name: getattr(bundled, name).subset(row.clip for row in one_voice if row.split == name)
            for name in ("train", "held_out")}  # fmt: skip
    sides = bundled_sides(replace(bundled, clips=one_voice, **kept))
    assert (sides.test.clips, sides.known_voice) == (kept["held_out"].clips, None)


def test_token_files_become_sides(tmp_path) -> None:
    sides = token_sides(data_dir() / "tokens", "units_25hz")
    assert (len(sides.train) > len(sides.test) > 0, sides.note) == (True, "held out as the index says")
    for i in range(8):
        frames = np.arange(20 + i)[:, None] % [8, 8]
        write_with_companion(tmp_path / f"c{i}.npq", tokens_from_frames(frames, 8, 20.0), {}, {})
    sides = token_sides(tmp_path, "")
    assert sides.note == "held out by what a clip holds"
    clips = [*sides.train.clips, *sides.validation.clips, *sides.test.clips]
    assert sorted(clips) == [f"c{i}" for i in range(8)]
    sides = token_sides(tmp_path / "c0.npq", "")
    assert (sides.train.num_rows, sides.validation.num_rows, sides.test.num_rows) == (12, 3, 5)
    assert "each is cut" in sides.note


def test_own_clips_take_the_place_of_those_held_out() -> None:
    bundled = bundled_tokens("units_25hz")
    codec = Counter("units_25hz")
    codec.codebook_sizes, codec.frame_rates_hz = bundled.held_out.codebook_sizes, (25.0,)
    with pytest.raises(UnsupportedInput, match="are of other weights"):
        measured_on_own(bundled, [clip("mine")], codec, quiet)
    codec.weights = Weights("random", "none", bundled.entry.codec_weights_sha256)
    found, skipped = measured_on_own(bundled, [clip("mine", domain="music"), clip("silent", value=0.0)], codec, quiet)
    assert found.train is bundled.train
    assert found.held_out.clips == ("mine",)
    assert [(row.clip, row.domain) for row in found.clips if row.split == "held_out"] == [("mine", "music")]
    assert skipped == [("units_25hz: silent", "Nothing is heard.")]
    with pytest.raises(UnsupportedInput, match="takes none of 1 clips; Nothing is heard"):
        measured_on_own(bundled, [clip("silent", value=0.0)], codec, quiet)
