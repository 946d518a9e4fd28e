"""A corpus from a folder: each audio once, a broken file named, a kill outlived, and no shard made again in vain."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from codecbook.codecs import load_codec
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.model_files import load_lm
from codecbook.tokens.parquet import read_tokens

ROOT = Path(__file__).resolve().parents[2]
CODEC, RATE_HZ = "fsq_50hz", 16_000
TRAINING = "--steps 2 --context-frames 16 --stride-frames 16 --layers 1 --dim 32 --heads 2 --hidden 32"


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "workflow" / "corpus.py"), str(folder / "in"), *arguments]


def make(folder: Path, *arguments: str, returncode: int = 0) -> str:
    done = subprocess.run(
        command(folder, "--out", str(folder / "out"), *arguments),
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def add(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(size=RATE_HZ) * np.linspace(0.01, 0.1, RATE_HZ)
    soundfile.write(path, (noise * 32767).astype(np.int16), RATE_HZ)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for seed in range(5):
        add(tmp_path / "in" / "a b" / f"{seed}.flac", seed)
    add(tmp_path / "in" / "again.wav", 0)  # the audio of 0.flac in another format, under another name
    (tmp_path / "in" / "broken.flac").write_bytes((tmp_path / "in" / "a b" / "1.flac").read_bytes()[:3000])
    return tmp_path


def manifest(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "manifest.csv", dtype=str, keep_default_na=False).set_index("name")


def kill_when(folder: Path, condition: Callable[[], bool]) -> None:
    """Run the command and end its engine with all jobs by SIGKILL, once the condition holds."""
    with subprocess.Popen(
        command(folder, "--out", str(folder / "out"), "--codec", CODEC, "--shards", "3"), stdout=subprocess.DEVNULL
    ) as run:
        end_s = time.monotonic() + 300
        while not condition():
            assert time.monotonic() < end_s
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(int((folder / "out" / ".lock").read_text()), signal.SIGKILL)
    assert run.returncode == 1


@pytest.mark.slow
def test_a_corpus_is_made_over_shards(recordings: Path) -> None:
    out = recordings / "out"
    kill_when(recordings, lambda: any((out / "work").rglob("*.parquet")))
    assert not (out / "packed").exists()
    said = make(recordings, "--train", TRAINING, "--processes", "2")
    assert "7 recordings: 5 tokenized, " in said

    table = manifest(recordings)
    assert (table.loc["again.wav", ["status", "same_as"]] == ["duplicate", "a b/0.flac"]).all()
    assert table.loc["broken.flac", "status"] == "failed"
    assert "broken.flac" in table.loc["broken.flac", "error"]
    corpus = Corpus.from_files(out / "packed")
    assert sorted(corpus.clips) == [f"a b/{seed}.flac" for seed in range(5)]
    shard = read_tokens(out / "tokens" / f"{table.loc['a b/3.flac', 'shard']}.parquet")
    (expected,) = load_codec(CODEC).encode(recordings / "in" / "a b" / "3.flac").codes
    np.testing.assert_array_equal(shard["a b/3.flac"].codes[0], expected)
    np.testing.assert_array_equal(corpus.clip(corpus.clips.index("a b/3.flac"))[:, 0], expected)
    assert load_lm(out / "model").config["provenance"]["clips"] == 5

    def made() -> dict[str, int]:
        return {path.stem: path.stat().st_mtime_ns for path in (out / "tokens").glob("*.parquet")}

    before = made()
    add(recordings / "in" / "new.flac", 9)
    assert "8 recordings: 6 tokenized, " in make(recordings)
    assert {name for name, time_ns in made().items() if before[name] != time_ns} == {
        manifest(recordings).loc["new.flac", "shard"]
    }
    assert "new.flac" in Corpus.from_files(out / "packed").clips
    assert "--codec encodec_24khz is not what" in make(recordings, "--codec", "encodec_24khz", returncode=2)


@pytest.mark.slow
def test_a_corpus_is_made_on_a_cluster(recordings: Path, slurm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    make(recordings, "--codec", CODEC, "--executor", "cluster-generic")
    assert list(manifest(recordings)["status"]).count("tokenized") == 5
    assert (recordings / "out" / "packed" / "packed.json").is_file()
