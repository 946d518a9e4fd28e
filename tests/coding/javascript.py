"""Streams for the decoder in JavaScript, what it has to find in them, and Node to run it."""

import functools
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from codecbook.book import browser_decoder
from codecbook.coding.stream.writer import StreamWriter
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.files import load_exact, save_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.spec import ExactConfig, ExactLM, array_specs
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.paths import data_dir
from codecbook.probes.determinism.compare import CODERS, intervals, step_hashes
from codecbook.tokens import TokenFormat

DECODE = Path(__file__).with_name("decode_streams.mjs")
BUNDLED = ("encodec_24khz", "encodec_48khz", "fsq_50hz", "snac_24khz", "units_25hz")


@dataclass(frozen=True, eq=False)
class Expected:
    """A stream, and what every decoder must compute of it."""

    model: Path  # its file
    stream: bytes
    rows: np.ndarray  # [T, K]
    hashes: dict[str, list[str]]  # of each row, as the matrix compares them
    duration_s: float


@functools.cache
def bundled_stream(codec: str, seconds: float = 10.0) -> Expected:
    """Return a stream of held-out tokens and the bundled model."""
    tokens, folder = bundled_tokens(codec), data_dir() / "models" / f"lm_{codec}_mini" / "exact"
    known = tokens.layout.format
    count = round(seconds * known.frame_rates_hz[0])
    rows = np.concatenate([tokens.held_out.clip(i) for i in range(8)])[:count].astype(np.int64)
    assert len(rows) == count, "so much is bundled"
    return expected_of(folder, known, rows, kernel_logits)


def ties_stream(folder: Path, seed: int = 0) -> Expected:
    """Write a model in which every rounding meets exact halves, and return a stream of it.

    With the shifts of a trained model, one product in 2^20 or fewer is half a unit: an evaluator that rounds those
    otherwise passes any test on recordings, and fails in some later hour.
    """
    random = np.random.default_rng(seed)
    shape = ExactConfig((16, 16), dim=8, layers=2, heads=2, hidden=16, window_frames=4, conditioned=True,
                        head_dim=8, head_hidden=8)  # fmt: skip
    arrays = {name: random.integers(-9, 10, size).astype(kind) for name, (kind, size) in array_specs(shape).items()}
    for name, array in arrays.items():
        if name.endswith("shift"):
            array[:] = 1
        elif name.endswith("gelu"):
            array[:] = random.integers(-127, 128, array.shape)
        elif name.endswith("epsilon"):
            array[:] = 1 << 42  # the root of small sums is then 2^21, and the half of an odd element's unit 2^19
    arrays["embedding.weight"] *= 14
    arrays["layers.score.multiplier"][:] = 0
    arrays["layers.position_bias"][:] = -np.array([0, 5000, 25, 1007])  # powers that are odd, with a sum of 2^17
    save_exact(folder, ExactLM(shape, arrays))
    rows = random.integers(0, 16, (60, 2))
    known = TokenFormat(shape.codebook_sizes, (50.0, 50.0))
    return expected_of(folder, known, rows, lambda model, part, _: reference_logits(model, part))


def expected_of(folder: Path, known: TokenFormat, rows: np.ndarray, logits_of: Callable) -> Expected:
    """Return a stream of rows, in segments of 4 s at most, and what belongs to it."""
    model, hashes = load_exact(folder), {"logits": [], "cdf": [], "intervals": []}
    file = io.BytesIO()
    writer = StreamWriter(file, known, model, "lm", segment_s=4.0)
    writer.write(rows)
    writer.close()
    for first in range(0, len(rows), writer.header.rows_per_segment):
        part = rows[first : first + writer.header.rows_per_segment]
        logits = logits_of(model, part, 16).astype(np.int32)
        cdf = CODERS["exact"].cdf(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape).astype(np.int32)
        ends = intervals(cdf[None], part[None])[0].astype(np.int32)
        for kind, array in (("logits", logits), ("cdf", cdf), ("intervals", ends)):
            hashes[kind] += step_hashes(array[None])
    return Expected(folder / "model.safetensors", file.getvalue(), rows, hashes, len(rows) / known.frame_rates_hz[0])


def decoder(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the decoder as one module, with some of its text changed: each piece must be there."""
    text = browser_decoder.script(*browser_decoder.DECODER)
    for before, after in changes:
        assert text.count(before) >= 1, before
        text = text.replace(before, after)
    path = folder / "decoder.mjs"
    path.write_text(text)
    return path


def node(folder: Path, jobs: Sequence[dict], *changes: tuple[str, str]) -> list[dict]:
    """Run jobs, {"model": path, "stream": bytes}, in Node, and return their results; see ``decode_streams.mjs``."""
    program = shutil.which("node") or shutil.which("nodejs")
    if program is None:
        pytest.skip("no Node here; install the Debian package nodejs")
    written = []
    for i, job in enumerate(jobs):
        path = folder / f"{i}.cbs"
        path.write_bytes(job["stream"])
        written.append(job | {"stream": str(path), "model": str(job["model"]) if job.get("model") else None})
    (folder / "jobs.json").write_text(json.dumps(written))
    command = [program, str(DECODE), str(decoder(folder, *changes)), str(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
