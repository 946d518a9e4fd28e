"""What is heard where codes are lost."""

from dataclasses import replace

import numpy as np
import pytest

from codecbook.codecs import load_codec
from codecbook.coding import conceal as module
from codecbook.coding import default_lm, infill
from codecbook.coding.conceal import CONCEALMENTS, FADED_S, HELD_S, conceal
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.stepper import kernel_logits

CODECS = ["encodec_24khz", "encodec_48khz", "snac_24khz", "fsq_50hz"]


@pytest.fixture(scope="module", params=CODECS)
def codec(request):
    return load_codec(request.param)


def tokens_of(codec, duration_s=3.0, num_codebooks=None):
    """Codes drawn at random."""
    rng = np.random.default_rng(0)
    count = num_codebooks or codec.num_codebooks_at(codec.default_bandwidth_kbps)
    rows = round(duration_s * codec.frame_rates_hz[0])
    codes = [
        rng.integers(0, size, rows * round(rate_hz / codec.frame_rates_hz[0]))
        for size, rate_hz in zip(codec.codebook_sizes[:count], codec.frame_rates_hz, strict=False)
    ]
    more = {}
    if codec.seams == "segments":
        full = -(-codec.module.segment_length // codec.hop_length)
        frames = (full,) * (rows // full) + ((rows % full,) if rows % full else ())
        more = {"segment_frames": frames, "scales": (0.1,) * len(frames)}
    return codec.token_format(count).tokens(codes, **more)


def nothing_lost(tokens):
    return np.zeros((tokens.num_codebooks, len(tokens.codes[0])), dtype=bool)


def decoded_latents(monkeypatch, codec, tokens, lost, method):
    """What `conceal` gives the decoder, ``[D, T]``, of a codec whose pieces do not overlap."""
    seen = []
    plain = module.Mender.__call__

    def noted(self, latents, first):
        seen.append((first, plain(self, latents, first)))
        return seen[-1][1]

    monkeypatch.setattr(module.Mender, "__call__", noted)
    conceal(codec, tokens, lost, method)
    return np.concatenate([part for _, part in sorted(seen, key=lambda item: item[0])], axis=1)


@pytest.mark.parametrize("method", CONCEALMENTS)
def test_without_loss_the_sound_is_the_codec_s_to_the_bit(codec, method):
    tokens = tokens_of(codec)
    wanted = codec.decode(tokens).samples
    np.testing.assert_array_equal(conceal(codec, tokens, nothing_lost(tokens), method).samples, wanted)


@pytest.mark.parametrize("method", CONCEALMENTS)
def test_lost_codes_have_no_say(codec, method):
    tokens, other = tokens_of(codec), tokens_of(codec)
    lost = nothing_lost(tokens)
    lost[:, 20:23] = lost[-1, 5:9] = True
    if method == "silence":  # what the decoder makes of whole frames is cut, and may be remembered
        lost[0] = False
    many = len(tokens.codes[0])
    changed = [
        np.where(np.repeat(gone, len(level) // many), (level + 7) % size, level)
        for level, gone, size in zip(other.codes, lost, tokens.codebook_sizes, strict=True)
    ]
    one, two = (conceal(codec, t, lost, method).samples for t in (tokens, replace(other, codes=tuple(changed))))
    np.testing.assert_array_equal(one, two)


def test_interpolated_latents_lie_on_the_line_between_the_ends(monkeypatch):
    codec = load_codec("encodec_24khz")
    tokens = tokens_of(codec, num_codebooks=8)
    lost = nothing_lost(tokens)
    lost[:, 100:109] = True  # over a border of two pieces
    wanted = codec.latents(tokens.codes)
    latents = decoded_latents(monkeypatch, codec, tokens, lost, "interpolate")
    step = (wanted[:, 109] - wanted[:, 99]) / 10
    for n in range(11):
        np.testing.assert_allclose(latents[:, 99 + n], wanted[:, 99] + n * step, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(np.delete(latents, range(100, 109), 1), np.delete(wanted, range(100, 109), 1))


def test_held_latents_are_those_before_the_gap_and_at_the_beginning_those_after_it(monkeypatch):
    codec = load_codec("fsq_50hz")
    tokens = tokens_of(codec)
    lost = nothing_lost(tokens)
    lost[:, :4] = lost[:, 50:60] = lost[:, -3:] = True
    wanted = codec.latents(tokens.codes)
    latents = decoded_latents(monkeypatch, codec, tokens, lost, "hold")
    for at, source in ((slice(0, 4), 4), (slice(50, 60), 49), (slice(-3, None), -4)):
        np.testing.assert_array_equal(latents[:, at], np.repeat(wanted[:, [source]], latents[:, at].shape[1], 1))


def test_lost_fine_codebooks_are_zero_vectors(monkeypatch):
    codec = load_codec("snac_24khz")
    tokens = tokens_of(codec)
    lost = nothing_lost(tokens)
    lost[1, 10] = True  # and with it the third, which is there
    latents = decoded_latents(monkeypatch, codec, tokens, lost, "interpolate")
    np.testing.assert_allclose(latents[:, 40:44], codec.latents(tokens.codes[:1])[:, 40:44], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(latents[:, 44:], codec.latents(tokens.codes)[:, 44:])


@pytest.mark.parametrize("method", CONCEALMENTS)
def test_all_is_lost(codec, method):
    tokens = tokens_of(codec)
    assert not conceal(codec, tokens, ~nothing_lost(tokens), method).samples.any()


def test_long_gaps_fade_to_silence_and_short_ones_do_not():
    codec = load_codec("fsq_50hz")
    tokens = tokens_of(codec, 6.0)
    lost = nothing_lost(tokens)
    lost[:, 100:200] = True
    hop, rate = codec.hop_length, codec.sample_rate_hz
    samples = conceal(codec, tokens, lost).samples[0]
    held, faded = (100 * hop + round(s * rate) for s in (HELD_S, HELD_S + FADED_S))
    assert samples[100 * hop : held].any()
    assert not samples[faded : 200 * hop - (faded - 100 * hop)].any()
    assert samples[200 * hop - (held - 100 * hop) :].any()
    # what stands before the fade does not depend on where the gap ends
    lost[:, 190:200] = False
    np.testing.assert_array_equal(conceal(codec, tokens, lost).samples[0, :held], samples[:held])


def test_scales_of_lost_segments_lie_between_their_neighbours():
    codec = load_codec("encodec_48khz")
    tokens = tokens_of(codec)
    frames = tokens.segment_frames
    tokens = replace(tokens, scales=(0.01, *[0.0] * (len(frames) - 2), 0.04))
    there = np.zeros(sum(frames), dtype=bool)
    there[: frames[0]] = there[-frames[-1] :] = True
    scales = module._with_scales(tokens, there).scales
    np.testing.assert_allclose(scales, np.geomspace(0.01, 0.04, len(frames)))
    assert module._with_scales(tokens, ~there | there) is tokens


def test_pitch_goes_on_through_a_short_gap():
    rate = 24_000
    wave = sum(np.sin(2 * np.pi * 125 * n * np.arange(rate) / rate) / n for n in range(1, 9)).astype(np.float32)[None]
    a, b = 12_000, 12_960
    filled = infill.repeat_pitch(wave[:, :a], wave[:, b:], b - a, rate)
    np.testing.assert_allclose(filled, wave[:, a:b], atol=0.02, rtol=0)
    assert infill.repeat_pitch(wave[:, :9], wave[:, :9], 7, rate).shape == (1, 7)
    one_sided = infill.repeat_pitch(wave[:, :a], wave[:, :9], b - a, rate)
    np.testing.assert_allclose(one_sided, wave[:, a:b], atol=0.02, rtol=0)


def test_mix_is_pitch_in_short_gaps_and_the_line_in_others():
    codec = load_codec("encodec_24khz")
    tokens = tokens_of(codec)
    for frames, same in ((3, "pitch"), (4, "interpolate")):
        lost = nothing_lost(tokens)
        lost[:, 50 : 50 + frames] = True
        sounds = {m: conceal(codec, tokens, lost, m).samples for m in ("mix", "pitch", "interpolate")}
        np.testing.assert_array_equal(sounds["mix"], sounds[same])
        assert not np.array_equal(sounds["pitch"], sounds["interpolate"])


def test_draws_depend_on_the_seed_alone_and_never_on_what_is_lost():
    codec = load_codec("encodec_24khz")
    model, tokens = default_lm(codec).model, tokens_of(codec)
    rows = np.stack(tokens.codes, axis=1)
    known = np.ones(len(rows), dtype=bool)
    known[60:64] = False
    samples, bits = infill.draw_rows(model, rows, known, (60, 64), samples=4)
    assert samples.shape == (4, 4, 8)
    assert len(set(bits)) > 1
    rows[60:64] = 0
    rows[60 - infill.CONTEXT_ROWS - 1] = 0  # further back than is read
    again, same_bits = infill.draw_rows(model, rows, known, (60, 64), samples=4)
    np.testing.assert_array_equal(again, samples)
    np.testing.assert_array_equal(same_bits, bits)
    other, _ = infill.draw_rows(model, rows, known, (60, 64), samples=4, seed=1)
    assert not np.array_equal(other, samples)


def test_the_bits_of_what_follows_are_the_model_s():
    codec = load_codec("encodec_24khz")
    model = default_lm(codec).model
    rows = np.stack(tokens_of(codec, 0.5).codes, axis=1)
    known = np.ones(len(rows), dtype=bool)
    known[20:22] = False
    samples, bits = infill.draw_rows(model, rows, known, (20, 22), samples=2)
    for sample, found in zip(samples, bits, strict=True):
        whole = np.concatenate((rows[:20], sample, rows[22 : 22 + infill.AHEAD_ROWS]))
        z = kernel_logits(model, whole)[22:] / 256
        wanted = np.log2(np.exp2(z).sum(axis=2)) - np.take_along_axis(z, whole[22:, :, None], 2)[..., 0]
        assert found == pytest.approx(wanted.sum(), rel=1e-9)


def test_a_language_model_of_other_codes_is_refused():
    codec = load_codec("encodec_24khz")
    tokens = tokens_of(codec, num_codebooks=4)
    lost = nothing_lost(tokens)
    lost[:, 9] = True
    with pytest.raises(UnsupportedInput, match="language model codes"):
        conceal(codec, tokens, lost, "lm")


def test_what_cannot_be_concealed():
    codec = load_codec("fsq_50hz")
    tokens = tokens_of(codec, 1.0)
    with pytest.raises(UnsupportedInput, match="choose from silence, hold"):
        conceal(codec, tokens, nothing_lost(tokens), "lineal")
    for lost in (np.zeros((1, 3), dtype=bool), nothing_lost(tokens).astype(int), nothing_lost(tokens)[0]):
        with pytest.raises(UnsupportedInput, match=r"bool \[1, 50\]"):
            conceal(codec, tokens, lost)
