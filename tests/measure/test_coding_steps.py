"""A traced symbol is what the coder does with it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from codecbook.coding.exact.frames import encode_frames
from codecbook.coding.range_coder import RangeEncoder
from codecbook.coding.stream.segment import Damage
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.measure.coding_steps import settled, trace_symbol, worked_out, wrong_frames


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
    later = trace_symbol(small_exact, small_clips.clip(0), 5, 2)
    for one in (symbol, later):
        assert settled(worked_out(one), one.after.num_bytes) == one.after
        # a coder that took another code's interval, or the counts of another model, ends elsewhere
        for odd in (replace(one, low=one.low + 1), replace(one, high=one.high + 1)):
            assert settled(worked_out(odd), one.after.num_bytes) != one.after


def test_frames_outside_the_reported_damage_are_checked() -> None:
    sent = np.arange(24).reshape(12, 2)
    decoded = sent.copy()
    decoded[4:8] = 0
    damage = Damage("payload", 1, 1, 4, 4, 0, 0, 0.0, 0.0, "")
    assert wrong_frames(sent, decoded, [damage]) == (4, 0)
    assert wrong_frames(sent, sent, []) == (0, 0)
    # a reader that does not notice, or reports another place
    assert wrong_frames(sent, decoded, []) == (0, 4)
    assert wrong_frames(sent, decoded, [replace(damage, first_row=6)]) == (4, 2)


@pytest.mark.parametrize(("frame", "codebook"), [(40, 0), (-1, 0), (0, 3)])
def test_a_symbol_that_is_not_there(small_exact: ExactLM, small_clips: Corpus, frame: int, codebook: int) -> None:
    with pytest.raises(UnsupportedInput, match="choose one"):
        trace_symbol(small_exact, small_clips.clip(0), frame, codebook)
