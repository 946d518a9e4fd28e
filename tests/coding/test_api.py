"""Recordings to streams and back, with the bundled codecs."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import stream_cases as cases
import torch

from codecbook import audio
from codecbook.audio import Clip
from codecbook.clips import load_clips
from codecbook.codecs import load_codec
from codecbook.codecs.base import Weights
from codecbook.coding import api, compress, compress_file, decompress, decompress_file, default_lm, inspect, verify
from codecbook.coding.conceal import CONCEALMENTS
from codecbook.coding.stream import models as stream_models
from codecbook.coding.stream.models import NamedLM
from codecbook.coding.stream.reader import StreamReader
from codecbook.errors import CodecbookError, CodecbookWarning, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import save_exact
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig, TinyGPT, TinyGPTConfig

CODECS = ["encodec_24khz", "encodec_48khz", "snac_24khz", "fsq_50hz"]


@pytest.fixture(scope="module")
def codec_of():
    codecs = {}

    def load(name):
        if name not in codecs:
            codecs[name] = load_codec(name)
        return codecs[name]

    return load


def noise(duration_s=3.3, sample_rate_hz=24_000, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    samples = 0.1 * rng.standard_normal((channels, round(duration_s * sample_rate_hz)))
    return audio.clip_from_array(samples.astype(np.float32), sample_rate_hz, "noise")


def model_for(codec):
    """A model for a codec's codes, of random weights."""
    torch.manual_seed(0)
    shape = RVQTransformerConfig(
        codebook_sizes=codec.codebook_sizes, dim=16, layers=1, heads=2, hidden=16, window_frames=8, head_dim=8,
        head_hidden=8,
    )  # fmt: skip
    rows = np.random.default_rng(0).integers(0, codec.codebook_sizes, (50, len(codec.codebook_sizes)))
    return export_exact(RVQTransformer(shape).eval(), [rows])


@pytest.mark.parametrize("name", CODECS)
def test_tokens_and_audio_are_those_of_the_codec(name, codec_of):
    codec = codec_of(name)
    clip = noise()
    tokens = codec.encode(audio.convert(clip, codec.sample_rate_hz, codec.channels))
    data = compress(clip, codec, None, lm=None, segment_s=1.0)
    decoded = decompress(data, codec=codec)
    assert decoded.tokens == tokens
    np.testing.assert_array_equal(decoded.clip.samples, codec.decode(tokens).samples)
    assert (decoded.damage, decoded.notes) == ([], ())
    header = inspect(data).header
    assert header.format.weights_sha256 == codec.weights.sha256[:12]
    assert header.num_samples == decoded.clip.num_samples


def test_codecs_are_found_by_name_again():
    data = compress(noise(1.0), "fsq_50hz_mini", None, lm=None)
    decoded = decompress(data)
    assert decoded.tokens.codec == "fsq_50hz"
    assert decoded.clip.duration_s == 1.0


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("method", CONCEALMENTS)
def test_damage_is_concealed_over_its_length(name, method, codec_of):
    codec = codec_of(name)
    data = compress(noise(4.3), codec, lm=None, segment_s=1.0)
    damaged = bytearray(data)
    start, end, _ = inspect(data).segments[1]
    damaged[(start + end) // 2] ^= 4
    whole, intact = decompress(bytes(damaged), codec=codec, conceal=method), decompress(data, codec=codec)
    (damage,) = whole.damage
    a, b = (round(s * codec.sample_rate_hz) for s in (damage.start_s, damage.end_s))
    reach = getattr(codec, "context", 0) if codec.seams == "context" else 0
    np.testing.assert_array_equal(whole.clip.samples[:, : a - reach], intact.clip.samples[:, : a - reach])
    # codecs with a state remember the damage, these do not; segments of a codec fade into each other
    if codec.seams != "state":
        reach = reach or codec.sample_rate_hz // 50
        np.testing.assert_array_equal(whole.clip.samples[:, b + reach :], intact.clip.samples[:, b + reach :])
    middle = slice((a + b) // 2 - 240, (a + b) // 2 + 240)
    assert not whole.clip.samples[:, middle].any()
    assert whole.clip.samples[:, a + 480 : a + 960].any() == (method != "silence")
    assert whole.clip.duration_s == pytest.approx(4.3, abs=1e-9)


@pytest.mark.parametrize("name", CODECS)
def test_a_stretch_has_its_length_and_the_sound_of_the_whole(name, codec_of):
    codec = codec_of(name)
    data = compress(noise(8.0), codec, None, lm=None, segment_s=1.0)
    whole, part = decompress(data, codec=codec), decompress(data, codec=codec, start_s=4.2, end_s=5.3)
    rate = codec.sample_rate_hz
    wanted = whole.clip.samples[:, round(4.2 * rate) : round(5.3 * rate)]
    assert part.clip.samples.shape == wanted.shape
    # EnCodec's LSTM has had two seconds to forget that it began in the middle
    np.testing.assert_allclose(part.clip.samples, wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("rate_hz", "channels"), [(24_000, 1), (44_100, 2)])
def test_files_of_any_length_make_the_same_bytes(name, rate_hz, channels, codec_of, tmp_path, monkeypatch):
    # a small file is read at once, so let this one count as long
    monkeypatch.setattr("codecbook.codecs.blocks._WHOLE_SAMPLES", 1000)
    monkeypatch.setattr("codecbook.audio_files._BLOCK_SAMPLES", 30_011)
    codec = codec_of(name)
    source, stream, target = (tmp_path / part for part in ("a.wav", "a.cbs", "b.wav"))
    audio.save(noise(3.3, rate_hz, channels), source)
    steps = []
    report = compress_file(
        source, stream, codec, None, lm=None, segment_s=1.0, on_progress=lambda *step: steps.append(step)
    )
    data = compress(audio.load(source), codec, None, lm=None, segment_s=1.0)
    assert stream.read_bytes() == data
    assert report.num_bytes == len(data)
    assert steps[-1] == pytest.approx((3.3, 3.3), abs=1e-3)
    with pytest.raises(CodecbookError, match="exists"):
        compress_file(source, stream, codec, None, lm=None)

    written = decompress_file(stream, target, codec=codec, on_progress=lambda *step: steps.append(step))
    assert written.duration_s == pytest.approx(3.3, abs=1e-4)
    assert steps[-1][0] == pytest.approx(3.3, abs=1e-4)
    audio.save(decompress(data, codec=codec).clip, tmp_path / "c.wav")
    assert target.read_bytes() == (tmp_path / "c.wav").read_bytes()
    with pytest.raises(CodecbookError, match="exists"):
        decompress_file(stream, target, codec=codec)


@pytest.mark.parametrize(
    ("start_s", "end_s", "words"),
    [
        (float("inf"), None, "give seconds from 0 on"),
        (float("nan"), None, "give seconds from 0 on"),
        (-4.0, None, "give seconds from 0 on"),
        (0.0, float("nan"), "give seconds from 0 on"),
        (0.5, 0.5, "give the end after the start"),
        (1.0, None, r"which is 1\.000 s long"),
        (5.0, 6.0, r"which is 1\.000 s long"),
    ],
)
def test_stretches_that_are_none(start_s, end_s, words, codec_of):
    codec = codec_of("fsq_50hz")
    with pytest.raises(UnsupportedInput, match=words):
        decompress(compress(noise(1.0), codec, None, None), codec=codec, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("rate_hz", [5e-324, 1e308])
def test_rates_at_which_no_time_can_be_computed_are_another_codec_s(rate_hz, codec_of, tmp_path):
    codec = codec_of("fsq_50hz")
    data = compress(noise(3.0), codec, None, lm=None, segment_s=1.0)
    with StreamReader(data) as reader:
        header = reader.header
        segments = list(reader.segments())
    template = replace(header.format, frame_rates_hz=(rate_hz,))
    forged = cases.forged(replace(header, format=template), segments[::2], footer=False)
    with pytest.raises(UnsupportedInput, match=r"Codebooks of .* Hz are not"):
        decompress(forged, codec=codec)
    (tmp_path / "a.cbs").write_bytes(forged)
    with pytest.raises(UnsupportedInput, match=r"Codebooks of .* Hz are not"):
        decompress_file(tmp_path / "a.cbs", tmp_path / "a.wav", codec=codec)


def test_an_empty_recording_is_decoded_whole(codec_of):
    codec = codec_of("fsq_50hz")
    with StreamReader(compress(noise(1.0), codec, None, lm=None)) as reader:
        header = replace(reader.header, num_rows=0, num_segments=0, num_samples=0)
    decoded = decompress(cases.forged(header, []), codec=codec)
    assert decoded.clip.samples.shape == (1, 0)
    assert (decoded.damage, decoded.notes) == ([], ())


def test_a_target_is_refused_before_any_work(tmp_path):
    (tmp_path / "there.wav").write_bytes(b"")
    for name, words in (("there.wav", "exists"), ("there.xyz", "Cannot write there.xyz")):
        with pytest.raises(CodecbookError, match=words):
            decompress_file(tmp_path / "no stream", tmp_path / name)


def test_a_damaged_stream_is_written_as_far_as_it_goes(codec_of, tmp_path):
    data = compress(noise(3.0), codec_of("fsq_50hz"), None, lm=None, segment_s=1.0)
    (tmp_path / "cut.cbs").write_bytes(data[: len(data) // 2])
    report = decompress_file(tmp_path / "cut.cbs", tmp_path / "cut.wav", codec=codec_of("fsq_50hz"))
    assert report.damage
    assert report.notes
    assert soundfile.info(tmp_path / "cut.wav").frames == 72_000


def test_language_models_by_folder_by_name_and_by_default(codec_of, tmp_path, monkeypatch):
    codec, clip, model = codec_of("fsq_50hz"), noise(2.0), model_for(codec_of("fsq_50hz"))
    folder = tmp_path / "models" / "lm_fsq_50hz_mini"
    save_exact(folder / "exact", model)
    with pytest.raises(MissingWeights, match="pass it as lm="):
        decompress(compress(clip, codec, None, NamedLM("", model)), codec=codec, lm=None)
    monkeypatch.setattr(stream_models, "data_dir", lambda: tmp_path)
    data = compress(clip, codec, None)
    header = inspect(data).header
    assert (header.coder, header.order, header.lm_name) == ("exact", "parallel", "lm_fsq_50hz_mini")
    assert header.lm_sha256 == model.sha256[:12]
    assert compress(clip, codec, None, folder) == data == compress(clip, codec, None, str(folder / "exact"))
    tokens = codec.encode(clip)
    for lm in ("default", folder, model):
        assert decompress(data, codec=codec, lm=lm).tokens == tokens
    assert not verify(data).damage
    assert default_lm(codec).model.sha256 == default_lm("fsq_50hz_mini").model.sha256 == model.sha256


def test_the_bundled_model_is_the_default(codec_of):
    codec, clip = codec_of("encodec_24khz"), load_clips(limit=1)[0][0]
    data = compress(clip, codec)
    assert len(data) < 0.9 * len(compress(clip, codec, lm=None))
    header = inspect(data).header
    assert (header.coder, header.lm_name) == ("exact", "lm_encodec_24khz_mini")
    assert header.lm_sha256 == default_lm(codec).model.sha256[:12]
    decoded = decompress(data, codec=codec)
    assert decoded.tokens == codec.encode(audio.convert(clip, 24_000, 1), 6.0)
    assert inspect(compress(clip, codec, 3.0)).header.coder == "raw", "half its codebooks are not its language"


def test_a_default_model_of_other_codebooks_is_left_out_with_a_warning(codec_of, tmp_path, monkeypatch, caplog):
    torch.manual_seed(0)
    shape = TinyGPTConfig(codebook_sizes=(16,), dim=16, layers=1, heads=2, hidden=32, context=8)
    model = export_exact(TinyGPT(shape).eval(), [np.random.default_rng(3).integers(0, 16, (8, 1))])
    save_exact(tmp_path / "models" / "lm_fsq_50hz_mini", model)
    monkeypatch.setattr(stream_models, "data_dir", lambda: tmp_path)
    with caplog.at_level(logging.WARNING):
        data = compress(noise(1.0), codec_of("fsq_50hz"), None)
    assert "codes are stored raw" in caplog.text
    assert inspect(data).header.coder == "raw"
    with pytest.raises(UnsupportedInput, match="language model codes"):
        compress(noise(1.0), codec_of("fsq_50hz"), None, model)


def test_weights_that_are_not_there_or_not_the_ones(codec_of, tmp_path, monkeypatch):
    codec = codec_of("fsq_50hz")
    data = compress(noise(1.0), codec, None, lm=None)
    other = load_codec("fsq_50hz", "random:1")
    with pytest.raises(UnsupportedInput, match="pass the right ones as weights="):
        decompress(data, codec=other)
    with pytest.raises(MissingWeights, match="no bundled language model"):
        compress(noise(1.0), other, None)
    model = model_for(codec)
    coded = compress(noise(1.0), codec, None, NamedLM("lm_fsq_50hz_mini", model))
    monkeypatch.setattr(stream_models, "data_dir", lambda: tmp_path)
    with pytest.raises(MissingWeights, match="lm=None"):
        default_lm(codec)
    with pytest.raises(MissingWeights, match="lm_fsq_50hz_mini"):
        decompress(coded, codec=codec)
    with pytest.raises(MissingWeights, match="no exact language model"):
        default_lm("../../etc")


def test_labels_of_weights_never_become_paths():
    template = inspect(compress(noise(1.0), "fsq_50hz", None, lm=None)).header
    for label, wanted in (("random: seed 3", "random:3"), ("pretrained: x/y", "pretrained"), ("bundled: a", "bundled")):
        assert stream_models._weights_of(replace(template.format, weights=label)) == wanted
    with pytest.raises(UnsupportedInput, match=r"below 2\^63"):
        stream_models.codec_of(replace(template, format=replace(template.format, weights=f"random: seed {10**26}")))
    for label in ("", "/etc/passwd", "random: /etc", "random: seed -1"):
        with pytest.raises(UnsupportedInput, match="pass weights="):
            stream_models._weights_of(replace(template.format, weights=label))


def test_what_cannot_be_encoded_or_heard(codec_of):
    with pytest.raises(CorruptInput, match="no samples"):
        compress(Clip(np.zeros((1, 0), dtype=np.float32), 24_000), codec_of("fsq_50hz"), None, None)
    with pytest.raises(CorruptInput, match="not finite"):
        compress(Clip(np.full((1, 9), np.nan, dtype=np.float32), 24_000), codec_of("fsq_50hz"), None, None)
    with pytest.raises(UnsupportedInput, match="no bandwidth of"):
        compress(noise(1.0), codec_of("fsq_50hz"), 6.0, None)
    with pytest.raises(UnsupportedInput, match="There is no codec"):
        compress(noise(1.0), "opus", None, None)


def test_the_defaults_are_the_documented_ones():
    assert api.DEFAULT_CODEC == "encodec_24khz"
    assert load_codec("encodec_24khz").default_bandwidth_kbps == 6.0
    assert isinstance(load_codec("encodec_24khz").weights, Weights)


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_has_a_bandwidth_that_its_language_model_codes(name, codec_of):
    codec = codec_of(name)
    assert codec.default_bandwidth_kbps in codec.bandwidths_kbps
    header = inspect(compress(noise(0.5), codec)).header
    assert (header.coder, header.lm_name) == ("exact", f"lm_{name}_mini")


def test_arrays_tensors_and_paths_are_sound_too(codec_of, tmp_path):
    codec, clip = codec_of("fsq_50hz"), noise(0.5)
    path = audio.save(clip, tmp_path / "noise.wav")
    wanted = compress(clip, codec, lm=None)
    for sound in (clip.samples, clip.samples[0], torch.from_numpy(clip.samples).requires_grad_()):
        assert compress(sound, codec, lm=None, sample_rate_hz=24_000) == wanted
        assert codec.encode(sound, sample_rate_hz=24_000) == codec.encode(clip)
        with pytest.raises(UnsupportedInput, match=r"sample_rate_hz=.*clip_from_array"):
            compress(sound, codec)
        with pytest.raises(UnsupportedInput, match="clip_from_array"):
            codec.encode(sound)
    assert (
        compress(path, codec, lm=None)
        == compress(str(path), codec, lm=None)
        == compress(audio.load(path), codec, lm=None)
    )
    stereo = audio.save(noise(0.5, 44_100, channels=2), tmp_path / "stereo.wav")
    assert codec.encode(stereo) == codec.encode(audio.convert(audio.load(stereo), 24_000, 1))
    for call in (
        lambda sound: compress(sound, codec, sample_rate_hz=8000),
        lambda sound: codec.encode(sound, sample_rate_hz=8000),
    ):
        with pytest.raises(UnsupportedInput, match="sample_rate_hz=8000 was given for a recording at 24000 Hz"):
            call(clip)
        with pytest.raises(UnsupportedInput, match="not dict"):
            call({})
    with pytest.raises(UnsupportedInput, match="clip_from_array"):
        codec.encode(clip.samples)


def test_who_encodes_for_no_decoder_is_told():
    with pytest.warns(CodecbookWarning, match="units_25hz has no decoder"):
        data = compress(noise(0.5, 16_000), "units_25hz", lm=None)
    assert inspect(data).header.format.codec == "units_25hz"


@pytest.mark.parametrize("spelling", ["{}/a.wav", "{}/../in/a.wav", "{}/link.wav"])
def test_a_recording_is_never_replaced_by_its_stream(spelling, codec_of, tmp_path):
    folder = tmp_path / "in"
    source = audio.save(noise(0.5), folder / "a.wav")
    (folder / "link.wav").symlink_to(source)
    content = source.read_bytes()
    stream = source.rename(folder / "a")  # a name that says nothing
    (folder / "link").symlink_to(stream)
    for target in (stream, folder / "link", Path(spelling.format(folder).removesuffix(".wav"))):
        with pytest.raises(CodecbookError, match="is the file that is read"):
            compress_file(stream, target, codec_of("fsq_50hz"), None, lm=None, overwrite=True)
    assert stream.read_bytes() == content


def test_a_stream_is_never_replaced_by_its_audio(codec_of, tmp_path):
    codec = codec_of("fsq_50hz")
    stream = tmp_path / "a.wav"
    stream.write_bytes(compress(noise(0.5), codec, None, lm=None))
    content = stream.read_bytes()
    with pytest.raises(CodecbookError, match="is the file that is read"):
        decompress_file(stream, stream, codec=codec, overwrite=True)
    assert stream.read_bytes() == content


@pytest.mark.parametrize("name", ["a.wav", "a.FLAC", "a.mp3"])
def test_a_stream_does_not_take_the_name_of_audio(name, codec_of, tmp_path):
    source = audio.save(noise(0.5), tmp_path / "in.wav")
    with pytest.raises(UnsupportedInput, match=r"is; name it a\.cbs"):
        compress_file(source, tmp_path / name, codec_of("fsq_50hz"), None, lm=None)
    with pytest.raises(UnsupportedInput, match="choose one of"):
        decompress_file(source, tmp_path / "a.cbs", codec=codec_of("fsq_50hz"))


def test_a_disk_that_is_full_is_found_before_anything_is_read(codec_of, tmp_path, room):
    codec, gone = codec_of("fsq_50hz"), tmp_path / "gone"
    for work in (
        lambda: compress_file(gone, tmp_path / "a.cbs", codec, None, lm=None),
        lambda: decompress_file(gone, tmp_path / "a.wav", codec=codec),
    ):
        with room(0), pytest.raises(OSError, match="File too large"):
            work()
    assert not list(tmp_path.iterdir())


def test_damaged_raw_codes_are_heard_where_that_is_asked_for(codec_of):
    codec = codec_of("encodec_24khz")
    data = bytearray(compress(noise(4.0), codec, lm=None, segment_s=1.0))
    start, end, _ = inspect(bytes(data)).segments[2]
    whole = decompress(bytes(data), codec=codec).clip.samples
    data[(start + end) // 2] ^= 1
    plain, heard = (decompress(bytes(data), codec=codec, salvage=salvage) for salvage in (False, True))
    assert [len(read.damage) for read in (plain, heard)] == [1, 1]
    errors = [float(np.square(read.clip.samples - whole).sum()) for read in (plain, heard)]
    assert 0 < errors[1] < 0.2 * errors[0]
