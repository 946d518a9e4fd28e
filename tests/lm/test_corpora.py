"""Bundled corpora are opened on both sides of their split."""

import numpy as np
import pytest

from codecbook.codecs.corpus.index import ClipRow, CorpusEntry, write_index
from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.files import sha256_of
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.parquet import write_tokens


def _write(folder, codec: str, clips: dict[str, Tokens]) -> None:
    path = write_tokens(folder / f"{codec}.parquet", clips)
    first = next(iter(clips.values()))
    entry = CorpusEntry(
        path.name, sha256_of(path), path.stat().st_size, "bundled: x", "ab", first.num_codebooks, len(clips), 1.0,
        sum(clip.num_tokens for clip in clips.values()), 1.0,
    )  # fmt: skip
    rows = [
        ClipRow(name, name.split("/")[0], name.split("/")[0], "", "held_out" if i % 3 == 0 else "train", 1.0)
        for i, name in enumerate(clips)
    ]
    write_index(folder, {codec: entry}, rows)


def _frames(count: int, K: int, seed: int, V: int = 1024) -> Tokens:
    codes = np.random.default_rng(seed).integers(0, V, (count, K))
    return tokens_from_frames(codes, V, 75.0, codec="encodec_24khz")


def test_sides_are_those_of_the_index(tmp_path):
    clips = {f"{'speech' if i < 5 else 'music'}/{i}": _frames(10 + i, 4, i) for i in range(8)}
    _write(tmp_path, "encodec_24khz", clips)
    tokens = bundled_tokens("encodec_24khz", folder=tmp_path)
    assert tokens.held_out.clips == ("speech/0", "speech/3", "music/6")
    assert tokens.train.clips == ("speech/1", "speech/2", "speech/4", "music/5", "music/7")
    assert [row.clip for row in tokens.clips] == [*tokens.train.clips, *tokens.held_out.clips]
    np.testing.assert_array_equal(tokens.held_out.clip(1), clips["speech/3"].to_frames())
    assert tokens.layout.order == "parallel"
    some = bundled_tokens("encodec_24khz", num_codebooks=2, folder=tmp_path)
    assert some.train.codebook_sizes == (1024, 1024)
    assert some.train.clips == tokens.train.clips
    with pytest.raises(MissingWeights, match="snac_24khz"):
        bundled_tokens("snac_24khz", folder=tmp_path)


def test_a_side_without_clips_is_refused(tmp_path):
    _write(tmp_path, "encodec_24khz", {"speech/0": _frames(10, 4, 0)})
    with pytest.raises(UnsupportedInput, match="'train'"):
        bundled_tokens("encodec_24khz", folder=tmp_path)


def test_a_large_codebook_is_opened_as_bytes(tmp_path):
    clips = {f"speech/{i}": _frames(9, 1, i, V=65_536) for i in range(4)}
    _write(tmp_path, "fsq_50hz", clips)
    tokens = bundled_tokens("fsq_50hz", folder=tmp_path)
    assert (tokens.layout.order, tokens.train.codebook_sizes) == ("bytes", (256, 256))
