import math

import pytest
import torch

from codecbook.codecs.build import (
    ARCHITECTURES,
    build,
    build_architecture,
    build_fsq,
    build_snac,
    build_stereo,
    offered_bandwidths_kbps,
    random_seeded,
    set_bandwidth,
)
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import num_parameters

TINY = {"hidden_dim": 8, "num_filters": 2}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("bandwidth_kbps", "num_codebooks"), [(1.5, 2), (3.0, 4), (6.0, 8), (12.0, 16)])
def test_bandwidth_chooses_codebooks(bandwidth_kbps, num_codebooks):
    model = build(num_codebooks=16, bandwidth_kbps=bandwidth_kbps, **TINY)
    with torch.no_grad():
        [(codes, scale)] = model.encode(torch.randn(1, 1, 24_000))
    assert codes.shape == (1, num_codebooks, 75)
    assert scale is None
    assert 0 <= int(codes.min()) <= int(codes.max()) < 1024


@pytest.mark.parametrize("num_codebooks", [1, 3, 8, 12])
@pytest.mark.parametrize("codebook_size", [32, 512, 1024])
@pytest.mark.parametrize("frame_rate_hz", [50, 75, 150])
def test_every_bandwidth_on_offer_selects_its_codebooks_upstream(num_codebooks, codebook_size, frame_rate_hz):
    offered = offered_bandwidths_kbps(num_codebooks, codebook_size, frame_rate_hz)
    kbps = offered_bandwidths_kbps(num_codebooks, codebook_size, 75)[-1]
    quantizer = build(num_codebooks, codebook_size, bandwidth_kbps=kbps, **TINY).quantizer
    chosen = [quantizer.get_num_quantizers_for_bandwidth(frame_rate_hz, kbps) for kbps in offered]
    expected = [2**i for i in range(1, 10) if 2**i < num_codebooks]
    # upstream floors a quotient of floats: an offer must not lose a codebook to rounding
    assert chosen == [*expected, num_codebooks]


def test_whole_clip_comes_back_at_its_length():
    model = build(bandwidth_kbps=6.0, **TINY)
    with torch.no_grad():
        assert model(torch.randn(2, 1, 4001)).shape == (2, 1, 4001)


def test_mono_model_is_causal():
    model = build(**TINY)
    # the reflected padding at the start reads six frames ahead; from there on nothing does
    waveform = torch.randn(1, 1, 320 * 20)
    changed = waveform.clone()
    changed[..., 320 * 14 :] = 0.0
    with torch.no_grad():
        before, after = model.encoder(waveform), model.encoder(changed)
    assert torch.equal(before[..., :14], after[..., :14])
    assert not torch.equal(before[..., 14:], after[..., 14:])


@pytest.mark.parametrize("norm", ["weight_norm", "time_group_norm"])
def test_stereo_model_has_upstreams_segments(norm):
    model = build_stereo(norm=norm, **TINY)
    assert (model.segment_length, model.segment_stride, model.frame_rate) == (48_000, 47_520, 150)
    with torch.no_grad():
        frames = model.encode(torch.randn(1, 2, 60_000))
        assert [codes.shape[-1] for codes, _ in frames] == [150, 39]
        assert all(scale.shape == (1, 1) for _, scale in frames)
        assert model.decode(frames).shape[1:] == (2, 60_000)


def test_snac_has_three_rates_and_decodes_repeatably():
    model = build_snac(codebook_size=64, encoder_dim=2, decoder_dim=32, codebook_dim=4)
    with torch.no_grad():
        codes = model.encode(torch.randn(1, 1, 512 * 8))
        assert [level.shape[-1] for level in codes] == [2, 4, 8]
        assert torch.equal(model.decode(codes), model.decode(codes))


def test_fsq_gives_one_code_in_480_samples():
    model = build_fsq(levels=(4, 4, 5), **TINY)
    assert (model.hop_length, model.codebook_size) == (480, 80)
    with torch.no_grad():
        codes = model.encode(torch.randn(2, 1, 24_000))
        assert codes.shape == (2, 50)
        assert codes.dtype == torch.int64
        assert 0 <= int(codes.min()) <= int(codes.max()) < 80
        assert model.decode(codes).shape == (2, 1, 24_000)


def test_default_fsq_vocabulary():
    assert build_fsq(**TINY).codebook_size == 65_536


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build(bandwidth_kbps=4.0, **TINY), "1.5, 3, 6"),
        (lambda: build(num_codebooks=0, **TINY), "0 codebooks of 1024"),
        (lambda: build(codebook_size=1000, **TINY), "power of two"),
        (lambda: build(strides=(7, 5, 4, 2), **TINY), "divide 24000"),
        (lambda: build_snac(vq_strides=(1, 2)), "descend"),
        (lambda: build_fsq(levels=(2, 4)), "levels are 3 or more"),
        (lambda: build_architecture("wavenet", {}), "encodec_stereo"),
        (lambda: build_architecture("encodec", {"layers": 3}), "layers"),
        (lambda: set_bandwidth(build(**TINY), 24.0), "24"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(UnsupportedInput, match=message):
        call()


def test_seed_decides_on_parameters_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, second, other = (random_seeded("encodec", TINY, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_every_architecture_builds_from_plain_values():
    for name in ARCHITECTURES:
        assert num_parameters(random_seeded(name, {}, 0)) < 3e6
    assert math.prod(build(**TINY).encoder.ratios) == 320
