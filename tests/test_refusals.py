"""Mistyped and impossible command lines: one line that names condition, value and remedy, status 2, nothing written."""

import importlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codecbook.tokens import tokens_from_frames
from codecbook.tokens.npq import write_npq

MODULES = {
    "codecs": "codecbook.codecs.__main__",
    "train": "codecbook.codecs.training.__main__",
    "corpus": "codecbook.codecs.corpus.__main__",
    "coding": "codecbook.coding.__main__",
    "lm": "codecbook.lm.__main__",
    "determinism": "codecbook.probes.determinism.__main__",
}

Row = tuple[str, tuple[str, ...]]

# where an error says it in a word of the language
NOUNS = {"--bandwidth": "bandwidth", "--hold-out-every": "held out leaves none", "--start": "from", "--end": "to"}


def each(command: str, option: str, *values: str) -> list[Row]:
    """Return a row for each value of an option: what is said names the value, and of numbers what they are of."""
    noun = NOUNS.get(option, option)
    return [
        (f"{command} {option} {shlex.quote(value)}", (value, noun) if is_number(value) else (value,))
        for value in values
    ]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


NUMBERS = ("-1", "0", "1.5", "six", "nan", "1e999")
AMOUNTS = ("-1", "0", "six", "nan", "inf")

EXPORT = "codecs export speech.wav --codec snac_24khz --outdir out"
TO_WAV = "codecs to-wav speech.npq --codec fsq_50hz --out out.wav"
TRAIN = "train --recipe fsq_50hz_mini --data recordings --out out"
CORPUS = "corpus speech=recordings --out corpora --work work"
COMPRESS = "coding compress speech.wav out.cbs"
DECOMPRESS = "coding decompress speech.cbs out.wav"
LM = "lm train tokens --out out --device cpu"
CASE = "determinism export out.zip --codec fsq_50hz"

ROWS: list[Row] = [
    # no command, no such command, no such option
    *((name, ("required",)) for name in MODULES),
    *((f"{line} --colour", ("--colour",)) for line in ("codecs list", "train", "corpus", "lm train tokens")),
    *((f"{line} --colour", ("--colour",)) for line in ("coding inspect", "determinism run")),
    *((f"{name} frobnicate", ("frobnicate",)) for name in ("codecs", "coding", "lm", "determinism")),
    ("codecs exprot speech.wav", ("exprot", "export")),
    ("coding compres speech.wav out.cbs", ("compres", "compress")),
    ("lm trian tokens --out out", ("trian", "train")),
    ("determinism imprt result.json", ("imprt", "import")),
    # codecs
    ("codecs export", ("inputs", "required")),
    ("codecs export speech.wav --outdir out", ("--codec", "required")),
    ("codecs export speech.wav --codec snac_24khz", ("--outdir", "required")),
    ("codecs export speech.wav --codec snac24 --outdir out", ("snac24", "snac_24khz")),
    (f"{EXPORT} --bandwith 6", ("--bandwith", "--bandwidth")),
    (f"{EXPORT} --codebooks 2 --bandwidth 6", ("--codebooks", "--bandwidth")),
    *each(EXPORT, "--codebooks", "-1", "0", "4", "1.5", "six", "True"),
    *each(EXPORT, "--bandwidth", "-1", "0", "7", "six", "nan"),
    *each(EXPORT, "--chunk-seconds", *AMOUNTS),
    *each(EXPORT, "--format", "csv", "NPQ"),
    *each(EXPORT, "--device", "foo", "cuda:99", ""),
    *each(EXPORT, "--weights", "nowhere", "random:", "random:x", "bundeld"),
    ("codecs export missing.wav --codec snac_24khz --outdir out", ("missing.wav",)),
    ("codecs export 'missing/**.wav' --codec snac_24khz --outdir out", ("missing/**.wav",)),
    ("codecs export '' --codec snac_24khz --outdir out", ("empty",)),
    ("codecs export empty_folder --codec snac_24khz --outdir out", ("empty_folder",)),
    ("codecs export speech.wav --codec snac_24khz --outdir notes.txt", ("notes.txt",)),
    ("codecs export speech.wav --codec snac_24khz --outdir notes.txt/out", ("notes.txt",)),
    ("codecs to-wav speech.npq", ("--out", "required")),
    ("codecs to-wav missing.npq --out out.wav", ("missing.npq",)),
    ("codecs to-wav recordings --out out.wav", ("recordings",)),
    ("codecs to-wav notes.txt --out out.wav", ("notes.txt",)),
    ("codecs to-wav empty.npq --out out.wav", ("empty.npq",)),
    ("codecs to-wav speech.npq --codec fsq_50hz --out out.mid", ("out.mid", "wav")),
    ("codecs to-wav speech.npq --codec fsq_50hz --out speech.wav", ("speech.wav", "--overwrite")),
    ("codecs to-wav speech.npq --codec fsq_50hz --out recordings", ("recordings",)),
    ("codecs to-wav speech.npq --codec mimy --out out.wav", ("mimy", "mimi")),
    *each(TO_WAV, "--codebooks", "-1", "0", "9", "six"),
    *each(TO_WAV, "--device", "foo"),
    *each(TO_WAV, "--weights", "nowhere"),
    (f"{TO_WAV} --clip other", ("other",)),
    ("codecs inspect", ("file", "required")),
    ("codecs inspect missing.npq", ("missing.npq",)),
    ("codecs inspect speech.wav", ("speech.wav",)),
    ("codecs inspect empty_folder", ("empty_folder",)),
    ("codecs inspect empty.npq", ("empty.npq",)),
    ("codecs list extra", ("extra",)),
    # codecs.train
    ("train --data recordings --out out --steps 1", ("--recipe", "required")),
    ("train --recipe encodec --data recordings --out out --steps 1", ("encodec", "encodec_24khz_mini")),
    ("train --recipe fsq_50hz_mini --out out --steps 1", ("--data", "required")),
    (TRAIN, ("--minutes", "--steps", "required")),
    (f"{TRAIN} --steps 1 --minutes 1", ("--minutes", "--steps")),
    *each(TRAIN, "--steps", *NUMBERS),
    *each(TRAIN, "--minutes", *AMOUNTS),
    *each(f"{TRAIN} --steps 1", "--threads", "-1", "two", "1.5"),
    *each(f"{TRAIN} --steps 1", "--device", "foo", "cuda:99"),
    *each(f"{TRAIN} --steps 1", "--hold-out-every", "-1", "1", "x"),
    *each(f"{TRAIN} --steps 1", "--speaker", "(", "[a"),
    *each(f"{TRAIN} --steps 1", "--start-from", "nowhere", "notes.txt", "other"),
    ("train --recipe fsq_50hz_mini --data missing --out out --steps 1", ("missing",)),
    ("train --recipe fsq_50hz_mini --data empty_folder --out out --steps 1", ("empty_folder",)),
    ("train --recipe fsq_50hz_mini --data recordings=x --out out --steps 1", ("recordings=x",)),
    ("train --recipe fsq_50hz_mini --data recordings=-1 --out out --steps 1", ("-1",)),
    ("train --recipe fsq_50hz_mini --data recordings --out notes.txt --steps 1", ("notes.txt",)),
    # codecs.corpus
    ("corpus --out out", ("NAME=FOLDER", "required")),
    ("corpus speech=recordings", ("--out", "required")),
    ("corpus recordings --out corpora --work work", ("recordings", "NAME=FOLDER")),
    ("corpus =recordings --out corpora --work work", ("=recordings",)),
    ("corpus speech=missing --out corpora --work work", ("missing",)),
    ("corpus speech=empty_folder --out corpora --work work", ("empty_folder",)),
    ("corpus speech=recordings speech=tokens --out corpora --work work", ("speech=tokens", "twice")),
    ("corpus music=recordings --out corpora --work work", ("music", "sources.json")),
    ("corpus speech=recordings --out out --work work", ("out/sources.json",)),
    ("corpus speech=recordings --out notes.txt --work work", ("notes.txt",)),
    *each(CORPUS, "--codec", "mimy", "all"),
    *each(f"{CORPUS} --codec fsq_50hz", "--weights", "nowhere", "notes.txt"),
    # coding
    ("coding compress", ("source", "required")),
    ("coding compress speech.wav", ("target", "required")),
    ("coding compress missing.wav out.cbs", ("missing.wav",)),
    ("coding compress recordings out.cbs", ("recordings",)),
    ("coding compress notes.txt out.cbs", ("notes.txt",)),
    ("coding compress empty.wav out.cbs", ("empty.wav",)),
    ("coding compress speech.wav speech.cbs", ("speech.cbs", "--overwrite")),
    ("coding compress speech.wav speech.wav --overwrite", ("speech.wav",)),
    ("coding compress speech.wav ./recordings/../speech.wav --overwrite", ("speech.wav",)),
    ("coding compress speech.wav out.flac", ("out.flac", ".cbs")),
    ("coding compress speech.wav notes.txt/out.cbs", ("notes.txt",)),
    ("coding compress speech.wav recordings --overwrite", ("recordings",)),
    *each(COMPRESS, "--codec", "mimy", "", "snac"),
    *each(COMPRESS, "--bandwidth", "-1", "0", "7", "six", "nan"),
    *each(COMPRESS, "--segment-seconds", "-1", "0", "nan", "x"),
    *each(COMPRESS, "--weights", "nowhere", "random:", "random:x", "bundeld"),
    *each(COMPRESS, "--lm", "nowhere", "notes.txt", "other"),
    ("coding decompress missing.cbs out.wav", ("missing.cbs",)),
    ("coding decompress speech.wav out.wav", ("speech.wav",)),
    ("coding decompress notes.txt out.wav", ("notes.txt",)),
    ("coding decompress speech.cbs speech.cbs --overwrite", ("speech.cbs",)),
    ("coding decompress speech.cbs speech.wav", ("speech.wav", "--overwrite")),
    ("coding decompress speech.cbs out.mid", ("out.mid", "wav")),
    ("coding decompress speech.cbs out", ("out", "wav")),
    *each(DECOMPRESS, "--start", "-1", "nan", "99", "x", "inf"),
    *each(DECOMPRESS, "--end", "-1", "0", "nan", "x"),
    (f"{DECOMPRESS} --start 0.5 --end 0.25", ("0.5", "0.25", "after")),
    *each(DECOMPRESS, "--weights", "nowhere", "random:x"),
    ("coding inspect", ("source", "required")),
    ("coding inspect missing.cbs", ("missing.cbs",)),
    ("coding inspect speech.wav", ("speech.wav",)),
    ("coding inspect recordings", ("recordings",)),
    ("coding inspect empty.npq", ("empty.npq",)),
    ("coding verify missing.cbs", ("missing.cbs",)),
    ("coding verify notes.txt", ("notes.txt",)),
    ("coding convert speech.cbs out.wav", ("out.wav", ".ecdc")),
    ("coding convert missing.cbs out.ecdc", ("missing.cbs",)),
    ("coding convert speech.cbs speech.cbs --overwrite", ("speech.cbs",)),
    *each("coding convert speech.cbs out.ecdc", "--acv", "2", "x"),
    *each("coding convert speech.cbs out.ecdc --acv 4", "--dialect", "qstep7"),
    # lm
    ("lm train --out out", ("tokens", "required")),
    ("lm train tokens", ("--out", "required")),
    *each(f"{LM}", "--steps", *NUMBERS),
    *each(f"{LM}", "--minutes", *AMOUNTS),
    *each(f"{LM} --steps 1", "--threads", "-1", "two"),
    *each("lm train tokens --out out --steps 1", "--device", "foo", "cuda:99", ""),
    *each(f"{LM} --steps 1", "--order", "diagonal"),
    *each(f"{LM} --steps 1", "--architecture", "lstm"),
    *each(f"{LM} --steps 1", "--codebooks", "-1", "0", "9", "x"),
    *each(f"{LM} --steps 1", "--held-out-every", "-1", "0", "1", "x"),
    *each(f"{LM} --steps 1", "--layers", "-1", "0", "x"),
    *each(f"{LM} --steps 1", "--dim", "-1", "0", "7", "x"),
    *each(f"{LM} --steps 1", "--heads", "-1", "0", "7", "x"),
    *each(f"{LM} --steps 1", "--batch-size", "-1", "0", "x"),
    *each(f"{LM} --steps 1", "--context-frames", "-1", "0", "x"),
    *each(f"{LM} --steps 1", "--schedule", "sgdr"),
    *each(f"{LM} --steps 1", "--precision", "int8"),
    *each(f"{LM} --steps 1", "--codebook-weights", "odd"),
    (f"{LM} --steps 1 --save other", ("other",)),
    (f"{LM} --steps 1 --save notes.txt", ("notes.txt",)),
    ("lm train tokens --out notes.txt --steps 1 --device cpu", ("notes.txt",)),
    ("lm train missing --out out --steps 1", ("missing",)),
    ("lm train empty_folder --out out --steps 1", ("empty_folder",)),
    ("lm train speech.wav --out out --steps 1", ("speech.wav",)),
    ("lm train notes.txt --out out --steps 1", ("notes.txt",)),
    ("lm train prompts.npz --out out --steps 1", ("prompts.npz",)),
    ("lm inspect missing", ("missing",)),
    ("lm inspect speech.wav", ("speech.wav",)),
    ("lm inspect other", ("other",)),
    ("lm inspect notes.txt", ("notes.txt",)),
    ("lm inspect deep", ("deep",)),
    ("lm inspect empty_folder", ("empty_folder",)),
    ("lm export other tokens --out out", ("other",)),
    ("lm export deep tokens --out out", ("deep",)),
    ("lm export missing tokens --out out", ("missing",)),
    # determinism
    ("determinism export", ("bundle", "required")),
    ("determinism export out.zip --codec mimy", ("mimy", "encodec_24khz")),
    *each(CASE, "--segments", "-1", "0", "x", "1.5"),
    *each(CASE, "--frames", "-1", "0", "x"),
    *each(CASE, "--seed", "x", "1.5"),
    (f"{CASE.replace('out.zip', 'notes.txt')}", ("notes.txt",)),
    ("determinism run bundle.zip", ("--out", "required")),
    ("determinism run missing.zip --out out.json", ("missing.zip",)),
    ("determinism run notes.txt --out out.json", ("notes.txt",)),
    ("determinism run bundle.zip --out out.json", ("bundle.zip",)),
    ("determinism run recordings --out out.json", ("recordings",)),
    ("determinism run bundle.zip --out result.json", ("result.json", "--overwrite")),
    *each("determinism run bundle.zip --out out.json", "--timeout-s", "-1", "0", "nan", "x"),
    ("determinism import missing.json", ("missing.json",)),
    ("determinism import notes.txt", ("notes.txt",)),
    ("determinism import result.json", ("result.json",)),
    ("determinism import deep/config.json", ("config.json",)),
    ("determinism import result.json --bundle missing.zip", ("missing.zip",)),
]

# what only a program can do, or what only a programmer wants to read
FOREIGN_WORDS = re.compile(r"\w=(True|False|None)|npz=|Traceback|object at 0x|<class|overwrite=|num_codebooks|_kbps")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    for name in ("recordings", "tokens", "other", "deep", "empty_folder", "corpora"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for path in ("speech.wav", "recordings/a.wav", "recordings/b.wav", "recordings/c.wav"):
        soundfile.write(folder / path, 0.1 * rng.standard_normal(12_000).astype(np.float32), 24_000)
    for clip in range(3):
        write_npq(folder / f"tokens/{clip}.npq", tokens_from_frames(rng.integers(0, 16, (20, 2)), 16, 75.0))
    source = {"title": "noise", "licence": "CC0", "credit": "nobody", "domain": "speech"}
    (folder / "corpora/sources.json").write_text(json.dumps({"speech": source}))
    (folder / "other/config.json").write_text('{"kind": "something else"}')
    (folder / "deep/config.json").write_text("[" * 100_000 + "]" * 100_000)
    (folder / "result.json").write_text(json.dumps({"cells": 3}))
    (folder / "notes.txt").write_text("no audio, no tokens\n")
    (folder / "empty.wav").touch()
    (folder / "empty.npq").touch()
    np.savez(folder / "prompts.npz", semantic_prompt=np.zeros(3), coarse_prompt=np.zeros((2, 5)))
    with zipfile.ZipFile(folder / "bundle.zip", "w") as bundle:
        bundle.writestr("manifest.json", '{"files": 5}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        export = ["export", "speech.wav", "--codec", "fsq_50hz", "--outdir", "exported"]
        assert importlib.import_module(MODULES["codecs"]).main(export) == 0
        (folder / "exported/speech.npq").rename(folder / "speech.npq")
        for rest in (folder / "exported").iterdir():
            rest.unlink()
        (folder / "exported").rmdir()
        compress = ["compress", "speech.wav", "speech.cbs", "--codec", "fsq_50hz", "--lm", "none"]
        assert importlib.import_module(MODULES["coding"]).main(compress) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def at_the_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = contents(place)
    yield place
    torch.set_flush_denormal(False)  # which training codecs switches on for its process
    after = contents(place)
    assert sorted(after) == sorted(before), "something was written"
    assert after == before, "something was changed"


@pytest.mark.parametrize(("line", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_is_refused_in_one_line(line: str, words: tuple[str, ...], at_the_place: Path, capfd) -> None:
    tool, *arguments = shlex.split(line)
    try:
        status = importlib.import_module(MODULES[tool]).main(arguments)
    except SystemExit as end:
        status = end.code
    said = capfd.readouterr().err
    assert status == 2, said
    assert said.count("\n") == 1, said
    assert said.startswith("codecbook: ")
    for word in words:
        assert word in said, said
    assert not FOREIGN_WORDS.search(said), said


def test_the_table_is_long_and_without_repetitions() -> None:
    assert len(ROWS) >= 200
    assert len({line for line, _ in ROWS}) == len(ROWS)
