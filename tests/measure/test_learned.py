"""Each learned measure tells a clip from what deserves a bad figure; where the extra is not installed, that is said."""

from dataclasses import replace

import numpy as np
import pytest

from codecbook import clips as clip_files
from codecbook.audio import Clip, convert
from codecbook.errors import UnsupportedInput
from codecbook.measure import learned

RATE_HZ = learned.RATE_HZ


def spoken(name: str) -> Clip:
    (entry,) = [entry for entry in clip_files.catalogue() if entry.name == name]
    return convert(clip_files.load_entry(entry), RATE_HZ, 1)


@pytest.fixture(scope="module")
def clip() -> Clip:
    whole = spoken("speech_01_slt")
    return replace(whole, samples=whole.samples[:, : 3 * RATE_HZ])


@pytest.fixture(scope="module")
def bad(clip: Clip) -> dict[str, Clip]:
    return learned.stand_ins(clip, spoken("speech_05_awb"))


def needs(measure: str) -> None:
    if not learned.installed(measure):
        pytest.skip(f"the package of {measure} is not installed; pip install 'codecbook[measures]'")


def take(measure: str, reference: Clip, estimate: Clip) -> dict[str, float]:
    values, notes = learned.evaluate(reference, estimate, [measure])
    assert not notes
    assert list(values) == learned.columns([measure])
    return values


def test_stand_ins_are_as_long_and_not_the_clip(clip: Clip, bad: dict[str, Clip]) -> None:
    assert set(bad) == {"other", "shuffled", "faster", "noise", "lost"}
    for made in bad.values():
        assert made.samples.shape == clip.samples.shape
        assert made.samples.dtype == np.float32
        assert not np.array_equal(made.samples, clip.samples)
    assert np.array_equal(np.sort(bad["shuffled"].samples), np.sort(clip.samples)), "only the order is another"
    lost = np.all(bad["lost"].samples.reshape(-1, RATE_HZ // 5) == 0, axis=1)
    assert 0 < lost.mean() < 0.5


def test_an_absent_package_is_named_with_its_extra(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "installed", lambda measure: False)
    for measure in learned.MEASURES:
        with pytest.raises(UnsupportedInput, match=r"pip install 'codecbook\[measures\]'"):
            learned.evaluate(clip, clip, [measure])
    with pytest.raises(UnsupportedInput, match="There is no learned measure 'ears'; choose from speaker, words"):
        learned.evaluate(clip, clip, ["ears"])


@pytest.mark.parametrize("measure", learned.MEASURES)
def test_what_cannot_be_measured_is_said(measure: str, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "installed", lambda measure: True)
    silent = replace(clip, samples=np.zeros_like(clip.samples))
    slow = convert(clip, 8000)
    music = replace(clip, domain="music")
    cases = [(silent, clip, "the reference is silent"), (slow, slow, "8000 Hz is below the 16000 Hz")]
    if measure != "words":
        cases.append((clip, silent, "the estimate is silent"))
    if measure != "visqol":
        cases.append((music, music, "of music it says nothing"))
    for reference, estimate, reason in cases:
        values, notes = learned.evaluate(reference, estimate, [measure])
        assert all(np.isnan(value) for value in values.values())
        assert len(notes) == 1
        assert notes[0].startswith(f"{measure}: {reason}")


@pytest.mark.parametrize("measure", learned.MEASURES)
def test_a_blip_a_buzz_and_clicks_break_nothing(measure: str, clip: Clip) -> None:
    needs(measure)
    random = np.random.default_rng(0)
    odd = [clip.samples[:, :1], clip.samples[:, :1600], random.standard_normal((1, 4800)) * 0.1, np.eye(1, 32_000)]
    for samples in odd:
        short = Clip(samples.astype(np.float32), RATE_HZ, "odd", "speech")
        values, notes = learned.evaluate(short, short, [measure])
        assert list(values) == learned.columns([measure])
        assert notes or np.isfinite(list(values.values())).any()


def test_stereo_and_other_rates_are_taken(clip: Clip) -> None:
    needs("pitch")
    stereo = convert(convert(clip, 44_100), channels=2)
    assert take("pitch", stereo, stereo)["f0_error_cents"] == 0.0
    with pytest.raises(UnsupportedInput, match="44100 Hz, estimate at 16000 Hz"):
        learned.evaluate(convert(clip, 44_100), clip, ["pitch"])


def test_speaker_similarity_tells_speakers_apart(clip: Clip, bad: dict[str, Clip]) -> None:
    needs("speaker")
    assert take("speaker", clip, clip)["speaker_similarity"] == pytest.approx(1.0, abs=1e-5)
    same = replace(clip, samples=spoken("speech_09_slt").samples[:, : clip.num_samples])
    own, other = (take("speaker", clip, made)["speaker_similarity"] for made in (same, bad["other"]))
    assert own > other + 0.1
    quiet = replace(clip, samples=clip.samples * np.float32(0.01))
    assert take("speaker", clip, quiet)["speaker_similarity"] > 0.999, "level is made equal"


def test_words_that_are_shuffled_are_wrong(clip: Clip, bad: dict[str, Clip]) -> None:
    needs("words")
    assert "ferry" in learned.transcript(clip.samples[0])
    assert take("words", clip, clip)["word_error_rate"] == 0.0
    assert take("words", clip, bad["shuffled"])["word_error_rate"] > 0.6
    silent = replace(clip, samples=np.zeros_like(clip.samples))
    assert take("words", clip, silent)["word_error_rate"] == pytest.approx(1.0, abs=0.2)


def test_a_transcript_does_not_depend_on_what_was_heard_before(clip: Clip, bad: dict[str, Clip]) -> None:
    needs("words")
    pcm, other = ((made.samples[0] * 32767).astype("<i2").tobytes() for made in (clip, bad["other"]))
    hear = learned._transcript.__wrapped__
    before = hear(pcm)
    hear(other)
    assert hear(pcm) == before


def tone(hz: float, seconds: float = 1.0) -> Clip:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = np.sum([np.sin(2 * np.pi * k * hz * time_s) / k for k in range(1, 15)], axis=0)
    return Clip((0.1 * buzz).astype(np.float32)[None], RATE_HZ, "tone", "speech")


def test_pitch_errors_are_those_that_were_made(clip: Clip, bad: dict[str, Clip]) -> None:
    needs("pitch")
    semitone = take("pitch", tone(150), tone(150 * 2 ** (1 / 12)))
    assert semitone["f0_error_cents"] == pytest.approx(100, abs=10)
    assert semitone["f0_gross_share"] < 0.05
    assert take("pitch", tone(150), tone(225))["f0_gross_share"] > 0.9
    half = tone(150, 2.0)
    samples = half.samples.copy()
    samples[:, RATE_HZ:] = 1e-3 * np.random.default_rng(0).standard_normal(RATE_HZ)
    assert take("pitch", half, replace(half, samples=samples))["voicing_error_share"] == pytest.approx(0.5, abs=0.1)
    assert take("pitch", clip, bad["faster"])["f0_correlation"] < 0.9


@pytest.mark.parametrize("domain", ["speech", "music"])
def test_visqol_hears_noise(domain: str, clip: Clip, bad: dict[str, Clip]) -> None:
    needs("visqol")
    reference, noisy = (replace(made, domain=domain) for made in (clip, bad["noise"]))
    clean, worse = (take("visqol", reference, made)["visqol_mos"] for made in (reference, noisy))
    assert clean > 4
    assert worse < clean - 1


def test_plcmos_hears_lost_frames_and_is_repeatable(clip: Clip, bad: dict[str, Clip]) -> None:
    needs("plcmos")
    clean, lossy, again = (take("plcmos", clip, made)["plcmos_mos"] for made in (clip, bad["lost"], bad["lost"]))
    assert lossy < clean - 0.3
    assert again == lossy, "its raters are drawn with a fixed seed"


def test_dnsmos_hears_noise(clip: Clip, bad: dict[str, Clip]) -> None:
    needs("dnsmos")
    clean, noisy = (take("dnsmos", clip, made)["dnsmos_mos"] for made in (clip, bad["noise"]))
    assert noisy < clean - 0.5
