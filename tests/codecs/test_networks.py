"""Networks behind the common interface; by pieces they give, to the bit, what all at once gives."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from codecbook.audio import Clip
from codecbook.codecs import networks
from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.networks import NetworkCodec, fold_weight_norm
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import seeded

NAMES = ["encodec_24khz", "encodec_48khz", "fsq_50hz", "snac_24khz", "dac_44khz", "mimi"]
IN_PIECES = [*NAMES, "units_25hz", "lyra_v2"]


class Halves(NetworkCodec):
    """Two codebooks at 400 Hz for audio at 800 Hz; nothing is learned."""

    channels = 1

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        super().__init__("halves", module, Weights("random", "seed 0"), device)
        self.sample_rate_hz, self.hop_length = 800, 2
        self._set_codebooks(16, [2, 2])

    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        yield Encoded([np.zeros(queue.rest().shape[1] // 2, dtype=np.int64)] * num_codebooks)


def test_a_network_is_put_on_its_device_ready_to_use(monkeypatch):
    module = nn.Dropout().train()
    codec = Halves(module)
    assert codec.module is module
    assert not module.training
    assert (codec.name, codec.device, str(codec.weights)) == ("halves", "cpu", "random: seed 0")
    monkeypatch.setattr(networks, "checked_device", str)  # which refuses this one, as it gives no numbers
    assert next(Halves(nn.Linear(1, 1), "meta").module.parameters()).device == torch.device("meta")


def test_codebooks_share_a_rate_and_each_number_of_them_is_a_bandwidth():
    codec = Halves(nn.Identity())
    assert codec.codebook_sizes == (16, 16)
    assert codec.frame_rates_hz == (400.0, 400.0)
    assert codec.bandwidths_kbps == (1.6, 3.2)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UnsupportedInput, match="The device 'cuda:99' cannot be used here"):
        Halves(nn.Identity(), "cuda:99")


def test_folding_weight_norm_changes_no_bit():
    with seeded(0):
        network = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(2, 8, 5)))
    x = torch.randn(1, 2, 100)
    before = network(x)
    fold_weight_norm(network)
    assert torch.equal(network(x), before)
    assert set(network.state_dict()) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("name", IN_PIECES)
@pytest.mark.parametrize("duration_s", [0.05, 1.7, 4.03])
def test_codes_are_those_of_the_whole(name, duration_s, small_codec, noise_clip, monkeypatch):
    codec = small_codec(name)
    if codec.seams != "segments":  # pieces of a second make for a short test
        monkeypatch.setattr(codec, "chunk_s", 1.0)
    clip = noise_clip(codec, duration_s)
    tokens = codec.encode(clip)
    parts = list(codec.encode_pieces(BlockQueue(_blocks(clip), codec.channels)))
    for k, codes in enumerate(tokens.codes):
        np.testing.assert_array_equal(np.concatenate([part.codes[k] for part in parts]), codes)
    assert sum((part.segment_frames for part in parts), ()) == tokens.segment_frames
    assert np.float32(sum((part.scales for part in parts), ())).tolist() == list(tokens.scales)


def _blocks(clip):
    return [clip.samples[:, start : start + 7001] for start in range(0, clip.num_samples, 7001)]


@pytest.mark.parametrize("name", IN_PIECES)
def test_tokens_of_blocks_are_those_of_the_clip(name, small_codec, noise_clip):
    codec = small_codec(name)
    clip = noise_clip(codec, 3.1)
    settings = {"num_codebooks": 1, "chunk_s": 1.1}
    assert codec.encode_blocks(_blocks(clip), **settings) == codec.encode(clip, **settings)
    assert codec.encode_blocks(_blocks(clip)) == codec.encode(clip)


@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("name", IN_PIECES)
def test_a_clip_may_end_just_where_a_piece_does(name, offset, small_codec, noise_clip):
    codec = small_codec(name)
    step = getattr(codec, "align", getattr(codec, "hop_length", 1))
    for length in (2 * (codec.sample_rate_hz // step) * step, 2 * codec.sample_rate_hz):
        samples = noise_clip(codec, 2.5).samples[:, : length + offset]
        clip = Clip(samples, codec.sample_rate_hz)
        assert codec.encode_blocks(_blocks(clip), chunk_s=1.0) == codec.encode(clip, chunk_s=1.0)


@pytest.mark.parametrize("name", ["snac_24khz", "snac_with_attention", "dac_44khz"])
def test_a_code_does_not_depend_on_audio_beyond_the_stated_reach(name, small_codec, noise_clip):
    codec = small_codec(name)
    clip = noise_clip(codec, 3.0)
    cut = 24 * 2048
    samples = clip.samples.copy()
    samples[:, cut + codec.context :] = 0
    before, after = codec.encode(clip), codec.encode(Clip(samples, codec.sample_rate_hz))
    for rate_hz, a, b in zip(codec.frame_rates_hz, before.codes, after.codes, strict=True):
        count = round(cut / codec.sample_rate_hz * rate_hz)
        np.testing.assert_array_equal(a[:count], b[:count])
    assert before != after


@pytest.mark.parametrize("name", IN_PIECES)
def test_no_more_audio_is_held_than_a_piece_needs(name, small_codec, noise_clip):
    codec = small_codec(name)
    block = noise_clip(codec, 0.25).samples
    read_s = [0.0]

    def blocks():
        for _ in range(40):
            read_s[0] += 0.25
            yield block

    coded_s, ahead_s = 0.0, []
    for part in codec.encode_pieces(BlockQueue(blocks(), codec.channels), chunk_s=1.0):
        ahead_s.append(read_s[0] - coded_s)
        coded_s += len(part.codes[0]) / codec.frame_rates_hz[0]
    # a piece, the next, what a network looks ahead to (here up to half a second), and the block that completes it
    assert max(ahead_s) < 1.0 + 1.0 + 0.5 + 0.25
    assert coded_s > 9.9


@pytest.mark.parametrize(
    ("name", "duration_s", "num_pieces"),
    [
        *((name, 0.3, 1) for name in NAMES),
        ("encodec_24khz", 5.3, 2),
        ("encodec_48khz", 2.6, 3),
        ("fsq_50hz", 5.3, 2),
        ("snac_24khz", 5.3, 2),
        ("dac_44khz", 5.3, 2),
        ("mimi", 5.3, 2),
    ],
)
def test_audio_is_that_of_the_whole(name, duration_s, num_pieces, small_codec, noise_clip, monkeypatch):
    codec = small_codec(name)
    monkeypatch.setattr(codec, "chunk_s", 2.0)  # for a short test
    tokens = codec.encode(noise_clip(codec, duration_s))
    pieces = list(codec.decode_pieces(tokens))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), codec.decode(tokens).samples)
    assert len(pieces) == num_pieces


def test_blocks_have_the_codecs_channels(small_codec):
    with pytest.raises(UnsupportedInput, match="convert the audio"):
        small_codec("encodec_24khz").encode_blocks([np.zeros((2, 100), dtype=np.float32)])
    with pytest.raises(UnsupportedInput, match="no bandwidth"):
        small_codec("encodec_24khz").encode_blocks([], 99.0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "encodec_48khz"])
def test_long_tokens_are_decoded_in_pieces_without_seams(name, small_codec, noise_clip, monkeypatch):
    codec = small_codec(name)
    tokens = codec.encode(noise_clip(codec, 3.5))
    whole = codec.decode(tokens).samples
    monkeypatch.setattr(codec, "chunk_s", 1.0)
    assert len(list(codec.decode_pieces(tokens))) == 3
    # float32 sums in another order where a piece has another length
    np.testing.assert_allclose(codec.decode(tokens).samples, whole, rtol=0, atol=1e-4)
