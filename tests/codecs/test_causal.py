import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.build import build, build_stereo
from codecbook.codecs.causal import CausalStream
from codecbook.codecs.networks import keep_signal_alive
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import seeded


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


@pytest.fixture(scope="module")
def model():
    with seeded(0):
        model = build(num_filters=4, hidden_dim=16, num_lstm_layers=2, num_codebooks=2, bandwidth_kbps=1.5)
        keep_signal_alive(model, lambda x: model.decoder(model.encoder(x)), torch.randn(1, 1, 9600) * 0.1)
    # in double precision, sums in another order stay far below the tolerance
    return model.double()


def stream(layers, signal, chunk):
    stream = CausalStream(layers)
    pieces = in_blocks(signal[0], 1 << 20).pieces(chunk)
    return torch.cat([stream.push(torch.from_numpy(piece)[None]) for piece in pieces], dim=-1)


@settings(max_examples=15, deadline=None)
@given(length=st.integers(6400, 16_000), chunk=st.integers(3200, 6400))
def test_streaming_an_encoder_equals_the_whole_at_once(model, length, chunk):
    signal = torch.randn(1, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        whole = model.encoder(signal)
        pieces = stream(model.encoder.model, signal, chunk // 320 * 320)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(20, 60), chunk=st.integers(8, 25))
def test_streaming_a_decoder_equals_the_whole_at_once(model, frames, chunk):
    latents = torch.randn(1, 16, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        whole = model.decoder(latents)
        pieces = stream(model.decoder.model, latents, chunk)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-9)


def test_without_its_state_a_piece_would_differ(model):
    signal = torch.randn(1, 1, 9600, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        alone = model.encoder(signal[..., 4800:])
        whole = model.encoder(signal)[..., 15:]
    assert (alone - whole).abs().max() > 1e-3


def test_networks_that_look_ahead_are_refused():
    with pytest.raises(UnsupportedInput, match="looks ahead"):
        CausalStream(build_stereo(num_filters=4, hidden_dim=16).encoder.model)


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
