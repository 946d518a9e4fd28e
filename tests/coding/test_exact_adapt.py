"""A bias that learns within each segment: by the text, in its limits, of use where it should be and not elsewhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stream_cases as cases

from codecbook.audio import Clip
from codecbook.coding import __main__ as command
from codecbook.coding import compress, decompress
from codecbook.coding.exact.adapt import DEFAULT_STEP, add_bias, learn
from codecbook.coding.exact.counts import cdf_exact
from codecbook.coding.exact.frames import decode_many, encode_frames
from codecbook.coding.range_coder import encode_range
from codecbook.coding.stream import decode_tokens
from codecbook.coding.stream.reader import StreamReader
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.reference import reference_logits


def by_the_text(model, frames: np.ndarray, step: int) -> bytes:
    """Code a segment by the numpy evaluator and section 4.4 of docs/stream-format.md, column after column."""
    logits, low = reference_logits(model, frames), []
    for k in range(frames.shape[1]):
        bias = np.zeros(model.codebook_sizes[0], dtype=np.int64)
        rows = []
        for z, code in zip(logits[:, k], frames[:, k], strict=True):
            cdf = cdf_exact(z + ((bias + 2**11) >> 12))
            rows.append(cdf)
            bias = np.maximum(bias - ((step * np.diff(cdf, prepend=0)) >> 8), -(2**26))
            bias[code] = min(bias[code] + step * 2**12, 2**26)
        low.append(rows)
    return encode_range(frames.T, np.array(low).transpose(1, 0, 2))


@pytest.mark.parametrize("step", [1, DEFAULT_STEP, 1023])
def test_segments_follow_the_text(step: int) -> None:
    model = cases.exact_model()
    frames = np.random.default_rng(step).integers(0, 16, (60, 3))
    assert encode_frames(model, frames, step).payload == by_the_text(model, frames, step)
    assert encode_frames(model, frames, step).payload != encode_frames(model, frames).payload


def test_side_by_side_each_segment_has_its_own_bias() -> None:
    model = cases.exact_model()
    clips = [np.random.default_rng(n).integers(0, 16, (n, 3)) for n in (40, 5, 0, 40)]
    coded = [encode_frames(model, clip, DEFAULT_STEP) for clip in clips]
    results = decode_many(model, [one.payload for one in coded], [len(clip) for clip in clips], DEFAULT_STEP)
    for clip, one, result in zip(clips, coded, results, strict=True):
        assert not isinstance(result, CorruptInput)
        np.testing.assert_array_equal(result[0], clip)
        assert result[1] == one.interval_hash


def test_what_repeats_gets_shorter_and_what_is_random_does_not() -> None:
    model = cases.exact_model()  # it expects every code alike
    few = np.random.default_rng(0).integers(0, 3, (150, 3)) * 5
    every = np.random.default_rng(0).integers(0, 16, (1500, 3))
    assert encode_frames(model, few, DEFAULT_STEP).ideal_bits < 0.7 * encode_frames(model, few).ideal_bits
    assert encode_frames(model, every, DEFAULT_STEP).ideal_bits > encode_frames(model, every).ideal_bits


def test_a_bias_stays_within_its_limits() -> None:
    bias, cdf = np.zeros(4, dtype=np.int32), np.array([2**20 - 3, 2**20 - 2, 2**20 - 1, 2**20])
    for _ in range(40):
        learn(bias, cdf, 1, 1023)  # what was all but certain never comes
    assert bias.tolist()[:2] == [-(2**26), 2**26]
    logits = np.array([2**30, -(2**30), 7, 7], dtype=np.int32)
    add_bias(logits, bias)
    assert logits.tolist() == [2**30 - 2**14, 2**14 - 2**30, 7, 7]


def test_damage_to_a_segment_costs_no_other() -> None:
    tokens, model = cases.parallel(100), cases.exact_model()
    data = bytearray(cases.encoded(tokens, model, 0.4, DEFAULT_STEP))
    with StreamReader(bytes(data), model) as reader:
        start, end, _ = reader.report(()).segments[2]
    data[end - 1] ^= 1
    read = decode_tokens(bytes(data), model)
    assert [part.segment for part in read.damage] == [2]
    assert read.lost.tolist() == [40 <= row < 60 for row in range(100)]
    np.testing.assert_array_equal(np.array(read.tokens.codes)[:, ~read.lost], np.array(tokens.codes)[:, ~read.lost])
    assert start < end


@pytest.mark.parametrize("step", [-1, 1024])
def test_refused_steps(step: int) -> None:
    header = cases.header_of(cases.encoded(cases.parallel(9), cases.exact_model()))
    with pytest.raises(UnsupportedInput, match=f"adapt_step={step} with coder 'exact'"):
        replace(header, adapt_step=step)
    with pytest.raises(UnsupportedInput, match="0 for raw coding"):
        cases.encoded(cases.parallel(9), adapt_step=DEFAULT_STEP)


def test_recordings_by_function_and_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = Clip(np.random.default_rng(0).normal(0, 0.1, (1, 24_000)).astype(np.float32), 24_000)
    plain, adapting = (compress(clip, adapt=adapt) for adapt in (False, True))
    assert plain != adapting
    assert decompress(adapting).tokens == decompress(plain).tokens
    with pytest.raises(UnsupportedInput, match="lm=None codes raw"):
        compress(clip, lm=None, adapt=True)
    path = tmp_path / "adapting.cbs"
    path.write_bytes(adapting)
    assert command.main(["inspect", str(path)]) == command.main(["verify", str(path)]) == 0
    assert "adapting, order" in capsys.readouterr().out
