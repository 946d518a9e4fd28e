"""Notebooks on recordings of the reader's own: each comes to its end and leaves its results.

A row of `CASES` is a notebook, a kind of recordings and the parameters that make it small. The code cells are run in
this process, in order, in the folder of the notebooks; what they show is thrown away.
"""

import ast
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import soundfile
import torch

from codecbook.errors import CodecbookError
from codecbook.probes.determinism import cells
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.token_files import write_with_companion

ROOT = Path(__file__).resolve().parents[2]
RATE_HZ = 24_000

pytestmark = [pytest.mark.slow, pytest.mark.notebook]


def voice(seconds: float, pitch_hz: float = 120.0, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    """Return float ``[S, C]``: a buzz with syllables and some breath, which all measures accept as speech."""
    random = np.random.default_rng(round(pitch_hz))
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    partials = [k for k in range(1, 20) if k * pitch_hz < 0.4 * rate_hz] or [1]
    buzz = sum(np.sin(2 * np.pi * k * pitch_hz * time_s) / k for k in partials)
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 3.0 * time_s)
    mono = 0.2 * syllables * buzz + 0.003 * random.standard_normal(len(time_s))
    return np.repeat(mono[:, None], channels, axis=1)


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype=subtype)


def one_short_clip(folder: Path) -> None:
    write(folder / "hello.wav", voice(2.0))


def ten_prompts(folder: Path) -> None:
    for n in range(10):
        write(folder / "speech" / f"prompt_{n}.flac", voice(1.0 + 0.1 * n, 90 + 15 * n, 16_000), 16_000)


def one_song(folder: Path) -> None:
    """Stereo at 44.1 kHz; shorter than a song, as only the shape of the input matters."""
    write(folder / "song.wav", voice(9.0, 220.0, 44_100, 2), 44_100)
    catalogue = {"clips": [{"file": "song.wav", "domain": "Live & at home"}]}
    (folder / "catalogue.json").write_text(json.dumps(catalogue))


def odd_files(folder: Path) -> None:
    """What lies in a folder of many years: usable files of all kinds, and much that is none."""
    for rate_hz in (2000, 8000, 11_025, 22_050, 48_000, 96_000):
        write(folder / f"rate_{rate_hz}.wav", voice(0.6, 110.0, rate_hz), rate_hz)
    write(folder / "surround.wav", voice(0.6, 130.0, 48_000, 6), 48_000)
    write(folder / "antiphase.wav", voice(0.6, 150.0, 44_100, 2) * [1, -1], 44_100)
    write(folder / "loud.wav", 30_000 * voice(0.6), subtype="FLOAT")
    write(folder / "tiny.wav", voice(0.11))
    write(folder / "blip.wav", voice(0.001))
    write(folder / "silent.wav", np.zeros((RATE_HZ, 1)))
    write(folder / "nan.wav", np.full((RATE_HZ, 1), np.nan), subtype="FLOAT")
    write(folder / "ogg.ogg", voice(0.7, 170.0))
    write(folder / "mp3.mp3", voice(0.7, 190.0))
    write(folder / "._rate_8000.wav", voice(0.6))
    write(folder / "caf.caf", voice(0.6, 210.0))
    (folder / "text.wav").write_text("no audio at all")
    (folder / "empty.flac").touch()
    (folder / "phone.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    (folder / "dir.wav").mkdir()
    os.link(folder / "rate_8000.wav", os.fsencode(folder) + b"/caf\xe9.wav")


def small_corpus(folder: Path) -> None:
    for n in range(6):
        write(folder / "speech" / f"reader_{n % 2}" / f"line_{n}.wav", voice(0.8 + 0.1 * n, 100 + 20 * n))
    for n in range(3):
        write(folder / "music" / "take.2" / f"take_{n}.wav", voice(1.0, 220 * (n + 1), 44_100, 2), 44_100)


KINDS: dict[str, Callable[[Path], None]] = {
    kind.__name__: kind for kind in (one_short_clip, ten_prompts, one_song, odd_files, small_corpus)
}
FEW_KINDS = ("one_short_clip", "one_song", "odd_files")  # of notebooks to which speakers and takes are all the same

TOKENIZE = {"codecs": ["fsq_50hz", "snac_24khz"], "player_s": 0.5}
DRIFT = {"codecs": ["fsq_50hz", "snac_24khz"], "clip_s": 0.6, "max_clips": 8, "times": [1], "bit_error_rates": [1e-2],
         "learned_clips": 1, "learned_s": 1.6}  # fmt: skip
PREDICT = {"codec": "units_25hz", "steps": 10, "dim": 16, "layers": 1, "window_frames": 16, "sizes": [16],
           "sample_s": 0.5}  # fmt: skip
STUDY = {"streams": ["text:trained", "units_25hz:parallel", "encodec_24khz:flat"], "num_codebooks": 2,
         "passes": 2.0, "dim": 16, "layers": 1}  # fmt: skip
CODE = {"codecs": ["units_25hz", "encodec_24khz"], "bandwidth_codebooks": [2], "bandwidth_steps": 1,
        "identity_tokens": 200, "identity_frames": 4, "speed_frames": 10, "speed_repeats": 1}  # fmt: skip
FORMATS = {"coder_clips": 2, "coder_frames": 10, "eval_clip_s": 0.2}
CELLS = {"segments": 2, "float_segments": 1, "frames": 8, "recordings": 1}
FEW_CELLS = ("baseline", "full sequence", "batch 8", "numba", "CUDA")
FOLLOWED_BY = {"05_determinism": ("05b_consequences", {"random_segments": 0, "heard_segments": 2})}
SURVIVE = {"fuzz_inputs": 0, "protected_s": 8.0, "segments_at_stake": 8, "byte_error_rates": [1e-3], "conceal_clips": 1,
           "conceal_methods": ["hold"], "packet_clips": 1, "packet_loss_percent": [10.0]}  # fmt: skip
DAMAGE = {"damage_clip_s": 1.0, "damage_count": 1, "unheard_count": 1, "bit_error_clips": 1, "bit_error_rates": [1e-3]}
COMPRESS = {"codec_name": "fsq_50hz", "codec_steps": [0.0], "codec_schemes": ["bf16"], "lm_clips": 0, "clip_s": 1.0}
TRAIN = {"steps": 20, "num_codebooks": 2, "num_filters": 2, "hidden_dim": 8}

# notebook, kind of recordings, the parameters that keep it small
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *(("01_tokenize", kind, TOKENIZE) for kind in FEW_KINDS),
    ("01_tokenize", "one_short_clip", {**TOKENIZE, "codecs": ["units_25hz"]}),
    ("01_tokenize", "odd_files", {**TOKENIZE, "codecs": ["encodec_48khz"]}),
    *(("01b_drift_passport", kind, DRIFT) for kind in ("one_short_clip", "one_song")),
    ("01b_drift_passport", "odd_files", {**DRIFT, "codecs": ["fsq_50hz"]}),
    ("02_entropy_model", "one_short_clip", {**PREDICT, "codec": "encodec_24khz"}),
    *(("02_entropy_model", kind, PREDICT) for kind in KINDS if kind != "one_short_clip"),
    *(("03_bits_per_second", kind, STUDY) for kind in KINDS),
    ("04_bitstream", "one_short_clip", CODE),
    ("04_bitstream", "odd_files", {**CODE, "codecs": ["encodec_24khz"]}),
    ("04b_formats", "one_short_clip", FORMATS),
    ("04b_formats", "odd_files", {**FORMATS, "codec": "units_25hz"}),  # compressors get its small corpus
    ("05_determinism", "one_short_clip", CELLS),  # of a folder it takes two recordings
    *(("06_corruption", kind, SURVIVE) for kind in ("one_short_clip", "one_song")),
    *(("06b_damage", kind, DAMAGE) for kind in ("one_short_clip", "odd_files")),
    *(("07_weight_compression", kind, COMPRESS) for kind in ("one_short_clip", "odd_files")),
    *(("08_train_codec", kind, TRAIN) for kind in FEW_KINDS),
]


def run_notebook(stage: str, parameters: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Run the cells of a notebook with other parameters and return the results that it wrote."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stage}.ipynb", as_version=4)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"{stage}[{cell.id}]", "exec"), namespace)
            if last:
                value = eval(compile(ast.Expression(last.value), f"{stage}[{cell.id}]", "eval"), namespace)
                assert value is None, f"a reader is shown {value!r:.200}"
            if "parameters" in cell.metadata.get("tags", []):
                unknown = parameters.keys() - namespace["__annotations__"].keys()
                assert not unknown, f"{stage} has no parameter {unknown}"
                namespace.update(parameters)
    return json.loads((run_dir / "results" / f"{stage}.json").read_text())


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks gain nothing by threads, and on a busy machine wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("stage", "kind", "parameters"), CASES, ids=[f"{stage}-{kind}" for stage, kind, _ in CASES])
def test_a_run_on_own_recordings(stage, kind, parameters, tmp_path, monkeypatch):
    folder = tmp_path / "own recordings #1"
    folder.mkdir()
    KINDS[kind](folder)
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(ROOT / "notebooks")
    # each is a process, and has nothing to do with whose recordings it computes
    monkeypatch.setattr(cells, "FAST_CELLS", cells.only(cells.FAST_CELLS, FEW_CELLS))
    found = [run_notebook(stage, {**parameters, "clips_dir": str(folder)}, tmp_path / "run")]
    if stage in FOLLOWED_BY:
        found.append(run_notebook(*FOLLOWED_BY[stage], tmp_path / "run"))
    for results in found:
        check_results(results, folder)


def check_results(results: Mapping[str, Any], folder: Path) -> None:
    assert str(folder) in results["provenance"]["own_data"]
    assert results["claims"], "a run judges its claims, whatever it runs on"
    assert not [claim for claim in results["claims"] if claim["hard"] and claim["holds"] is False]


@pytest.mark.parametrize(("stage", "parameters"), [("02_entropy_model", PREDICT), ("03_bits_per_second", STUDY)])
@pytest.mark.parametrize("count", [1, 5])
def test_a_run_on_exported_tokens(stage, parameters, count, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for n in range(count):
        frames = random.integers(0, 64, (40 + 10 * n, 2))
        tokens = tokens_from_frames(frames, 64, 25.0)
        write_with_companion(tmp_path / "exported" / f"clip_{n}.npq", replace(tokens, codec="mimi"), {}, {})
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(ROOT / "notebooks")
    results = run_notebook(stage, {**parameters, "tokens_dir": str(tmp_path / "exported")}, tmp_path / "run")
    assert results["provenance"]["own_data"] == f"tokens in {tmp_path / 'exported'}"
    assert not [claim for claim in results["claims"] if claim["hard"] and claim["holds"] is False]


def test_a_folder_without_any_recording_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(ROOT / "notebooks")
    with pytest.raises(CodecbookError, match="No audio file"):
        run_notebook("01_tokenize", {"clips_dir": str(tmp_path)}, tmp_path / "run")
