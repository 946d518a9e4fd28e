"""Measures that were learned from data: voice, words, pitch, and opinions of listeners.

An optional extra, ``pip install 'codecbook[measures]'``: packages whose wheels hold their weights, so that nothing is
fetched at run time. Each is imported at its first use; where it is absent, the error names the extra.

Conventions, as of `codecbook.measure.quality`: a pair is compared as it is, and a difference of up to a frame is cut.
Channels are averaged. All work at 16 kHz, to which soxr resamples, but ViSQOL of anything but speech, at 48 kHz. A clip
below 16 kHz holds less than they were trained on, and has no value. Undefined is NaN, with the reason in a note. All
but ViSQOL are of speech, and have no value for a clip whose domain is music. The same clips give the same values: what
draws random numbers is given a seed, and what adapts to what it has heard starts anew.

======================  ==============  ===================================================================
measure                 package         columns
======================  ==============  ===================================================================
``speaker``             resemblyzer     ``speaker_similarity``
``words``               pocketsphinx    ``word_error_rate``
``pitch``               swift-f0        ``f0_error_cents``, ``f0_gross_share``, ``voicing_error_share``,
                                        ``f0_correlation``
``visqol``              visqol-python   ``visqol_mos``
``plcmos``              speechmos       ``plcmos_mos``
``dnsmos``              speechmos       ``dnsmos_mos``
======================  ==============  ===================================================================
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.audio import Clip, clip_from_array, convert, rms
from codecbook.errors import UnsupportedInput
from codecbook.measure.quality import check_pair

RATE_HZ = 16_000
_VISQOL_AUDIO_RATE_HZ = 48_000
_GROSS_RATIO = 1.2
_RATERS = 15

_Values = dict[str, float] | str
# float32 [S] at 16 kHz twice, neither of them silent, and the pair as clips of one channel, to values or a reason
_Measure = Callable[[np.ndarray, np.ndarray, tuple[Clip, Clip]], _Values]
_MEASURES: dict[str, tuple[str, tuple[str, ...], _Measure]] = {}


def _measure(name: str, package: str, *columns: str) -> Callable[[_Measure], _Measure]:
    def keep(function: _Measure) -> _Measure:
        _MEASURES[name] = package, columns, function
        return function

    return keep


def installed(measure: str) -> bool:
    """Say whether the package of a measure is installed."""
    return find_spec(_known(measure)[0]) is not None


def columns(measures: Sequence[str]) -> list[str]:
    """Return the names of all values of some measures."""
    return [column for name in measures for column in _known(name)[1]]


def evaluate(reference: Clip, estimate: Clip, measures: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """Take some of `MEASURES` of a decoded clip against its original, at the same rate.

    Returns:
        Each column's value, NaN where it is undefined; and why, for those.

    Raises:
        UnsupportedInput: An unknown measure, one whose package is absent, or as `check_pair`.
        CorruptInput: As `check_pair`.
    """
    for name in measures:
        package = _known(name)[0]
        if not installed(name):
            raise UnsupportedInput(f"{name} needs {package}; run pip install 'codecbook[measures]', or leave it out.")
    rate_hz, domain = reference.sample_rate_hz, reference.domain
    pair = [clip_from_array(part.mean(axis=0), rate_hz, domain=domain) for part in check_pair(reference, estimate)]
    at_16khz = [convert(clip, RATE_HZ).samples[0] for clip in pair]
    values, notes = {}, []
    for name in measures:
        _, names, take = _known(name)
        found = _why_not(name, pair[0], pair[1]) or take(at_16khz[0], at_16khz[1], (pair[0], pair[1]))
        if isinstance(found, str):
            notes.append(f"{name}: {found}")
            found = {}
        values |= dict.fromkeys(names, np.nan) | found
    return values, notes


def stand_ins(clip: Clip, other: Clip, seed: int = 0) -> dict[str, Clip]:
    """Return what each measure must tell from a clip: ``other`` speaker, pieces of 0.3 s ``shuffled``, all played 6 %
    ``faster``, white ``noise`` 5 dB below it, and 20 % ``lost`` in gaps of 200 ms.

    `other` has the same rate and channels; each is as long as the clip, and zero where there is nothing.
    """
    rate_hz, random = clip.sample_rate_hz, np.random.default_rng(seed)
    pieces = np.array_split(clip.samples, max(2, round(clip.duration_s / 0.3)), axis=1)
    order = random.permutation(len(pieces))
    noise = random.standard_normal(clip.samples.shape) * rms(clip) * 10 ** (-5 / 20)
    places = -(-clip.num_samples // (rate_hz // 5))
    bursts = np.repeat(random.permutation(places) < max(1, round(0.2 * places)), rate_hz // 5)[: clip.num_samples]
    made = {
        "other": other.samples,
        "shuffled": np.concatenate([pieces[i] for i in order], axis=1),
        "faster": convert(replace(clip, sample_rate_hz=round(1.06 * rate_hz)), rate_hz).samples,
        "noise": (clip.samples + noise).astype(np.float32),
        "lost": np.where(bursts, np.float32(0), clip.samples),
    }
    room = ((0, 0), (0, clip.num_samples))
    return {name: replace(clip, samples=np.pad(part, room)[:, : clip.num_samples]) for name, part in made.items()}


def _known(measure: str) -> tuple[str, tuple[str, ...], _Measure]:
    if measure not in _MEASURES:
        raise UnsupportedInput(f"There is no learned measure {measure!r}; choose from {', '.join(_MEASURES)}.")
    return _MEASURES[measure]


def _why_not(measure: str, reference: Clip, estimate: Clip) -> str:
    """Return why a measure is undefined for a pair, whatever its model would say; empty where it is not."""
    if reference.domain == "music" and measure != "visqol":
        return "of music it says nothing"
    if reference.sample_rate_hz < RATE_HZ:
        return f"{reference.sample_rate_hz} Hz is below the {RATE_HZ} Hz that it was trained at"
    for role, clip in (("reference", reference), ("estimate", estimate)):
        if clip.peak < 1e-4 and not (measure == "words" and role == "estimate"):
            return f"the {role} is silent"
    return ""


@_measure("speaker", "resemblyzer", "speaker_similarity")
def _speaker(reference: np.ndarray, estimate: np.ndarray, pair: tuple[Clip, Clip]) -> _Values:
    """Cosine of two `speaker_embedding`; 0 to 1, as no component of these is negative."""
    if len(reference) < 1.6 * RATE_HZ:
        return f"{len(reference) / RATE_HZ:.2g} s are shorter than its window of 1.6 s"
    return {"speaker_similarity": float(np.dot(speaker_embedding(reference), speaker_embedding(estimate)))}


def speaker_embedding(samples: np.ndarray) -> np.ndarray:
    """Return what a network that tells speakers apart makes of a voice: float32 ``[256]`` of unit length.

    The mean over windows of 1.6 s, half overlapping, of the last state of three LSTM layers on 40 mel bands. Two things
    are not as in the package: the level is brought to -30 dBFS, where the package raises it and never lowers it, since
    the network hears a change of level as one of voice; and of pauses, which the package finds by a detector of voice,
    frames more than 40 dB below the loudest are cut.

    Args:
        samples: float32 ``[S]`` at 16 kHz, 1.6 s or more, not silent.

    Source: Wan et al., Generalized end-to-end loss for speaker verification, ICASSP 2018 (arXiv 1710.10467); package
    resemblyzer 0.1.4, of which only the weights are used: it cannot be imported beside a present setuptools.
    """
    import torch

    lstm, linear, bank = _speaker_network()
    gain = 10 ** (-30 / 20) / np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    spectrum = torch.stft(
        torch.from_numpy(samples * np.float32(gain)), n_fft=400, hop_length=160, window=torch.hann_window(400),
        center=True, pad_mode="constant", return_complex=True,
    )  # fmt: skip
    frames = (spectrum.abs().square().T @ bank).float()  # [T, 40]
    level = frames.sum(dim=1)
    frames = frames[level > 1e-4 * level.max()]
    frames = torch.nn.functional.pad(frames, (0, 0, 0, max(0, 160 - len(frames))))
    windows = frames.unfold(0, 160, 77).transpose(1, 2)  # [N, 160, 40]
    with torch.inference_mode():
        _, (hidden, _) = lstm(windows)
        found = torch.nn.functional.normalize(torch.relu(linear(hidden[-1])), dim=1)
    return torch.nn.functional.normalize(found.mean(dim=0), dim=0).numpy()


@cache
def _speaker_network() -> tuple[Any, Any, Any]:
    import torch
    from transformers.audio_utils import mel_filter_bank

    path = Path(_folder("resemblyzer")) / "pretrained.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    parts = {"lstm.": torch.nn.LSTM(40, 256, 3, batch_first=True), "linear.": torch.nn.Linear(256, 256)}
    for prefix, part in parts.items():
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        part.load_state_dict(own)
    bank = mel_filter_bank(201, 40, 0.0, 8000.0, RATE_HZ, norm="slaney", mel_scale="slaney")
    return parts["lstm."].eval(), parts["linear."].eval(), torch.from_numpy(bank).float()


@_measure("words", "pocketsphinx", "word_error_rate")
def _words(reference: np.ndarray, estimate: np.ndarray, pair: tuple[Clip, Clip]) -> _Values:
    """Words that differ from those that the same recogniser hears in the original, over their number; 0, or above 1.

    What the recogniser mishears in the original is not held against the codec. NaN where it hears nothing there.
    """
    from torchmetrics.functional.text import word_error_rate

    heard = transcript(reference)
    if not heard:
        return "no words are recognised in the reference"
    return {"word_error_rate": float(word_error_rate([transcript(estimate)], [heard]))}


def transcript(samples: np.ndarray) -> str:
    """Return the words of US English that pocketsphinx hears in float32 ``[S]`` at 16 kHz, and ``""`` for none.

    Source: Huggins-Daines et al., PocketSphinx, ICASSP 2006; package pocketsphinx 5.1.1 with its own model.
    """
    return _transcript((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


@lru_cache(maxsize=64)  # an original is compared with many decodings
def _transcript(pcm: bytes) -> str:
    decoder = _recogniser()
    decoder.reinit_feat(None)  # else the mean that it subtracts is that of all it has heard before
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr if found else ""


@cache
def _recogniser() -> Any:
    return import_module("pocketsphinx").Decoder(samprate=RATE_HZ, loglevel="FATAL")


@_measure("pitch", "swift_f0", "f0_error_cents", "f0_gross_share", "voicing_error_share", "f0_correlation")
def _pitch(reference: np.ndarray, estimate: np.ndarray, pair: tuple[Clip, Clip]) -> _Values:
    """Pitch errors, in frames of 16 ms.

    ``voicing_error_share``: frames of which one is voiced and the other is not, of all. Of frames in which both are
    (without any, these are NaN): ``f0_gross_share``, those more than 20 % off; ``f0_error_cents``, the root mean square
    of the others; and the correlation of both in Hz.

    Source: Chu and Alwan, Reducing F0 frame error, ICASSP 2009 (voicing decision error, gross pitch error); Nieradzik,
    SwiftF0, 2025 (arXiv 2508.18440), package swift-f0 0.3.0.
    """
    found = [_swift_f0().detect(samples, RATE_HZ) for samples in (reference, estimate)]
    voiced = [result.confidence >= 0.5 for result in found]
    both, values = voiced[0] & voiced[1], {"voicing_error_share": float(np.mean(voiced[0] != voiced[1]))}
    if not voiced[0].any():
        return "no frame of the reference is voiced"
    wanted, received = (result.pitch_hz[both] for result in found)
    if len(wanted) == 0:
        return values
    cents = 1200 * np.log2(received / wanted)
    near = np.abs(cents) <= 1200 * np.log2(_GROSS_RATIO)
    values["f0_gross_share"] = float(np.mean(~near))
    if near.any():
        values["f0_error_cents"] = float(np.sqrt(np.mean(np.square(cents[near]))))
    if len(wanted) > 2 and np.ptp(wanted) > 0 and np.ptp(received) > 0:
        values["f0_correlation"] = float(np.corrcoef(wanted, received)[0, 1])
    return values


@cache
def _swift_f0() -> Any:
    return import_module("swift_f0").SwiftF0(threads=1, spin=False)


@_measure("visqol", "visqol", "visqol_mos")
def _visqol(reference: np.ndarray, estimate: np.ndarray, pair: tuple[Clip, Clip]) -> _Values:
    """ViSQOL as MOS-LQO, 1 to 5: of speech in its speech mode at 16 kHz, of all else in its audio mode at 48 kHz.

    It aligns both in time itself. The speech mode's lattice maps similarity to opinions, as in Google's program.
    Source: Chinen et al., ViSQOL v3, QoMEX 2020 (arXiv 2004.09584); package visqol-python 3.8.0.
    """
    mode = "speech" if pair[0].domain == "speech" else "audio"
    rate_hz = RATE_HZ if mode == "speech" else _VISQOL_AUDIO_RATE_HZ
    wanted, received = (convert(clip, rate_hz).samples[0].astype(np.float64) for clip in pair)
    try:
        return {"visqol_mos": float(_visqol_api(mode).measure_from_arrays(wanted, received, rate_hz).moslqo)}
    except (ValueError, IndexError) as error:  # too short, or too quiet for its own patches
        return " ".join(str(error).split())


@cache
def _visqol_api(mode: str) -> Any:
    logging.getLogger("visqol").setLevel(logging.ERROR)
    api = import_module("visqol").VisqolApi()
    try:
        api.create(mode=mode, use_lattice_model=True if mode == "speech" else None)
    except ImportError as error:
        raise UnsupportedInput(
            f"ViSQOL's {mode} mode needs a further package ({error}); run pip install 'codecbook[measures]'."
        ) from error
    return api


@_measure("plcmos", "speechmos", "plcmos_mos")
def _plcmos(reference: np.ndarray, estimate: np.ndarray, pair: tuple[Clip, Clip]) -> _Values:
    """PLCMOS v2, 1 to 5, of the estimate alone: how listeners rate what packet loss and its concealment left.

    The mean of 15 raters, drawn with a fixed seed. Source: Diener et al., PLCMOS, Interspeech 2023 (arXiv 2305.15127);
    package speechmos 0.0.1.1.
    """
    if len(estimate) < RATE_HZ:
        return f"{len(estimate) / RATE_HZ:.2g} s are shorter than a second"
    model, raters = _plcmos_model(), np.random.default_rng(0).standard_normal((_RATERS, 1, 64)).astype(np.float32)
    features = model.stft_transform(np.clip(estimate, -1, 1).astype(np.float64)).astype(np.float32)[None, None]
    scores = [model.session.run(None, {"degraded_audio": features, "rater_embed": rater})[0] for rater in raters]
    return {"plcmos_mos": float(np.mean(scores))}


@cache
def _plcmos_model() -> Any:
    return import_module("speechmos.plcmos").PLCMOS()


@_measure("dnsmos", "speechmos", "dnsmos_mos")
def _dnsmos(reference: np.ndarray, estimate: np.ndarray, pair: tuple[Clip, Clip]) -> _Values:
    """DNSMOS P.835, overall, 1 to 5, of the estimate alone; made for noise suppressors, and deaf to lost packets.

    Windows of 9.01 s, a second apart, of a clip that is repeated until it fills one. Source: Reddy et al., DNSMOS
    P.835, ICASSP 2022 (arXiv 2110.01763), network and polynomial as in package speechmos 0.0.1.1, whose own module asks
    for librosa.
    """
    window = round(9.01 * RATE_HZ)
    samples = np.tile(np.clip(estimate, -1, 1), -(-window // len(estimate)))
    starts = range(0, len(samples) - window + 1, RATE_HZ)
    raw = [_dnsmos_session().run(None, {"input_1": samples[None, at : at + window]})[0][0][2] for at in starts]
    return {"dnsmos_mos": float(np.mean(np.polyval([-0.06766283, 1.11546468, 0.04602535], raw)))}


@cache
def _dnsmos_session() -> Any:
    import onnxruntime

    path = Path(_folder("speechmos")) / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _folder(package: str) -> str:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedInput(f"{package} is not installed; run pip install 'codecbook[measures]'.")
    return spec.submodule_search_locations[0]


MEASURES = tuple(_MEASURES)
"""Names of all learned measures."""
