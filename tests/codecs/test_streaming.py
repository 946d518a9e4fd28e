import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.codecs.build import build, build_stereo
from codecbook.codecs.chunks import chunk_bounds, run_with_context
from codecbook.codecs.streaming import CausalStream
from codecbook.codecs.weights import keep_signal_alive, seeded
from codecbook.errors import UnsupportedInput


@given(length=st.integers(1, 5000), chunk=st.integers(1, 700), align=st.integers(1, 50))
def test_bounds_cover_everything_once_and_no_piece_is_short(length, chunk, align):
    bounds = chunk_bounds(length, chunk, align)
    size = max(align, chunk // align * align)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == length
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    assert all(start % align == 0 for start, _ in bounds)
    assert all(end - start == size for start, end in bounds[:-1])
    assert len(bounds) == 1 or size <= bounds[-1][1] - bounds[-1][0] < 2 * size


@pytest.fixture(scope="module")
def model():
    with seeded(0):
        model = build(num_filters=4, hidden_dim=16, num_lstm_layers=2, num_codebooks=2, bandwidth_kbps=1.5)
        keep_signal_alive(model, lambda x: model.decoder(model.encoder(x)), torch.randn(1, 1, 9600) * 0.1)
    # in double precision, sums in another order stay far below the tolerance
    return model.double()


def stream(layers, signal, bounds):
    stream = CausalStream(layers)
    return torch.cat([stream.push(signal[..., start:end]) for start, end in bounds], dim=-1)


@settings(max_examples=15, deadline=None)
@given(length=st.integers(6400, 16_000), chunk=st.integers(3200, 6400))
def test_streaming_an_encoder_equals_the_whole_at_once(model, length, chunk):
    signal = torch.randn(1, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        whole = model.encoder(signal)
        pieces = stream(model.encoder.model, signal, chunk_bounds(length, chunk, 320))
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(20, 60), chunk=st.integers(8, 25))
def test_streaming_a_decoder_equals_the_whole_at_once(model, frames, chunk):
    latents = torch.randn(1, 16, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        whole = model.decoder(latents)
        pieces = stream(model.decoder.model, latents, chunk_bounds(frames, chunk))
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


@settings(deadline=None)
@given(length=st.integers(1, 60), chunk=st.integers(1, 20))
def test_overlap_by_the_receptive_field_equals_the_whole_at_once(length, chunk):
    length *= 2
    signal = torch.arange(1.0, length + 1, dtype=torch.float64)[None, None]
    (joined,) = run_with_context(moving_sum, signal, chunk_bounds(length, chunk, 2), 2, [(2, 1)])
    torch.testing.assert_close(joined, moving_sum(signal), rtol=0, atol=0)


def test_less_overlap_than_the_receptive_field_leaves_seams():
    signal = torch.ones(1, 1, 40, dtype=torch.float64)
    (joined,) = run_with_context(moving_sum, signal, chunk_bounds(40, 10, 2), 0, [(2, 1)])
    assert not torch.equal(joined, moving_sum(signal))
