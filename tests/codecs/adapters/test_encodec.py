import dataclasses
import math

import numpy as np
import pytest
import torch

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.adapters.encodec import CHECKPOINTS, EncodecCodec
from codecbook.codecs.base import Weights
from codecbook.codecs.encodec_package import encodec
from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput


@pytest.fixture(scope="module")
def full_size():
    return load_codec("encodec_24khz", weights="random:0")


def upstream_codes(codec, clip):
    """Encode by the package's own EncodecModel.encode; int64 [K, T]."""
    codec.module.bandwidth = None
    with torch.no_grad():
        frames = codec.module.encode(torch.from_numpy(clip.samples)[None])
    return np.concatenate([codes[0].numpy() for codes, _ in frames], axis=1), frames


@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz"])
@pytest.mark.parametrize("duration_s", [0.33, 2.345])
def test_tokens_and_audio_are_those_of_the_package(small_codec, noise_clip, name, duration_s):
    codec = small_codec(name)
    clip = noise_clip(codec, duration_s)
    codes, frames = upstream_codes(codec, clip)
    tokens = codec.encode(clip)
    np.testing.assert_array_equal(np.stack(tokens.codes), codes)
    with torch.no_grad():
        wave = codec.module.decode(frames)[0, :, : clip.num_samples].numpy()
    # the decoder sums the codewords of a longer run of frames here, else nothing differs
    np.testing.assert_allclose(codec.decode(tokens).samples, wave, rtol=0, atol=1e-5 * np.abs(wave).max())


def test_the_published_architecture_is_full_size(full_size):
    assert full_size.codebook_sizes == (1024,) * 32
    assert full_size.frame_rates_hz == (75.0,) * 32
    assert full_size.bandwidths_kbps == (1.5, 3.0, 6.0, 12.0, 24.0)
    assert [full_size.num_codebooks_at(kbps) for kbps in full_size.bandwidths_kbps] == [2, 4, 8, 16, 32]


def test_a_streamed_full_size_clip_has_the_packages_tokens(full_size, noise_clip):
    clip = noise_clip(full_size, 4.2)  # more than one chunk
    tokens = full_size.encode(clip, bandwidth_kbps=1.5)
    full_size.module.set_target_bandwidth(1.5)
    with torch.no_grad():
        codes = full_size.module.encode(torch.from_numpy(clip.samples)[None])[0][0][0].numpy()
    np.testing.assert_array_equal(np.stack(tokens.codes), codes)


def test_random_weights_give_audio_varied_tokens(full_size, noise_clip):
    tokens = full_size.encode(noise_clip(full_size, 1.0), num_codebooks=8)
    assert min(len(np.unique(codes)) for codes in tokens.codes) > 20


def test_segments_of_a_second_carry_their_scales(small_codec, noise_clip):
    codec = small_codec("encodec_48khz")
    clip = noise_clip(codec, 2.5)
    tokens = codec.encode(clip)
    starts = range(0, clip.num_samples, 47_520)
    segments = [clip.samples[:, start : start + 48_000] for start in starts]
    assert tokens.segment_frames == tuple(math.ceil(segment.shape[1] / 320) for segment in segments)
    expected = [np.sqrt(np.mean(segment.mean(axis=0, dtype=np.float64) ** 2)) for segment in segments]
    np.testing.assert_allclose(tokens.scales, expected, rtol=1e-5)


def test_twice_as_loud_gives_the_same_codes_and_twice_the_scales(small_codec, noise_clip):
    codec = small_codec("encodec_48khz")
    clip = noise_clip(codec, 1.2)
    quiet, loud = codec.encode(clip), codec.encode(dataclasses.replace(clip, samples=clip.samples * 2))
    np.testing.assert_allclose(loud.scales, 2 * np.array(quiet.scales), rtol=1e-6)
    assert loud.same_codes(quiet)


def test_segments_that_tokens_do_not_mention_are_taken_as_full(small_codec, noise_clip):
    codec = small_codec("encodec_48khz")
    tokens = codec.encode(noise_clip(codec, 1.5))
    with pytest.raises(CorruptInput, match="2 scales for 1 segments"):
        dataclasses.replace(tokens, segment_frames=())
    one = codec.encode(noise_clip(codec, 0.8))
    assert one.segment_frames == (120,)
    untold = dataclasses.replace(one, segment_frames=())
    np.testing.assert_array_equal(codec.decode(untold).samples, codec.decode(one).samples)


@pytest.mark.parametrize("beyond", [1, 80, 160, 180, 319, 320, 321, 480, 481])
@pytest.mark.parametrize("whole", [0, 1])
def test_a_last_segment_within_the_overlap_decodes(small_codec, noise_clip, whole, beyond):
    codec = small_codec("encodec_48khz")
    stride = codec.module.segment_stride
    clip = noise_clip(codec, ((1 + whole) * stride + beyond) / codec.sample_rate_hz)
    tokens = codec.encode(clip)
    assert len(tokens.segment_frames) == 2 + whole
    decoded = codec.decode(tokens).samples
    assert decoded.shape == clip.samples.shape
    first = codec.module._decode_frame(
        (torch.from_numpy(np.stack([codes[: tokens.segment_frames[0]] for codes in tokens.codes]))[None],
         torch.tensor([tokens.scales[0]]))
    )[0].detach().numpy()  # fmt: skip
    # before the overlap a clip is its first segment
    np.testing.assert_allclose(decoded[:, :stride], first[:, :stride], rtol=1e-4, atol=1e-5)


def test_missing_scales_are_refused_with_the_format_that_keeps_them(small_codec, noise_clip):
    codec = small_codec("encodec_48khz")
    tokens = codec.encode(noise_clip(codec, 1.5))
    with pytest.raises(UnsupportedInput, match=r"0 scales for 2 segments.*Parquet"):
        codec.decode(dataclasses.replace(tokens, scales=()))


def test_segments_of_another_length_are_refused(small_codec, noise_clip):
    codec = small_codec("encodec_48khz")
    tokens = codec.encode(noise_clip(codec, 1.5))
    first, second = tokens.segment_frames
    with pytest.raises(CorruptInput, match=r"Segments have \[149, 7[0-9]\] frames"):
        codec.decode(dataclasses.replace(tokens, segment_frames=(first - 1, second + 1)))


def test_a_state_dict_as_published_is_loaded_from_a_file_or_folder(tmp_path):
    model = load_codec("encodec_48khz", weights="random:4")
    with torch.no_grad():
        upstream = encodec.model.EncodecModel.encodec_model_48khz(pretrained=False)
    file = tmp_path / CHECKPOINTS["encodec_48khz"]
    torch.save(upstream.state_dict(), file)
    by_file = load_codec("encodec_48khz", weights=file)
    by_folder = load_codec("encodec_48khz", weights=tmp_path)
    assert by_file.weights.sha256 == by_folder.weights.sha256 != model.weights.sha256
    assert (by_file.weights.kind, by_file.weights.source) == ("pretrained", str(file))
    assert by_file.module.name == "encodec_48khz"


def test_weights_of_the_other_model_are_refused(tmp_path):
    upstream = encodec.model.EncodecModel.encodec_model_48khz(pretrained=False)
    torch.save(upstream.state_dict(), tmp_path / "weights.th")
    with pytest.raises(UnsupportedInput, match=r"weights\.th are of another model"):
        load_codec("encodec_24khz", weights=tmp_path / "weights.th")
    with pytest.raises(MissingWeights, match=r"holds no encodec_24khz-d7cc33bc\.th"):
        load_codec("encodec_24khz", weights=tmp_path)


def test_weight_norm_is_folded_and_the_hash_is_of_the_weights_as_stored(small_folder):
    codec = load_codec("encodec_24khz", weights=small_folder("encodec_24khz"))
    assert not [key for key in codec.module.state_dict() if key.endswith("weight_g")]
    assert len(codec.weights.sha256) == 64


def test_a_model_in_memory_can_be_wrapped(small_codec):
    model = small_codec("encodec_24khz").module
    codec = EncodecCodec("encodec_24khz", model, Weights("random", "here"))
    assert codec.encode(Clip(np.zeros((1, 640), np.float32), 24_000)).num_tokens == 2 * 4
