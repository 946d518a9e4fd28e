"""What holds for every codec, whatever its network."""

import dataclasses
import math

import numpy as np
import pytest

from codecbook.audio import Clip, clip_from_array
from codecbook.codecs import codec_names, load_codec
from codecbook.errors import CodecbookWarning, CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens

CODECS = (*codec_names(), "snac_with_attention")
# a chunk's length alone decides which kernel multiplies its matrices, so the last bits of latents may differ, and a
# token where two codewords are equally near
MAX_SHARE_AT_SEAMS = 1e-3


@pytest.fixture(params=CODECS)
def codec(request, small_codec):
    return small_codec(request.param)


@pytest.fixture
def decoder(codec):
    if not codec.decodes:
        pytest.skip("this tokenizer has no decoder")
    return codec


def test_attributes_fit_together(codec):
    count = len(codec.codebook_sizes)
    assert count == len(codec.frame_rates_hz) >= 1
    assert min(codec.codebook_sizes) >= 2
    assert codec.channels in (1, 2)
    assert list(codec.bandwidths_kbps) == sorted(codec.bandwidths_kbps)
    assert codec.bitrate_kbps(count) == pytest.approx(codec.bandwidths_kbps[-1], rel=0.005)
    assert codec.weights.kind in ("bundled", "pretrained", "random")
    assert (codec.chunk_s == math.inf) == (codec.seams == "none")


def test_tokens_have_the_codecs_shape_and_names(codec, noise_clip):
    clip = noise_clip(codec, 0.9)
    tokens = codec.encode(clip)
    assert tokens.codebook_sizes == codec.codebook_sizes
    assert tokens.frame_rates_hz == codec.frame_rates_hz
    assert (tokens.codec, tokens.weights) == (codec.name, str(codec.weights))
    assert (tokens.sample_rate_hz, tokens.channels) == (codec.sample_rate_hz, codec.channels)
    assert tokens.num_samples == clip.num_samples
    assert tokens.bandwidth_kbps == codec.bandwidths_kbps[-1]
    for codes, rate in zip(tokens.codes, codec.frame_rates_hz, strict=True):
        # at most one padding to whole windows beyond the clip, and at most a frame short of it
        assert 0.9 * rate - 1 <= len(codes) <= 0.9 * rate + max(8, rate * 0.2)
        assert len(np.unique(codes)) > 2


@pytest.mark.parametrize("count", [True, "6", 1.0])
def test_what_is_no_number_of_codebooks_is_refused(codec, noise_clip, count):
    clip = noise_clip(codec, 0.3)
    with pytest.raises(UnsupportedInput, match=f"num_codebooks={count!r} is no whole number"):
        codec.encode(clip, num_codebooks=count)
    assert codec.encode(clip, num_codebooks=np.int64(1)).num_codebooks == 1
    with pytest.raises(UnsupportedInput, match="bandwidth_kbps='6' is no number"):
        codec.encode(clip, "6")
    with pytest.raises(UnsupportedInput, match="bandwidth_kbps=True is no number"):
        codec.encode(clip, True)


def test_encoding_is_repeatable(codec, noise_clip):
    assert codec.encode(noise_clip(codec, 0.5)) == codec.encode(noise_clip(codec, 0.5))


def test_chunks_leave_no_seams(codec, noise_clip):
    if codec.chunk_s == math.inf:
        pytest.skip("every token of this codec depend on the whole clip")
    clip = noise_clip(codec, 5.3)
    whole = codec.encode(clip, chunk_s=10.0)
    for chunk_s in (1.0, 1.7):
        chunked = codec.encode(clip, chunk_s=chunk_s)
        assert [len(codes) for codes in chunked.codes] == [len(codes) for codes in whole.codes]
        differing = sum(int((a != b).sum()) for a, b in zip(chunked.codes, whole.codes, strict=True))
        assert differing <= MAX_SHARE_AT_SEAMS * whole.num_tokens


def test_chunks_are_refused_by_codecs_that_need_the_whole_clip(codec, noise_clip):
    if codec.chunk_s < math.inf:
        with pytest.raises(UnsupportedInput, match="1 s or more"):
            codec.encode(noise_clip(codec, 0.3), chunk_s=0.5)
    else:
        with pytest.raises(UnsupportedInput, match="depend on the whole clip"):
            codec.encode(noise_clip(codec, 0.3), chunk_s=2.0)


@pytest.mark.parametrize("duration_s", [0.021, 0.5, 1.37])
def test_decoding_gives_back_the_length(decoder, noise_clip, duration_s):
    clip = noise_clip(decoder, duration_s)
    decoded = decoder.decode(decoder.encode(clip))
    assert decoded.samples.shape == clip.samples.shape
    assert decoded.sample_rate_hz == decoder.sample_rate_hz
    assert np.isfinite(decoded.samples).all()
    if duration_s >= 0.5:  # of a frame or two, a random network may make silence
        assert decoded.peak > 0


def test_decoding_is_repeatable(decoder, noise_clip):
    tokens = decoder.encode(noise_clip(decoder, 0.4))
    np.testing.assert_array_equal(decoder.decode(tokens).samples, decoder.decode(tokens).samples)


def test_without_a_known_length_all_that_the_network_makes_is_returned(decoder, noise_clip):
    tokens = decoder.encode(noise_clip(decoder, 0.4))
    decoded = decoder.decode(dataclasses.replace(tokens, num_samples=None))
    length = decoder.decode(tokens).num_samples
    assert decoded.num_samples >= length - decoder.sample_rate_hz / decoder.frame_rates_hz[0]
    shared = min(length, decoded.num_samples)
    np.testing.assert_array_equal(decoded.samples[:, :shared], decoder.decode(tokens).samples[:, :shared])


def test_leading_codebooks_are_those_of_all(codec, noise_clip):
    clip = noise_clip(codec, 0.6)
    tokens = codec.encode(clip)
    for count in {1, len(codec.codebook_sizes)}:
        leading = codec.encode(clip, num_codebooks=count)
        assert leading.num_codebooks == count
        assert leading.same_codes(tokens.leading(count))


def test_decoding_leading_codebooks_uses_these_alone(codec, noise_clip):
    if not codec.decodes or len(codec.codebook_sizes) == 1:
        pytest.skip("there is one codebook, or no decoder")
    tokens = codec.encode(noise_clip(codec, 0.6))
    one = codec.decode(tokens, num_codebooks=1)
    np.testing.assert_array_equal(one.samples, codec.decode(tokens.leading(1)).samples)
    assert not np.array_equal(one.samples, codec.decode(tokens).samples)


def test_every_bandwidth_uses_leading_codebooks_within_it(codec, noise_clip):
    clip = noise_clip(codec, 0.3)
    for bandwidth_kbps in codec.bandwidths_kbps[:3]:
        tokens = codec.encode(clip, bandwidth_kbps)
        count = codec.num_codebooks_at(bandwidth_kbps)
        assert tokens.num_codebooks == count
        assert codec.bitrate_kbps(count) <= bandwidth_kbps * 1.005
        assert tokens.bandwidth_kbps == bandwidth_kbps


def test_a_bandwidth_that_is_not_on_offer_is_refused(codec, noise_clip):
    for bandwidth_kbps in (codec.bandwidths_kbps[0] * 1.3, 1e6, 0.0, float("nan")):
        with pytest.raises(UnsupportedInput, match=r"has no bandwidth of .* choose one of"):
            codec.encode(noise_clip(codec, 0.3), bandwidth_kbps)


def test_too_many_codebooks_and_both_ways_to_say_how_many_are_refused(codec, noise_clip):
    clip = noise_clip(codec, 0.3)
    for count in (0, len(codec.codebook_sizes) + 1):
        with pytest.raises(UnsupportedInput, match=f"num_codebooks={count}"):
            codec.encode(clip, num_codebooks=count)
    with pytest.raises(UnsupportedInput, match="leave one out"):
        codec.encode(clip, codec.bandwidths_kbps[0], num_codebooks=1)


def test_clips_of_another_rate_or_channels_are_refused_with_the_way_to_convert(codec):
    samples = np.zeros((codec.channels, 800), np.float32)
    with pytest.raises(UnsupportedInput, match=r"its convert\(clip\) makes it so"):
        codec.encode(Clip(samples, codec.sample_rate_hz + 50))
    with pytest.raises(UnsupportedInput, match=f"takes {codec.channels} at {codec.sample_rate_hz} Hz"):
        codec.encode(Clip(np.zeros((3 - codec.channels, 800), np.float32), codec.sample_rate_hz))


def test_clips_without_finite_samples_are_refused(codec):
    with pytest.raises(CorruptInput, match="holds no samples"):
        codec.encode(Clip(np.zeros((codec.channels, 0), np.float32), codec.sample_rate_hz))
    with pytest.raises(CorruptInput, match="not finite"):
        codec.encode(Clip(np.full((codec.channels, 9), np.nan, np.float32), codec.sample_rate_hz))


@pytest.mark.parametrize("num_samples", [1, 2, 7, 100])
def test_clips_of_a_few_samples_are_encoded(codec, num_samples):
    samples = np.linspace(-0.5, 0.5, codec.channels * num_samples, dtype=np.float32)
    clip = clip_from_array(samples.reshape(codec.channels, num_samples), codec.sample_rate_hz)
    tokens = codec.encode(clip)
    assert min(len(codes) for codes in tokens.codes) >= 1
    if codec.decodes:
        assert codec.decode(tokens).samples.shape == clip.samples.shape


def test_silence_is_encoded(codec):
    clip = Clip(np.zeros((codec.channels, codec.sample_rate_hz // 2), np.float32), codec.sample_rate_hz)
    tokens = codec.encode(clip)
    assert tokens == codec.encode(clip)
    if codec.decodes:
        assert np.isfinite(codec.decode(tokens).samples).all()


def test_tokens_of_another_codec_are_refused(codec, noise_clip):
    tokens = codec.encode(noise_clip(codec, 0.3))
    if not codec.decodes:
        with pytest.raises(UnsupportedInput, match="without a decoder"):
            codec.decode(tokens)
        return
    with pytest.raises(UnsupportedInput, match=r"are of other, not of"):
        codec.decode(dataclasses.replace(tokens, codec="other"))
    sizes = tuple(size * 2 for size in tokens.codebook_sizes)
    with pytest.raises(UnsupportedInput, match=r"Codebooks of .* load the tokens' own codec"):
        codec.decode(dataclasses.replace(tokens, codec="", codebook_sizes=sizes))
    rates = tuple(rate * 2 for rate in tokens.frame_rates_hz)
    with pytest.raises(UnsupportedInput, match=r"Codebooks of .* Hz are not"):
        codec.decode(dataclasses.replace(tokens, frame_rates_hz=rates))
    many = len(codec.codebook_sizes) + 1
    codes = (np.zeros(8, np.int64),) * many
    with pytest.raises(UnsupportedInput, match=f"have {many} codebooks"):
        codec.decode(Tokens(codes, (codec.codebook_sizes[0],) * many, (codec.frame_rates_hz[0],) * many))


def test_fewer_codes_than_the_length_asks_for_are_refused(decoder, noise_clip):
    tokens = decoder.encode(noise_clip(decoder, 0.8))
    with pytest.raises(CorruptInput, match="need about"):
        decoder.decode(dataclasses.replace(tokens, num_samples=10 * decoder.sample_rate_hz))
    empty = tuple(codes[:0] for codes in tokens.codes)
    with pytest.raises(CorruptInput, match="holds no codes"):
        decoder.decode(dataclasses.replace(tokens, codes=empty, num_samples=None, segment_frames=(), scales=()))


def test_a_device_that_is_not_there_is_refused(codec, small_folder):
    weights = "random:0" if codec.name in ("units_25hz", "lyra_v2") else small_folder(codec.name)
    weights = "pretrained" if codec.name == "lyra_v2" else weights
    with pytest.raises(UnsupportedInput, match="device"):
        load_codec(codec.name, weights, device="vulcan")


def test_tokens_of_other_weights_are_refused_and_of_unknown_ones_warned_about(decoder, noise_clip):
    tokens = decoder.encode(noise_clip(decoder, 0.3))
    assert (tokens.weights, tokens.weights_sha256) == (str(decoder.weights), decoder.weights.sha256)
    other_kind = "random: seed 5" if decoder.weights.kind != "random" else "bundled: x"
    for label, sha256 in ((tokens.weights, "c0ffee" * 8), (other_kind, "")):
        if sha256 and not decoder.weights.sha256:
            continue
        with pytest.raises(UnsupportedInput, match=rf"made with the weights .{label}.*noise") as caught:
            decoder.decode(dataclasses.replace(tokens, weights=label, weights_sha256=sha256))
        assert repr(str(decoder.weights)) in str(caught.value)
    for label in ("", f"{decoder.weights.kind}: elsewhere" if decoder.weights.kind != "random" else ""):
        with pytest.warns(CodecbookWarning, match="not known for sure"):
            decoder.decode(dataclasses.replace(tokens, weights=label, weights_sha256=""))
    # a name that is the same is taken for the same weights, as of files that keep no hash
    decoder.decode(dataclasses.replace(tokens, weights_sha256=""))
