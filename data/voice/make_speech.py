r"""Read a text aloud with a neural voice, for the token corpora of this folder: a recording a line, its text beside it.

    pip install hibari-tts==0.2.1
    apt install bible-kjv && bible -f ge1:1-rev22:21 > kjv.txt
    python data/voice/make_speech.py kjv.txt FOLDER --minutes 100
    python -m codecbook.codecs.corpus --out data/voice --codebooks 4 --codec units_25hz --codec fsq_50hz \
        --codec snac_24khz --codec encodec_24khz hibari=FOLDER
    python -m codecbook.tokens.transcripts FOLDER --tokens data/voice/units_25hz.parquet \
        --out data/voice/transcripts.json --licence "public domain" \
        --source "King James Version, 1611, read by hibari-tts 0.2.1, voice heart"

The voice is in the wheel of hibari-tts (Apache-2.0), which is no dependency of the project. Lines are drawn without
replacement; each has its own seed, so that the same versions give the same speech again.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
from hibari import SAMPLE_RATE, Hibari

_SEED = 0
_WORDS = range(6, 41)  # of a line that is read: 2 to 15 s


def lines_of(text: str) -> list[str]:
    """Return the lines that are read, each once, without the references before them."""
    verses = (line.partition(" ")[2].strip() for line in text.splitlines())
    return list(dict.fromkeys(verse for verse in verses if len(verse.split()) in _WORDS))


def main() -> None:
    """Write `NAME.flac` and `NAME.txt` for so many minutes."""
    parser = argparse.ArgumentParser(description="Read a text aloud.")
    parser.add_argument("text", type=Path, help="a verse a line, behind its reference")
    parser.add_argument("out", type=Path, help="folder for the recordings")
    parser.add_argument("--minutes", type=float, default=100.0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines, voice, read_s = lines_of(options.text.read_text(encoding="utf-8")), Hibari(), 0.0
    for number in np.random.default_rng(_SEED).permutation(len(lines)):
        samples = voice(lines[number], seed=int(number))
        stem = options.out / f"kjv_{number:05d}"
        soundfile.write(stem.with_suffix(".flac"), samples, SAMPLE_RATE, subtype="PCM_16")
        stem.with_suffix(".txt").write_text(lines[number] + "\n", encoding="utf-8")
        read_s += len(samples) / SAMPLE_RATE
        if read_s > 60 * options.minutes:
            break
    print(f"{read_s / 60:.1f} minutes in {options.out}")


if __name__ == "__main__":
    main()
