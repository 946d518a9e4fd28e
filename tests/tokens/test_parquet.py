import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.tokens import Tokens, parquet, tokens_from_frames
from codecbook.tokens.parquet import iterate_tokens, read_tokens, write_tokens

PROPERTY = settings(deadline=None, derandomize=True, max_examples=30)


@st.composite
def any_tokens(draw) -> Tokens:
    """Tokens with any metadata, of one rate or of several."""
    sizes = tuple(draw(st.lists(st.sampled_from([1, 1024, 2**32]), min_size=1, max_size=4)))
    lengths = draw(st.lists(st.integers(0, 12), min_size=len(sizes), max_size=len(sizes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    segments = (lengths[0] - 1, 1) if lengths[0] > 1 and draw(st.booleans()) else ()
    channels = draw(st.integers(0, 2))
    kbps = st.none() | st.floats(1e-3, 1e6)
    return Tokens(
        codes=tuple(rng.integers(0, size, length) for size, length in zip(sizes, lengths, strict=True)),
        codebook_sizes=sizes,
        frame_rates_hz=tuple(draw(st.floats(1e-3, 1e6)) for _ in sizes),
        codec=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        weights=draw(st.sampled_from(["", "bundled: model.safetensors"])),
        weights_sha256=draw(st.sampled_from(["", "c0ffee"])),
        sample_rate_hz=draw(st.integers(0, 192_000)),
        channels=channels,
        num_samples=draw(st.none() | st.integers(0, 2**40)),
        bandwidth_kbps=draw(kbps),
        segment_frames=segments,
        scales=tuple(draw(st.floats(-1e30, 1e30)) for _ in segments),
        source_bitrate_kbps=draw(kbps),
        mid_codebooks=draw(st.none() | st.integers(1, len(sizes))) if channels == 2 else None,
    )


def _corpus(count: int = 3) -> dict[str, Tokens]:
    rng = np.random.default_rng(0)
    return {
        f"clip{i}": tokens_from_frames(rng.integers(0, 1024, (10 + i, 2)), 1024, 75.0, codec="c", num_samples=i)
        for i in range(count)
    }


@PROPERTY
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), any_tokens(), max_size=3))
def test_nothing_is_lost(tmp_path_factory, corpus):
    path = tmp_path_factory.getbasetemp() / "roundtrip.parquet"
    write_tokens(path, corpus, overwrite=True)
    back = read_tokens(path)
    assert back == corpus
    assert list(back) == list(corpus)


def test_a_corpus_is_written_and_read_clip_by_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROW_GROUP_CODES", 50)
    corpus = _corpus(8)
    path = write_tokens(tmp_path / "x.parquet", iter(corpus.items()))
    assert pq.ParquetFile(path).num_row_groups == 4
    assert list(itertools.islice(iterate_tokens(path), 3)) == list(corpus.items())[:3]
    assert dict(iterate_tokens(path)) == corpus


def test_clips_may_go_on_in_the_next_row_group(tmp_path):
    """Other software that rewrites the file need not keep our row groups."""
    path = write_tokens(tmp_path / "x.parquet", _corpus())
    table = pq.read_table(path)
    file_metadata = pq.ParquetFile(path).metadata.metadata
    pq.write_table(table.replace_schema_metadata(file_metadata), path, row_group_size=1)
    assert read_tokens(path) == _corpus()


def test_data_frames_see_a_row_per_clip_and_codebook(tmp_path):
    table = pd.read_parquet(write_tokens(tmp_path / "x.parquet", _corpus()))
    assert len(table) == 6
    row = table[(table["clip"] == "clip1") & (table["codebook"] == 1)].iloc[0]
    np.testing.assert_array_equal(row.codes, _corpus()["clip1"].codes[1])
    assert row.frame_rate_hz == 75.0
    assert row.codebook_size == 1024


def test_two_clips_of_one_name_are_refused(tmp_path):
    tokens = _corpus(1)["clip0"]
    with pytest.raises(UnsupportedInput, match="Two clips are named 'a'"):
        write_tokens(tmp_path / "x.parquet", [("a", tokens), ("a", tokens)])
    assert not list(tmp_path.iterdir())


def test_a_codebook_beyond_32_bits_is_refused(tmp_path):
    with pytest.raises(UnsupportedInput, match="4294967297"):
        write_tokens(tmp_path / "x.parquet", {"a": tokens_from_frames(np.zeros((1, 1), int), 2**32 + 1, 75.0)})


def test_an_existing_file_is_kept(tmp_path):
    path = write_tokens(tmp_path / "x.parquet", _corpus())
    with pytest.raises(CodecbookError, match="overwrite=True"):
        write_tokens(path, _corpus(1))
    assert read_tokens(path) == _corpus()


def _rewrite(path, table: pa.Table, **metadata: str) -> None:
    """Write an altered table with the metadata of our own files."""
    pq.write_table(table.replace_schema_metadata({"codecbook_tokens_version": "2"} | metadata), path)


def test_files_of_version_1_know_no_hash_of_weights(monkeypatch, tmp_path):
    clips = {name: replace(tokens, weights="bundled: x") for name, tokens in _corpus().items()}
    monkeypatch.setattr(parquet, "_SCHEMA", parquet._SCHEMAS[b"1"].with_metadata({parquet._VERSION_KEY: b"1"}))
    monkeypatch.setattr(parquet, "_CLIP_FIELDS", tuple(f for f in parquet._CLIP_FIELDS if f.name != "weights_sha256"))
    path = write_tokens(tmp_path / "old.parquet", clips)
    monkeypatch.undo()
    assert "weights_sha256" not in pq.read_table(path).column_names
    assert read_tokens(path) == clips


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "x.parquet"
    with pytest.raises(MissingInput, match="no Parquet file at"):
        read_tokens(path)
    path.write_bytes(b"not parquet")
    with pytest.raises(CorruptInput, match="could not be read as Parquet"):
        read_tokens(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(UnsupportedInput, match=r"columns \['a'\] are not of tokens"):
        read_tokens(path)
    _rewrite(path, pa.table({"a": [1]}))
    with pytest.raises(CorruptInput, match="or of other types than written"):
        read_tokens(path)
    _rewrite(path, pa.table({"a": [1]}), codecbook_tokens_version="3")
    with pytest.raises(UnsupportedInput, match="version b'3'"):
        read_tokens(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2, 3, 4, 5], r"clip 'clip0' has codebooks \[1\]"),
        ([0, 2, 3, 1, 4, 5], "clip 'clip0' comes twice"),
        ([1, 0, 2, 3, 4, 5], r"has codebooks \[1, 0\]"),
        ([0, 1, 2, 3], "some are wrong"),
        ([0, 1, 2, 3, 4], "some are wrong"),
    ],
)
def test_missing_and_moved_rows_are_found(tmp_path, rows, message):
    path = write_tokens(tmp_path / "x.parquet", _corpus())
    _rewrite(path, pq.read_table(path).take(rows))
    with pytest.raises(CorruptInput, match=message):
        read_tokens(path)


def _set(table: pa.Table, column: str, row: int, value) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(column), pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("codes", [1, 2, 4000], "clip 'clip0': Code 4000 at index 2 of codebook 1"),
        ("codec", "d", "clip 'clip0' has codec 'c' and 'd'"),
        ("frame_rate_hz", -1.0, "frame rate of -1.0"),
        ("codebook_size", 2048, "some are wrong"),
    ],
)
def test_altered_rows_are_found(tmp_path, column, value, message):
    path = write_tokens(tmp_path / "x.parquet", _corpus(2))
    _rewrite(path, _set(pq.read_table(path), column, 1, value))
    with pytest.raises(CorruptInput, match=message):
        read_tokens(path)


def test_flipped_bits_give_an_error_or_the_same_tokens(tmp_path):
    """Bits that change nothing exist: statistics, say, or the name of the software that wrote the file."""
    path = write_tokens(tmp_path / "x.parquet", _corpus())
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.choice(len(data), 400, replace=False):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert read_tokens(path) == _corpus()
        except CodecbookError:
            refused += 1
    assert refused > 200


def test_truncations_are_refused(tmp_path):
    path = write_tokens(tmp_path / "x.parquet", _corpus())
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptInput):
            read_tokens(path)
