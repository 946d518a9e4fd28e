"""Encoding and decoding by pieces gives, to the bit, what all at once gives."""

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs.blocks import BlockQueue
from codecbook.errors import UnsupportedInput

NAMES = ["encodec_24khz", "encodec_48khz", "fsq_50hz", "snac_24khz", "dac_44khz", "mimi"]


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", [*NAMES, "units_25hz"])
def test_tokens_of_blocks_are_those_of_the_clip(name, small_codec, noise_clip):
    codec = small_codec(name)
    clip = noise_clip(codec, 3.1)
    settings = {"num_codebooks": 1, "chunk_s": 1.1}
    assert codec.encode_blocks(_blocks(clip), **settings) == codec.encode(clip, **settings)
    assert codec.encode_blocks(_blocks(clip)) == codec.encode(clip)


@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_clip_may_end_just_where_a_piece_does(name, offset, small_codec, noise_clip):
    codec = small_codec(name)
    step = getattr(codec, "align", getattr(codec, "hop_length", 1))
    for length in (2 * (codec.sample_rate_hz // step) * step, 2 * codec.sample_rate_hz):
        samples = noise_clip(codec, 2.5).samples[:, : length + offset]
        clip = Clip(samples, codec.sample_rate_hz)
        assert codec.encode_blocks(_blocks(clip), chunk_s=1.0) == codec.encode(clip, chunk_s=1.0)


@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz", "fsq_50hz", "snac_24khz", "dac_44khz", "mimi"])
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


def test_segments_go_through_together_where_the_codec_takes_several(small_codec, noise_clip, monkeypatch):
    codec = small_codec("encodec_48khz")
    monkeypatch.setattr(codec, "segments_at_once", 2)
    for duration_s in (1.98, 3.3, 5.0):
        clip = noise_clip(codec, duration_s)
        assert codec.encode_blocks(_blocks(clip)) == codec.encode(clip)


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
    if hasattr(codec, "decode_chunk_s"):  # pieces of 2 s make for a short test
        monkeypatch.setattr(codec, "decode_chunk_s", 2.0)
    tokens = codec.encode(noise_clip(codec, duration_s))
    pieces = list(codec.decode_pieces(tokens))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), codec.decode(tokens).samples)
    assert len(pieces) == num_pieces


def test_blocks_have_the_codecs_channels(small_codec):
    with pytest.raises(UnsupportedInput, match="convert the audio"):
        small_codec("encodec_24khz").encode_blocks([np.zeros((2, 100), dtype=np.float32)])
    with pytest.raises(UnsupportedInput, match="no bandwidth"):
        small_codec("encodec_24khz").encode_blocks([], 99.0)


@pytest.mark.parametrize("name", ["encodec_24khz", "fsq_50hz", "mimi", "snac_24khz", "dac_44khz"])
def test_long_tokens_are_decoded_in_pieces_without_seams(name, small_codec, noise_clip, monkeypatch):
    codec = small_codec(name)
    tokens = codec.encode(noise_clip(codec, 3.5))
    whole = codec.decode(tokens).samples
    monkeypatch.setattr(codec, "decode_chunk_s", 1.0)
    assert len(list(codec.decode_pieces(tokens))) == 3
    # float32 sums in another order where a piece has another length
    np.testing.assert_allclose(codec.decode(tokens).samples, whole, rtol=0, atol=1e-4)
