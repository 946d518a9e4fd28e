"""The decoder in JavaScript, which shares nothing with the package, computes the same of every stream."""

import numpy as np
import pytest
import stream_cases as cases
from javascript import BUNDLED, bundled_stream, node, ties_stream

from codecbook.coding import inspect
from codecbook.coding.stream import StreamReader, encode_tokens
from codecbook.coding.stream.header import Parity, frame_header, open_header
from codecbook.errors import CodecbookError
from codecbook.lm.exact.files import save_exact
from codecbook.paths import repository_dir

TOYS = {
    "frames": (cases.parallel(30), cases.exact_model),
    "tree": (cases.tree(6, size=16), lambda: cases.exact_model(5, codebooks=7)),
    "rotary": (cases.parallel(20, sizes=(16,)), cases.rotary_model),
    "bytes": (cases.parallel(3, sizes=(65_536,)), lambda: cases.exact_model(6, codebooks=2, size=256)),
}
MUTANTS = {
    "rounding of a norm's unit": ("reciprocal + 2 ** 19", "reciprocal + 2 ** 19 - 1"),
    "rounding of all scales": ("[2 ** (shift - 1),", "[2 ** (shift - 1) - 1,"),
    "rounding of shares": ("reciprocal + 2 ** 23", "reciprocal + 2 ** 23 - 1"),
    "rounding of a table": ("(d >> 8)) + 1) >> 1)", "(d >> 8))) >> 1)"),
    "a table's last entry": ("SHARE_TABLE[4095] = 0", "SHARE_TABLE[4095] = 1"),
    "limit of keys and values": ("clip(qkv[i], 127)", "clip(qkv[i], 126)"),
    "limit of a norm": ("unit), 127);\n  }", "unit), 126);\n  }"),
    "order of distances": ("layer.bias[h * W + t]", "layer.bias[h * W + Math.max(t - 1, 0)]"),
    "window of attention": ("Math.min(position + 1, W)", "Math.min(position + 1, W - 1)"),
    "counts": ("v + 1 + Math.floor(", "v + 1 + Math.ceil("),
}


def rows_of(tokens):
    return cases.header_of(encode_tokens(tokens)).layout.to_rows(tokens).tolist()


@pytest.mark.slow
def test_all_hashes_agree_over_ten_seconds_of_every_bundled_model(tmp_path):
    expected = [bundled_stream(codec) for codec in BUNDLED]
    found = node(tmp_path, [{"model": one.model, "stream": one.stream} for one in expected])
    for codec, one, result in zip(BUNDLED, expected, found, strict=True):
        assert result["errors"] == {}, codec
        assert (result["notes"], result["lost"]) == ([], [])
        np.testing.assert_array_equal(result["codes"], one.rows, codec)
        assert result["hashes"] == one.hashes, codec
        assert {kind: len(hashes) for kind, hashes in result["hashes"].items()} == dict.fromkeys(
            one.hashes, len(one.rows)
        )
        print(f"{codec}: {result['milliseconds'] / len(one.rows):.2f} ms a row, {one.duration_s:g} s")


def test_exact_halves(tmp_path):
    one = ties_stream(tmp_path / "lm")
    (result,) = node(tmp_path, [{"model": one.model, "stream": one.stream}])
    assert (result["errors"], result["hashes"]) == ({}, one.hashes)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_mistake_is_noticed(mutant, tmp_path):
    one = ties_stream(tmp_path / "lm")
    (result,) = node(tmp_path, [{"model": one.model, "stream": one.stream}], MUTANTS[mutant])
    assert result["hashes"]["cdf"] != one.hashes["cdf"]
    assert result["errors"], "and by the stream's own checksum"


def test_a_wrong_byte_of_the_model_is_noticed(tmp_path):
    one = bundled_stream("units_25hz", 4.0)
    altered = bytearray(one.model.read_bytes())
    altered[-5000] ^= 1
    (tmp_path / "altered.safetensors").write_bytes(altered)
    jobs = [
        {"model": tmp_path / "altered.safetensors", "stream": one.stream, "force": force} for force in (False, True)
    ]
    refused, forced = node(tmp_path, jobs)
    assert refused["refused"] == "another model"
    assert forced["hashes"]["logits"] != one.hashes["logits"]


@pytest.mark.parametrize("adapt_step", [0, 222, 1023])
@pytest.mark.parametrize("kind", TOYS)
def test_streams_behind_small_models(kind, adapt_step, tmp_path):
    tokens, model = TOYS[kind]
    save_exact(tmp_path / "lm", model())
    data = cases.encoded(tokens, model(), 0.4, adapt_step)
    (result,) = node(tmp_path, [{"model": tmp_path / "lm" / "model.safetensors", "stream": data}])
    assert result["errors"] == {}
    assert result["codes"] == cases.header_of(data).layout.to_rows(tokens).tolist()


def test_raw_streams_of_every_kind(tmp_path):
    found = node(tmp_path, [{"stream": cases.encoded(tokens, segment_s=0.5)} for tokens in cases.KINDS.values()])
    for kind, tokens, result in zip(cases.KINDS, cases.KINDS.values(), found, strict=True):
        header = result["header"]
        assert (result.get("refused"), result["errors"], result["notes"]) == (None, {}, []), kind
        assert result["codes"] == rows_of(tokens), kind
        assert (header["sizes"], header["rates"]) == (list(tokens.codebook_sizes), list(tokens.frame_rates_hz))
        assert (header["codec"], header["numSamples"]) == (tokens.codec, tokens.num_samples)


def lost_in_python(data):
    """Return the numbers of segments that cannot be decoded, without parity, or None where the stream is refused."""
    try:
        with StreamReader(data) as reader:
            parts = list(reader.segments())
    except CodecbookError:
        return None
    return {
        n
        for part in parts
        if hasattr(part, "num_segments")
        for n in range(part.segment, part.segment + part.num_segments)
    }


def lost_in_javascript(result):
    if "refused" in result:
        return None
    lost = {n for part in result["lost"] for n in range(part["index"], part["index"] + part["count"])}
    return lost | set(map(int, result["errors"]))


def test_damage_costs_the_same_segments_as_in_python(tmp_path):
    data = cases.encoded(cases.parallel(120), segment_s=0.4)
    damaged = [data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :] for i in range(len(data))]
    damaged += [data[:i] + data[i + 9 :] for i in range(0, len(data), 7)]
    damaged += [data[:i] + b"\xc5S\0" * 3 + data[i:] for i in range(0, len(data), 7)]
    damaged += [data[:i] for i in range(0, len(data), 11)]
    start, end, _ = inspect(data).segments[2]
    damaged += [data[:start] + data[end:], data + data[start:end], data[:end] + data[start:], bytes(80), b""]
    found = node(tmp_path, [{"stream": one} for one in damaged])
    for i, (one, result) in enumerate(zip(damaged, found, strict=True)):
        assert lost_in_javascript(result) == lost_in_python(one), (i, result)


def test_parity_is_passed_over(tmp_path):
    tokens = cases.parallel(230, sizes=(16, 1000))
    data = encode_tokens(tokens, segment_s=0.5, parity=Parity(3, 2, 2))
    (result,) = node(tmp_path, [{"stream": data}])
    assert (result["errors"], result["lost"], result["notes"]) == ({}, [], [])
    assert result["codes"] == rows_of(tokens)


def test_what_is_no_stream_of_this_version_is_refused_in_words(tmp_path):
    data = cases.encoded(cases.parallel(20))
    golden = repository_dir() / "tests" / "golden"
    given = {
        (golden / "coding" / "stream_v1" / "parallel.cbs").read_bytes(): "is of version 1",
        frame_header(3, open_header(data)[1]): "is of version 3",
        (golden / "ecdc" / "mono_lm.ecdc").read_bytes(): "an .ecdc stream of EnCodec",
        b"RIFF" + bytes(60): "no stream of codecbook",
        data[:40]: "No copy of the stream's header",
    }
    found = node(tmp_path, [{"stream": one} for one in given])
    for message, result in zip(given.values(), found, strict=True):
        assert message in result["refused"]


def test_files_that_claim_much_end_soon(tmp_path):
    random = np.random.default_rng(0)
    data = cases.encoded(cases.parallel(20))
    marks = data[: inspect(data).segments[0][0]] + b"\xc5S" * 200_000 + b"\xc5P" * 200_000
    noise = [random.integers(0, 256, 5000, dtype=np.uint8).tobytes() for _ in range(50)]
    found = node(tmp_path, [{"stream": one} for one in [marks, *noise]])
    assert all(result["codes"] == [] for result in found)
