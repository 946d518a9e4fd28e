"""Encoding and decoding by pieces gives, to the bit, what all at once gives."""

import numpy as np
import pytest

from codecbook.codecs.pieces import decode_pieces, encode_pieces
from codecbook.errors import UnsupportedInput

NAMES = ["encodec_24khz", "encodec_48khz", "fsq_50hz", "snac_24khz", "dac_44khz", "mimi"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("duration_s", [0.05, 1.7, 4.03])
def test_codes_are_those_of_the_whole(name, duration_s, small_codec, noise_clip):
    codec = small_codec(name)
    clip = noise_clip(codec, duration_s)
    tokens = codec.encode(clip)
    blocks = [clip.samples[:, start : start + 7001] for start in range(0, clip.num_samples, 7001)]
    parts = list(encode_pieces(codec, blocks))
    for k, codes in enumerate(tokens.codes):
        np.testing.assert_array_equal(np.concatenate([part.codes[k] for part in parts]), codes)
    assert sum((part.segment_frames for part in parts), ()) == tokens.segment_frames
    assert np.float32(sum((part.scales for part in parts), ())).tolist() == list(tokens.scales)


@pytest.mark.parametrize(
    ("name", "duration_s", "num_pieces"),
    [
        *((name, 0.3, 1) for name in NAMES),
        ("encodec_24khz", 5.3, 2),
        ("encodec_48khz", 2.6, 3),
        ("fsq_50hz", 5.3, 2),
        ("snac_24khz", 5.3, 2),
        ("dac_44khz", 5.3, 2),
    ],
)
def test_audio_is_that_of_the_whole(name, duration_s, num_pieces, small_codec, noise_clip, monkeypatch):
    codec = small_codec(name)
    if hasattr(codec, "decode_chunk_s"):  # pieces of 2 s make for a short test
        monkeypatch.setattr(codec, "decode_chunk_s", 2.0)
    tokens = codec.encode(noise_clip(codec, duration_s))
    pieces = list(decode_pieces(codec, tokens))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), codec.decode(tokens).samples)
    assert len(pieces) == num_pieces


def test_blocks_have_the_codecs_channels(small_codec):
    with pytest.raises(UnsupportedInput, match="convert the audio"):
        list(encode_pieces(small_codec("encodec_24khz"), [np.zeros((2, 100), dtype=np.float32)]))
    with pytest.raises(UnsupportedInput, match="no bandwidth"):
        list(encode_pieces(small_codec("encodec_24khz"), [], 99.0))
