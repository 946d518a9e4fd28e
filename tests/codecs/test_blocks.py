import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.codecs.blocks import BlockQueue


def in_blocks(signal, block):
    signal = np.asarray(signal)
    blocks = (signal[:, start : start + block] for start in range(0, signal.shape[1], block))
    return BlockQueue(blocks, len(signal))


@settings(deadline=None)
@given(length=st.integers(1, 500), chunk=st.integers(1, 70), block=st.integers(1, 90))
def test_pieces_are_all_there_is_and_none_is_short(length, chunk, block):
    queue = in_blocks(np.arange(length)[None], block)
    pieces = list(queue.pieces(chunk))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1)[0], np.arange(length))
    assert all(piece.shape[1] == chunk for piece in pieces[:-1])
    assert len(pieces) == 1 or chunk <= pieces[-1].shape[1] < 2 * chunk
    assert queue.num_samples == length


@settings(deadline=None)
@given(
    length=st.integers(1, 400),
    chunk=st.integers(1, 20),
    align=st.integers(1, 5),
    context=st.integers(0, 12),
    block=st.integers(1, 90),
)
def test_pieces_have_what_is_around_them(length, chunk, align, context, block):
    chunk, context = chunk * align, context * align
    padded, reached = length + -length % align, 0
    pieces = list(in_blocks(np.arange(length)[None], block).pieces_in_context(chunk, align, context))
    for number, (samples, start, end) in enumerate(pieces):
        is_last = number == len(pieces) - 1
        assert start == min(context, reached)
        assert is_last or end - start == chunk
        first, after = reached - start, reached - start + end + context
        np.testing.assert_array_equal(samples[0], np.arange(max(0, first), min(length, after)))
        reached += end - start
    assert reached == padded
    assert len(pieces) == 1 or chunk <= pieces[-1][2] - pieces[-1][1] < 2 * chunk


def moving_sum(piece):
    """Sum five neighbours at every second sample, zeros beyond the ends: reaches two samples."""
    kernel = torch.ones(1, 1, 5, dtype=torch.float64)
    return torch.nn.functional.conv1d(piece, kernel, stride=2, padding=2)


def joined(signal, chunk, context):
    pieces = in_blocks(signal[0], 7).pieces_in_context(chunk, 2, context)
    return torch.cat(
        [moving_sum(torch.from_numpy(piece)[None])[..., a // 2 : b // 2] for piece, a, b in pieces], dim=-1
    )


@settings(deadline=None)
@given(length=st.integers(1, 60), chunk=st.integers(1, 10))
def test_overlap_by_the_receptive_field_equals_the_whole_at_once(length, chunk):
    signal = torch.arange(1.0, 2 * length + 1, dtype=torch.float64)[None, None]
    torch.testing.assert_close(joined(signal, 2 * chunk, 2), moving_sum(signal), rtol=0, atol=0)


def test_less_overlap_than_the_receptive_field_leaves_seams():
    signal = torch.ones(1, 1, 40, dtype=torch.float64)
    assert not torch.equal(joined(signal, 10, 0), moving_sum(signal))
