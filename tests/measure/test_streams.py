from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codecbook.audio import Clip, save
from codecbook.codecs.base import Codec, Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.corpus.index import ClipRow, CorpusEntry, TokenIndex
from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.files import sha256_of
from codecbook.measure.rates.sides import Material
from codecbook.measure.rates.streams import code_stream, encode_recordings, text_stream
from codecbook.measure.rates.study import ClipParts
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.parquet import write_tokens
from codecbook.tokens.text import train_bpe


def rvq(num_frames: int = 5, num_codebooks: int = 3, seed: int = 0) -> Tokens:
    frames = np.random.default_rng(seed).integers(0, 8, (num_frames, num_codebooks))
    return tokens_from_frames(frames, 8, 50.0, weights="bundled x")


def snac() -> Tokens:
    rng = np.random.default_rng(0)
    return Tokens(tuple(rng.integers(0, 8, 2 * 2**k) for k in range(3)), (8, 8, 8), (10.0, 20.0, 40.0))


def test_flat_and_parallel_hold_the_same_codes_of_the_same_levels() -> None:
    tokens = {"a": rvq(), "b": rvq(7, seed=1)}
    flat, parallel = code_stream("c", tokens, "flat"), code_stream("c", tokens, "parallel")
    assert (flat.architecture, parallel.architecture) == ("tiny_gpt", "rvq_transformer")
    assert flat.nominal_tokens_per_s == parallel.nominal_tokens_per_s == 150.0
    assert flat.raw_bits_per_token == parallel.raw_bits_per_token == 3.0, "the vocabulary is a level's"
    assert flat.places == parallel.places == (0, 1, 2)
    for i in range(2):
        np.testing.assert_array_equal(flat.corpus.clip(i).reshape(-1, 3), parallel.corpus.clip(i))
        np.testing.assert_array_equal(flat.columns.clip(i), parallel.corpus.clip(i))
    part = flat.corpus.subset(["b"])
    np.testing.assert_array_equal(part.clip(0).reshape(-1, 3), parallel.corpus.clip(1))
    assert (part.num_rows, part.codebook_sizes, part.clip_durations_s[0]) == (21, (8,), 7 / 50)
    assert (flat.label, flat.key, flat.weights) == ("c, flat", "c_flat", "bundled x")


def test_levels_of_snac_follow_its_tree() -> None:
    one, row = (code_stream("snac", {"a": snac()}, order) for order in ("orpheus", "grouped"))
    assert one.places == row.places == (0, 1, 2, 2, 1, 2, 2)
    assert one.nominal_tokens_per_s == row.nominal_tokens_per_s == 70.0
    assert one.columns.codebook_sizes == (8,) * 7
    np.testing.assert_array_equal(one.corpus.clip(0).reshape(-1, 7), row.corpus.clip(0))


def test_bytes_are_levels() -> None:
    clip = Tokens((np.array([0x0102, 0xFF00]),), (65_536,), (50.0,))
    stream = code_stream("fsq", {"a": clip}, "bytes")
    assert stream.level_sizes == (256, 256)
    np.testing.assert_array_equal(stream.corpus.clip(0), [[1, 2], [255, 0]])
    assert stream.nominal_tokens_per_s == 100.0


def test_a_single_codebook_is_read_by_a_gpt() -> None:
    assert code_stream("units", {"a": rvq(num_codebooks=1)}, "parallel").architecture == "tiny_gpt"


def test_leading_codebooks_are_kept_where_there_are_more() -> None:
    assert code_stream("c", {"a": rvq()}, "parallel", 2).corpus.codebook_sizes == (8, 8)
    assert code_stream("c", {"a": rvq()}, "parallel", 9).corpus.codebook_sizes == (8, 8, 8)


def test_other_orders_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="order='text'"):
        code_stream("c", {"a": rvq()}, "text")


def test_text_has_one_level_no_nominal_rate_and_no_end() -> None:
    texts = {"a": "to be or not", "b": "to be"}
    bpe = train_bpe(texts.values(), 300)
    stream = text_stream("text", bpe, texts, {"a": 2.0, "b": 1.0, "c": 5.0})
    assert stream.nominal_tokens_per_s is None
    assert stream.level_sizes == (bpe.vocabulary_size,)
    assert bpe.vocabulary_size - 1 not in stream.corpus.rows()
    assert stream.corpus.tokens_per_s == stream.corpus.num_rows / 3.0
    assert (stream.label, stream.key) == ("text", "text")
    assert stream.places == (0,)


def material_of(folder: Path, tokens: dict[str, Tokens]) -> Material:
    path = write_tokens(folder / "c.parquet", tokens)
    entry = CorpusEntry(
        file=path.name, sha256=sha256_of(path), num_bytes=1, codec_weights="", codec_weights_sha256="",
        num_codebooks=3, clips=len(tokens), duration_s=1.0, tokens=1, raw_bits=1.0,
    )  # fmt: skip
    rows = {name: ClipRow(name, "s", "speech", "", "train", 1.0) for name in tokens}
    return Material(rows, ClipParts(tuple(tokens), (), ()), index=TokenIndex(folder, {"c": entry}, rows))


def test_a_stream_is_opened_from_a_folder_of_corpora(tmp_path: Path) -> None:
    material = material_of(tmp_path, {"a": rvq(), "b": rvq(seed=1), "music": rvq(seed=2)})
    stream = material.stream("c", "flat", ["b", "a"], 2)
    assert set(stream.corpus.clips) == {"a", "b"}
    with pytest.raises(UnsupportedInput, match="x"):
        material.stream("c", "flat", ["x"])
    with pytest.raises(MissingWeights, match="recordings_dir"):
        material.stream("mimi", "flat", ["a"])


def test_text_is_opened_where_all_of_it_is_known() -> None:
    texts = {"a": "to be or not to be", "b": "to be", "c": "zzz"}
    rows = {name: ClipRow(name, "s", "speech", "", "train", 2.0) for name in texts}
    material = Material(rows, ClipParts(("a",), ("b",), ("c",)), texts)
    stream = material.text("trained", 259)
    assert (stream.key, stream.corpus.clips, stream.corpus.duration_s) == ("text_trained", ("a", "b", "c"), 6.0)
    assert stream.level_sizes == (259,)
    assert len(stream.corpus.clip(2)) == 3, "the vocabulary is of the training clips alone"
    with pytest.raises(MissingWeights, match="gpt2_dir"):
        material.text("gpt2", 259)
    with pytest.raises(MissingWeights, match="transcript"):
        Material(rows, material.parts).text("trained", 259)


class FakeCodec(Codec):
    """Says how many samples it was given."""

    name = "fake"
    weights = Weights("random", "none", "")
    sample_rate_hz = 16_000
    channels = 1
    codebook_sizes = (4,) * 16
    frame_rates_hz = (50.0,) * 16
    bandwidths_kbps = (0.4, 0.8, 1.6)
    seams = "none"
    chunk_s = 1.0

    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float | None) -> Iterator[Encoded]:
        yield Encoded([np.zeros(queue.rest().shape[1] // 320, dtype=np.int64)] * num_codebooks)


def test_recordings_are_found_by_the_last_part_of_a_clips_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 8000)).astype(np.float32)
    save(Clip(noise, 16_000), tmp_path / "deep" / "a1.wav")
    tokens = encode_recordings(FakeCodec(), ["source/a1"], tmp_path)
    assert list(tokens) == ["source/a1"]
    assert tokens["source/a1"].num_codebooks == 8
    assert len(tokens["source/a1"].codes[0]) == 25
    with pytest.raises(MissingWeights, match="source/a2"):
        encode_recordings(FakeCodec(), ["source/a1", "source/a2"], tmp_path)
