"""A traced symbol is what the coder does with it."""

import itertools

import numpy as np
import pytest

from codecbook.coding.exact.frames import encode_frames
from codecbook.coding.range_coder import RangeEncoder
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.measure.coding_steps import trace_symbol


def test_symbols_follow_each_other_and_make_the_segment(small_exact: ExactLM, small_clips: Corpus) -> None:
    codes = small_clips.clip(0)[:6]
    logits = kernel_logits(small_exact, codes)
    symbols = [trace_symbol(small_exact, codes, t, k) for t in range(6) for k in range(3)]
    for symbol in symbols:
        np.testing.assert_array_equal(symbol.logits, logits[symbol.frame, symbol.codebook])
        assert symbol.counts.sum() == symbol.total
        assert symbol.counts.min() >= 1
        assert symbol.counts[symbol.code] == symbol.high - symbol.low
        assert symbol.code == codes[symbol.frame, symbol.codebook]
    for one, next_one in itertools.pairwise(symbols):
        assert one.after == next_one.before
    segment = encode_frames(small_exact, codes)
    ends = np.array([(symbol.low, symbol.high) for symbol in symbols])
    encoder = RangeEncoder()
    encoder.push_intervals(ends[:, 0], ends[:, 1])
    assert encoder.finish() == segment.payload
    assert sum(symbol.bits for symbol in symbols) == pytest.approx(segment.ideal_bits)


def test_the_coder_narrows_its_interval(small_exact: ExactLM, small_clips: Corpus) -> None:
    symbol = trace_symbol(small_exact, small_clips.clip(0), 0, 0)
    assert (symbol.before.low, symbol.before.range, symbol.before.num_bytes) == (0, 1 << 56, 0)
    unit = (1 << 56) >> 20
    shift = 8 * symbol.after.num_bytes
    assert symbol.after.range == unit * (symbol.high - symbol.low) << shift


@pytest.mark.parametrize(("frame", "codebook"), [(40, 0), (-1, 0), (0, 3)])
def test_a_symbol_that_is_not_there(small_exact: ExactLM, small_clips: Corpus, frame: int, codebook: int) -> None:
    with pytest.raises(UnsupportedInput, match="choose one of them"):
        trace_symbol(small_exact, small_clips.clip(0), frame, codebook)
