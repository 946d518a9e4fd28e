"""Streams of tokens: every kind comes back equal, whole or in part, and equal input makes equal bytes."""

import io

import numpy as np
import pytest
import stream_cases as cases

from codecbook.coding.stream import StreamReader, StreamWriter, decode_tokens, encode_tokens
from codecbook.coding.stream.header import MAX_SEGMENT_CODES
from codecbook.errors import CorruptInput, MissingInput, MissingWeights, UnsupportedInput
from codecbook.tokens import Tokens


@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("segment_s", [0.001, 0.5, 1e9])
def test_tokens_come_back_equal(kind, segment_s):
    tokens = cases.KINDS[kind]
    data = cases.encoded(tokens, segment_s=segment_s)
    read = decode_tokens(data)
    assert read.tokens == tokens
    assert not read.damage
    assert not read.notes
    assert cases.encoded(tokens, segment_s=segment_s) == data, "the same tokens make the same bytes"


@pytest.mark.parametrize("segment_s", [0.3, 100.0])
def test_exact_models_code_fewer_bytes_and_come_back_equal(segment_s):
    tokens = cases.parallel(100)
    data = cases.encoded(tokens, cases.exact_model(), segment_s)
    read = decode_tokens(data, cases.exact_model())
    assert read.tokens == tokens
    assert not read.damage


def test_a_tree_is_coded_by_a_model_of_its_seven_columns():
    tokens, model = cases.tree(20, size=16), cases.exact_model(5, codebooks=7)
    with StreamReader(cases.encoded(tokens, model), model) as reader:
        assert reader.header.order == "grouped"
        assert reader.read().tokens == tokens


def test_a_codebook_of_65536_is_coded_by_a_model_of_its_two_bytes():
    tokens, model = cases.parallel(20, sizes=(65_536,)), cases.exact_model(6, codebooks=2, size=256)
    with StreamReader(cases.encoded(tokens, model), model) as reader:
        assert (reader.header.order, reader.header.columns) == ("bytes", (256, 256))
        assert reader.read().tokens == tokens


def test_a_codebook_of_65536_is_raw_in_parallel():
    with StreamReader(cases.encoded(cases.KINDS["one codebook"])) as reader:
        assert (reader.header.order, reader.header.columns) == ("parallel", (65_536,))


def test_raw_codes_take_their_fixed_width():
    tokens = cases.parallel(800, sizes=(16, 1024))
    sizes = [len(cases.encoded(tokens.leading(k), segment_s=100)) for k in (1, 2)]
    # the second codebook of 10 bits; in both copies of the header a second run of codebooks, and the bitrate of both
    assert sizes[1] - sizes[0] == 800 * 10 // 8 + 2 * (4 + 2)


@pytest.mark.parametrize("kind", ["parallel", "segments and scales", "tree"])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_writing_while_codes_come_makes_the_same_bytes(kind, step):
    tokens = cases.KINDS[kind]
    data = cases.encoded(tokens, segment_s=0.5)
    file = io.BytesIO()
    writer = StreamWriter(
        file,
        tokens.format,
        segment_s=0.5,
        codec_segment_frames=max(tokens.segment_frames, default=0),
        has_scales=bool(tokens.scales),
    )
    rows = writer.header.layout.to_rows(tokens)
    if tokens.segment_frames:
        starts = np.cumsum((0, *tokens.segment_frames))
        for i, frames in enumerate(tokens.segment_frames):
            writer.write(rows[starts[i] : starts[i + 1]], (frames,), tokens.scales[i : i + 1])
    else:
        for start in range(0, len(rows), step):
            writer.write(rows[start : start + step])
    writer.close(tokens.num_samples)
    assert file.getvalue() == data


def test_segments_are_read_one_at_a_time():
    tokens = cases.parallel(200)
    with StreamReader(cases.encoded(tokens, segment_s=1.0)) as reader:
        parts = list(reader.segments())
    assert [(part.index, part.first_row, part.num_rows) for part in parts] == [
        (0, 0, 50), (1, 50, 50), (2, 100, 50), (3, 150, 50)
    ]  # fmt: skip
    rows = np.concatenate([part.rows for part in parts])
    np.testing.assert_array_equal(rows, tokens.to_frames())


@pytest.mark.parametrize(
    ("start_s", "end_s", "first", "end"),
    [(0.0, None, 0, 200), (1.0, 2.0, 50, 150), (1.0, 1.99, 50, 100), (0.99, 1.01, 0, 100), (3.5, 99.0, 150, 200)],
)
def test_a_stretch_of_time_reads_the_segments_that_cover_it(start_s, end_s, first, end):
    tokens = cases.parallel(200)
    with StreamReader(cases.encoded(tokens, segment_s=1.0)) as reader:
        read = reader.read(start_s, end_s)
    assert read.first_row == first
    assert read.start_s == first / 50
    np.testing.assert_array_equal(read.tokens.to_frames(), tokens.to_frames()[first:end])


def test_time_takes_overlapping_segments_of_the_codec_into_account():
    tokens = cases.segmented((10,) * 8)
    data = encode_tokens(tokens, codec_segment_stride=190, segment_s=0.4)  # 10 frames are 200 samples
    with StreamReader(data) as reader:
        assert reader.header.start_of_row(20) == 2 * 0.190
        assert reader.row_at(0.385) == 20
        read = reader.read(0.385, 0.386)
    assert read.first_row == 20
    assert read.tokens.scales == tokens.scales[2:4]


def test_sources_may_be_bytes_paths_and_files(tmp_path):
    tokens = cases.parallel(50)
    data = cases.encoded(tokens)
    path = tmp_path / "a.cbs"
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), path, str(path), file, io.BytesIO(data)):
            assert decode_tokens(source).tokens == tokens


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (Tokens((np.zeros(2, int), np.zeros(6, int)), (4, 4), (10.0, 30.0)), "no common frames"),
        (cases.parallel(segment_frames=(100, 50, 50)), None),
        (cases.parallel(30, scales=(1.0, 2.0, 3.0), segment_frames=(20, 5, 5)), None),
        (cases.parallel(30, scales=(1.0, 2.0, 3.0), segment_frames=(5, 20, 5)), "20 frames comes where 1 to 5 fit"),
        (cases.parallel(12, segment_frames=(2, 4, 2, 4)), "4 frames comes where 1 to 2 fit"),
        (cases.parallel(10, segment_frames=(4, 2, 4)), "4 frames comes where 1 to 2 fit"),
        (cases.parallel(sizes=(4, 1)), "2 to 2\\^31 codes"),
        (cases.parallel(3, sizes=(4,) * 1025), "up to 1024 columns"),
        (cases.tree(1, levels=11), "no common frames"),
    ],
)
def test_unusual_tokens_are_refused_or_come_back_equal(tokens, words):
    if words is None:
        assert decode_tokens(cases.encoded(tokens)).tokens == tokens
        return
    with pytest.raises(UnsupportedInput, match=words):
        cases.encoded(tokens)


@pytest.mark.parametrize("segment_s", [0.0, -1.0, float("nan")])
def test_a_length_of_segments_is_positive(segment_s):
    with pytest.raises(UnsupportedInput, match="segment_s"):
        cases.encoded(cases.parallel(), segment_s=segment_s)


def test_segments_hold_no_more_codes_than_a_reader_has_room_for():
    with StreamReader(cases.encoded(cases.parallel(), segment_s=1e12)) as reader:
        assert reader.header.rows_per_segment == MAX_SEGMENT_CODES // 3


def test_a_model_codes_the_codebooks_that_it_was_made_for_and_no_others():
    with pytest.raises(UnsupportedInput, match=r"codebooks of \(16, 16, 16\), and these tokens have \[\(16, 16\)"):
        cases.encoded(cases.parallel(sizes=(16, 16)), cases.exact_model())


def test_a_stream_with_a_model_needs_that_model():
    data = cases.encoded(cases.parallel(20), cases.exact_model())
    with pytest.raises(MissingWeights, match="toy_lm"):
        decode_tokens(data)
    with pytest.raises(UnsupportedInput, match="the one here is of SHA-256"):
        decode_tokens(data, cases.exact_model(1))


def test_the_writer_checks_codes_shapes_and_segments():
    writer = StreamWriter(io.BytesIO(), cases.parallel().format)
    with pytest.raises(CorruptInput, match=r"code 16 at \[1, 2\]"):
        writer.write(np.array([[0, 0, 0], [0, 0, 16]]))
    with pytest.raises(UnsupportedInput, match=r"integers \[..., 3\]"):
        writer.write(np.zeros((2, 2), dtype=int))
    with pytest.raises(UnsupportedInput, match=r"integers \[..., 3\]"):
        writer.write(np.zeros((2, 3)))
    writer = StreamWriter(io.BytesIO(), cases.segmented().format, codec_segment_frames=10, has_scales=True)
    with pytest.raises(UnsupportedInput, match="write whole ones"):
        writer.write(np.zeros((10, 3), dtype=int), (9,), (1.0,))


def test_a_pipe_cannot_take_a_stream():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    with pytest.raises(UnsupportedInput, match="not to a pipe"):
        StreamWriter(Pipe(), cases.parallel().format)


def test_other_things_are_no_stream(tmp_path):
    for junk in (b"", b"RIFF", b"\x00" * 5000, b"\x89CBS\r\n\x1a\n" + b"\xff" * 50):
        with pytest.raises(CorruptInput):
            StreamReader(junk)
    with pytest.raises(MissingInput, match="no stream at"):
        StreamReader(tmp_path / "nothing.cbs")
    with pytest.raises(UnsupportedInput, match="received int"):
        StreamReader(5)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedInput, match="A stretch"), StreamReader(cases.encoded(cases.parallel())) as reader:
        reader.read(2.0, 1.0)
