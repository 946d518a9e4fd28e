import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.build import build, build_stereo
from codecbook.codecs.loading import keep_signal_alive
from codecbook.codecs.networks import CausalStream
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import seeded


@pytest.fixture(scope="module")
def model():
    with seeded(0):
        model = build(num_filters=4, hidden_dim=16, num_lstm_layers=2, num_codebooks=2, bandwidth_kbps=1.5)
        keep_signal_alive(model, lambda x: model.decoder(model.encoder(x)), torch.randn(1, 1, 9600) * 0.1)
    # in double precision, sums in another order stay far below the tolerance
    return model.double()


def stream(layers, signal, chunk):
    stream = CausalStream(layers)
    pieces = BlockQueue([signal[0].numpy()], signal.shape[1]).pieces(chunk)
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
