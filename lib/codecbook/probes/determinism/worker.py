"""What runs in a cell's process: ``python -m codecbook.probes.determinism.worker CASE CELL OUT [--write-baseline]``.

CELL is a JSON object of `Cell`'s fields. OUT is a `CellResult` without cell and seconds, written again after every
coder, so that a crash only costs what was not finished.

A cell whose backend is numpy needs Python 3.11 and numpy 1.24 or later, on a 64-bit machine of either byte order, and
nothing else: there the exact coder and the exact codec are computed, and the others are skipped.
"""

import argparse
import json
import os
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.errors import CodecbookError
from codecbook.files import write_file
from codecbook.lazy import optional_module
from codecbook.probes.determinism import compare
from codecbook.probes.determinism.backends import decode_segments, load_steps, trace
from codecbook.probes.determinism.case import AUDIO_NAME, RANDOM, Case, open_case
from codecbook.probes.determinism.cells import NO_TORCH, Cell, apply_settings, reason_to_skip, torch_of
from codecbook.probes.determinism.codec_steps import codec_part


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute a cell and return the exit status; a cell that this machine lacks is no failure."""
    parser = argparse.ArgumentParser(prog="python -m codecbook.probes.determinism.worker")
    parser.add_argument("case", type=Path)
    parser.add_argument("cell", help="JSON")
    parser.add_argument("out", type=Path)
    parser.add_argument("--write-baseline", action="store_true")
    options = parser.parse_args(arguments)
    try:
        run_cell(open_case(options.case), Cell(**json.loads(options.cell)), options.out, options.write_baseline)
    except CodecbookError as error:
        print(f"codecbook: {error}", file=sys.stderr)
        return 2
    return 0


def run_cell(case: Case, cell: Cell, out: Path, write_baseline: bool = False) -> compare.CellResult:
    """Compute all coders of a case in a cell, this process's configuration; return what was written to `out`.

    The baseline leaves logits, CDFs and streams in the case for others to compare with, instead of comparing.
    """
    apply_settings(cell)
    reason = reason_to_skip(cell)
    coders: dict[str, compare.CoderResult] = {}
    codec: dict[str, compare.CodecResult] = {}
    result = compare.CellResult(cell, "skipped" if reason else "ran", reason, machine(cell), coders, codec)
    if not reason:
        for numbers in dict.fromkeys(compare.CODERS[name].numbers for name in case.coders):
            names = [name for name in case.coders if compare.CODERS[name].numbers == numbers]
            why_not = _lacks(case, numbers, cell)
            if why_not:
                coders |= {name: compare.CoderResult("skipped", why_not) for name in names}
                continue
            work = _Work(case, cell, numbers, write_baseline)
            for name in names:
                coders[name] = work.coder(compare.CODERS[name])
                _write(out, result)
        if AUDIO_NAME in case.files:
            codec |= codec_part(case, cell, write_baseline)
    _write(out, result)
    return result


def machine(cell: Cell) -> dict[str, Any]:
    """Describe the machine and this process: what decides how floats are rounded.

    Where a cell does without torch, its version is empty and what only torch can tell is missing.
    """
    found = {
        "processor": platform.processor() or platform.machine(), "machine": platform.machine(),
        "byte_order": sys.byteorder, "word_bits": 8 * struct.calcsize("P"),
        "system": platform.system(), "python": platform.python_version(),
        "torch": "", "numpy": np.__version__, "mkl_cbwr": os.environ.get("MKL_CBWR", ""),
    }  # fmt: skip
    if cell.backend == "onnx" and (onnxruntime := optional_module("onnxruntime")):
        found["onnxruntime"] = onnxruntime.__version__
    torch = torch_of(cell)
    if torch is None:
        return found
    return found | {
        "torch": torch.__version__, "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(), "mkl": torch.backends.mkl.is_available(),
    }  # fmt: skip


class _Work:
    """The logits of one kind of numbers, and what coders make of them."""

    def __init__(self, case: Case, cell: Cell, numbers: str, write_baseline: bool) -> None:
        self.case, self.cell, self.numbers, self.write_baseline = case, cell, numbers, write_baseline
        self.codes = case.codes_for(numbers, cell)
        self.steps = load_steps(case, numbers, cell)
        self.logits = trace(self.steps, self.codes, cell.batch, cell.mode)

    def coder(self, coder: compare.Coder) -> compare.CoderResult:
        """Return one coder's part of the result."""
        coder = replace(coder, device=self.cell.device)
        cdf = np.empty(self.logits.shape, dtype=np.int32)
        for rows, logits in zip(cdf, self.logits, strict=True):  # a segment at a time bounds the memory
            rows[:] = coder.cdf(logits.reshape(-1, logits.shape[-1])).reshape(rows.shape)
        streams = coder.encode(cdf, self.codes)
        ends = compare.intervals(cdf, self.codes).astype(np.int32)
        hashes = {
            "logits": compare.step_hashes(self.logits),
            "cdf": compare.step_hashes(cdf),
            "intervals": compare.step_hashes(ends),
        }
        count, folder, differences, which = len(self.codes), self.case.baseline, {}, {0}
        if self.write_baseline:
            folder.mkdir(exist_ok=True)
            np.save(folder / f"logits_{self.numbers}.npy", self.logits)
            np.save(folder / f"cdf_{coder.name}.npy", cdf)
            arrays = {str(n): np.frombuffer(data, dtype=np.uint8) for n, data in enumerate(streams)}
            np.savez(folder / f"streams_{coder.name}.npz", allow_pickle=False, **arrays)
        else:
            logits = np.load(folder / f"logits_{self.numbers}.npy", mmap_mode="r")[:count]
            rows = compare.compare_cdf(
                np.load(folder / f"cdf_{coder.name}.npy", mmap_mode="r")[:count], cdf, self.codes
            )
            differences = {"logits": compare.compare_logits(logits, self.logits), "cdf": rows}
            # a cell of full passes is an encoder only, as codes that are not known yet cannot be passed through: there
            # its own streams are decoded code by code
            if self.cell.mode != "full":
                streams = read_streams(self.case, coder.name)
            # where all rows agree, the decoder makes the encoder's computations; the first segment is decoded anyway
            which |= {n for n, frame in enumerate(rows.first_frames) if frame >= 0}
        return compare.CoderResult(
            "ran", bits=coder.bits(cdf, self.codes), hashes=hashes, segments=count, **differences,
            **self._decoded(coder, streams, which),
        )  # fmt: skip

    def _decoded(self, coder: compare.Coder, streams: list[bytes], which: set[int]) -> dict[str, Any]:
        """Decode segments, as many side by side as the cell says; return what went wrong, by fields of the result."""
        N, T, K = self.codes.shape
        batch = 1 if self.cell.mode == "full" else self.cell.batch
        decoded: dict[int, tuple[np.ndarray, str]] = {}
        for first in range(0, N, batch):
            group = range(first, min(first + batch, N))
            if which.intersection(group):
                parts = decode_segments(coder, self.steps, [streams[n] for n in group], T, K)
                decoded |= dict(zip(group, parts, strict=True))
        unequal = {n: (codes != self.codes[n]).any(axis=1) for n, (codes, _) in decoded.items()}  # [T] each
        wrong = {n: part for n, part in decoded.items() if unequal[n].any() or part[1]}
        return {
            "segments_wrong": len(wrong),
            # what is broken off may be right by chance as far as its end
            "first_wrong_frames": {n: int(unequal[n].argmax()) if unequal[n].any() else T - 1 for n in wrong},
            "wrong_codes": {n: compare.pack_codes(codes) for n, (codes, _) in wrong.items()},
            "wrong_errors": {n: error for n, (_, error) in wrong.items()},
            "token_hashes": {n: compare.step_hashes(codes[None, None])[0] for n, (codes, _) in decoded.items()},
        }


def read_streams(case: Case, coder: str) -> list[bytes]:
    """Return the baseline's streams, one per segment."""
    with np.load(case.baseline / f"streams_{coder}.npz", allow_pickle=False) as arrays:
        return [arrays[str(n)].tobytes() for n in range(len(arrays.files))]


def _lacks(case: Case, numbers: str, cell: Cell) -> str:
    """Return why a backend has no such numbers."""
    if numbers == "exact":
        return ""
    lacking = {
        f"the float model has no {cell.backend} evaluator": cell.backend not in ("torch", "onnx"),
        NO_TORCH: torch_of(cell) is None,
        "upstream's model is run by torch here": case.codec == RANDOM and cell.backend != "torch",
        "ONNX Runtime has no float64 GELU": numbers == "float64" and cell.backend == "onnx",
        "Apple GPUs have no float64": numbers == "float64" and cell.device == "mps",
    }
    return next((reason for reason, lacks in lacking.items() if lacks), "")


def _write(out: Path, result: compare.CellResult) -> None:
    content = asdict(result)
    del content["cell"], content["seconds"]  # which the process that waits for this one knows
    write_file(out, json.dumps(content) + "\n", overwrite=True)


if __name__ == "__main__":
    sys.exit(main())
