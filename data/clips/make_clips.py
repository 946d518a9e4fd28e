"""Make the clips of this folder, and their catalogue, again.

    python data/clips/make_clips.py [--out FOLDER]

The speech is spoken by flite and espeak-ng from `speech_texts`, the music is rendered by fluidsynth with the
FluidR3 GM soundfont from `music_scores`. The same versions of the tools (the catalogue names them) and of the
packages soundfile, numpy and pyloudnorm give the same bytes again.
"""

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from midi_writer import midi_file
from music_scores import SCORES, Score
from speech_texts import UTTERANCES, Utterance

from codecbook import audio
from codecbook.errors import UnsupportedInput

MUSIC_RATE_HZ = 48000
MUSIC_FADE_S = 0.25
MUSIC_GAIN = 0.4  # of fluidsynth: low enough that its mix stays well below full scale before it is normalised
SPEECH_MARGIN_S = 0.2  # silence kept before and after the words
SILENCE_LEVEL = 10 ** (-60 / 20)
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
DEBIAN_PACKAGE = {"flite": "flite", "espeak-ng": "espeak-ng", "fluidsynth": "fluidsynth"}

FLITE_LICENCE = (
    "Text: MIT, as this project. Voice and synthesiser: flite, copyright Carnegie Mellon University, under its "
    "BSD-like licence (free use, modification and distribution, with attribution)."
)
ESPEAK_LICENCE = (
    "Text: MIT, as this project. Synthesiser: eSpeak NG, a GPL-3.0-or-later program, of which the audio is output, "
    "not a part."
)
FLUID_LICENCE = (
    "Score: MIT, as this project. Samples: FluidR3 GM soundfont, copyright 2000-2002, 2008 Frank Wen, MIT. "
    "Renderer: FluidSynth, an LGPL-2.1-or-later program, of which the audio is output, not a part."
)


def require_tools() -> None:
    """Say which Debian packages are missing, if any are.

    Raises:
        UnsupportedInput: A program, or the soundfont, is not installed.
    """
    missing = [package for program, package in DEBIAN_PACKAGE.items() if shutil.which(program) is None]
    if not SOUNDFONT.is_file():
        missing.append("fluid-soundfont-gm")
    if missing:
        raise UnsupportedInput(
            f"The clips cannot be made here: {', '.join(missing)} not found. On Debian: apt-get install "
            f"{' '.join(missing)}."
        )


def tool_versions() -> dict[str, str]:
    """Return what each tool calls its version, and the soundfont's digest."""
    return {
        "flite": _version_line(["flite", "--version"], "version:").split()[1],
        "espeak-ng": _version_line(["espeak-ng", "--version"], "text-to-speech:").split()[3],
        "fluidsynth": _version_line(["fluidsynth", "--version"], "executable version").split()[-1],
        "FluidR3_GM.sf2": "sha256 " + hashlib.sha256(SOUNDFONT.read_bytes()).hexdigest(),
        "libsndfile": soundfile.__libsndfile_version__,
    }


def _version_line(command: list[str], marker: str) -> str:
    # flite prints its version and exits with 1
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(line for line in (shown.stdout + shown.stderr).splitlines() if marker in line)


def speak(utterance: Utterance, folder: Path) -> audio.Clip:
    """Return an utterance as its tool speaks it, mono, at the voice's own rate."""
    wav = folder / f"{utterance.name}.wav"
    subprocess.run(speech_command(utterance, str(wav)), check=True, capture_output=True)
    clip = audio.load(wav)
    loud = np.flatnonzero(np.abs(clip.samples[0]) > SILENCE_LEVEL)
    margin = round(SPEECH_MARGIN_S * clip.sample_rate_hz)
    spoken = clip.samples[:, max(0, loud[0] - margin) : loud[-1] + margin]
    return audio.clip_from_array(spoken, clip.sample_rate_hz, utterance.name, "speech")


def speech_command(utterance: Utterance, wav: str) -> list[str]:
    """Return the command line that speaks an utterance into a file."""
    if utterance.tool == "flite":
        return ["flite", *utterance.options, "-voice", utterance.voice, "-t", utterance.text, "-o", wav]
    return ["espeak-ng", *utterance.options, "-v", utterance.voice, "-w", wav, utterance.text]


def render(score: Score, folder: Path) -> audio.Clip:
    """Return a score as fluidsynth plays it: stereo, 48 kHz, faded out at its end."""
    midi, wav = folder / f"{score.name}.mid", folder / f"{score.name}.wav"
    beats = Fraction(score.duration_s + 1) * Fraction(score.tempo_bpm) / 60  # a second more than is kept
    midi.write_bytes(midi_file(score.parts, score.tempo_bpm, beats))
    subprocess.run(music_command(str(midi), str(wav)), check=True, capture_output=True)
    samples = audio.load(wav).samples[:, : round(score.duration_s * MUSIC_RATE_HZ)].copy()
    fade = round(MUSIC_FADE_S * MUSIC_RATE_HZ)
    samples[:, -fade:] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    return audio.clip_from_array(samples, MUSIC_RATE_HZ, score.name, "music")


def music_command(midi: str, wav: str) -> list[str]:
    """Return the command line that renders a MIDI file into a float wav file."""
    rate, gain = str(MUSIC_RATE_HZ), str(MUSIC_GAIN)
    return [
        "fluidsynth",
        "-ni",
        "-q",
        "-r",
        rate,
        "-g",
        gain,
        "-O",
        "float",
        "-T",
        "wav",
        "-F",
        wav,
        str(SOUNDFONT),
        midi,
    ]


def speech_entry(utterance: Utterance) -> dict:
    """Return the catalogue's fields that only speech has."""
    command = speech_command(utterance, "out.wav")
    return {
        "voice": f"{utterance.tool} {utterance.voice}",
        "transcript": utterance.text,
        "licence": FLITE_LICENCE if utterance.tool == "flite" else ESPEAK_LICENCE,
        "how_made": " ".join("TEXT" if word == utterance.text else word for word in command)
        + f"; silence trimmed to {SPEECH_MARGIN_S} s; {utterance.loudness_lufs} LUFS",
    }


def music_entry(score: Score) -> dict:
    """Return the catalogue's fields that only music has."""
    return {
        "instruments": list(dict.fromkeys(part.instrument for part in score.parts)),
        "licence": FLUID_LICENCE,
        "how_made": " ".join(music_command("score.mid", "out.wav"))
        + f"; score {score.name!r} of music_scores.py, {score.tempo_bpm} beats per minute; {score.loudness_lufs} LUFS",
    }


def normalise_loudness(clip: audio.Clip, target_lufs: float, max_peak: float) -> audio.Clip:
    """Scale a clip to a loudness, or as near to it as its peak allows.

    Args:
        clip: A clip that is not silent.
        target_lufs: Loudness to reach, in LUFS.
        max_peak: Largest magnitude allowed in the result; it wins over the target.

    Raises:
        UnsupportedInput: The clip is too quiet to measure.
    """
    measured_lufs = audio.loudness_lufs(clip)
    if not math.isfinite(measured_lufs):
        raise UnsupportedInput(
            f"Clip {clip.name!r} is silent by the standard's gate (peak {clip.peak:.3g}) and has no loudness to scale; "
            "leave it out."
        )
    gain = min(10.0 ** ((target_lufs - measured_lufs) / 20.0), max_peak / clip.peak)
    return replace(clip, samples=(clip.samples * np.float32(gain)).astype(np.float32))


def write_clip(clip: audio.Clip, loudness_lufs: float, own_fields: dict, out: Path) -> dict:
    """Write a clip as FLAC at its loudness, and return its entry of the catalogue."""
    path = audio.save(normalise_loudness(clip, loudness_lufs, max_peak=0.95), out / f"{clip.name}.flac", True)
    return {
        "file": path.name,
        "domain": clip.domain,
        "duration_s": round(clip.duration_s, 4),
        "sample_rate_hz": clip.sample_rate_hz,
        "channels": clip.num_channels,
        **own_fields,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def make_clips(out: Path) -> None:
    """Write all clips and ``catalogue.json`` into a folder."""
    require_tools()
    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        for utterance in UTTERANCES:
            clip = speak(utterance, Path(scratch))
            entries.append(write_clip(clip, utterance.loudness_lufs, speech_entry(utterance), out))
        for score in SCORES:
            clip = render(score, Path(scratch))
            entries.append(write_clip(clip, score.loudness_lufs, music_entry(score), out))
    catalogue = {"made_with": tool_versions(), "clips": entries}
    (out / "catalogue.json").write_text(json.dumps(catalogue, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and make the clips."""
    parser = argparse.ArgumentParser(description="Make the clips and their catalogue again.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    try:
        make_clips(parser.parse_args().out)
    except UnsupportedInput as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
