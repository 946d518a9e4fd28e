import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from codecbook.probes.determinism import compare, worker
from codecbook.probes.determinism.case import AUDIO_NAME, RANDOM, Case
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.compare import CODERS, CoderResult, step_hashes, unpack_codes
from codecbook.probes.determinism.matrix import result_of
from codecbook.probes.determinism.worker import read_streams, run_cell

# torch says so where it computes in bfloat16 what it could not fuse
_UNFUSED = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")


def differences(part: CoderResult) -> tuple[int, int, int]:
    """Return how many logits and CDF rows differ, and how many segments are wrong."""
    assert part.logits is not None
    assert part.cdf is not None
    return part.logits.differing, part.cdf.rows_differing, part.segments_wrong


def test_the_baseline_agrees_with_itself(case: Case, tmp_path: Path) -> None:
    result = run_cell(case, BASELINE, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert result_of(BASELINE, "ran", "", content, 0.0) == result
    assert set(result.coders) == set(CODERS)
    for part in result.coders.values():
        assert part.status == "ran"
        assert differences(part) == (0, 0, 0)
        assert part.token_hashes
        assert {len(hashes) for hashes in part.hashes.values()} == {case.codes[..., 0].size}


@_UNFUSED
@pytest.mark.parametrize(
    "cell",
    [
        Cell("numba", backend="numba"),
        Cell("numpy", backend="numpy"),
        Cell("numpy BLAS", backend="numpy-blas", batch=2),
        Cell("full", mode="full"),
        Cell("batch", batch=2),
        Cell("numba full", backend="numba", mode="full"),
        Cell("threads", threads=2, onednn=False),
        Cell("autocast", precision="autocast", batch=2),
        Cell("bf16", precision="bf16", mode="full"),
        Cell("onnx", backend="onnx", batch=2),
        Cell("onnx full", backend="onnx", mode="full", graph_optimisation="none"),
    ],
    ids=lambda cell: cell.name,
)
def test_exact_cells_never_differ(case: Case, tmp_path: Path, cell: Cell) -> None:
    result = run_cell(case, cell, tmp_path / "out.json")
    assert result.coders["exact"].hashes == run_cell(case, BASELINE, tmp_path / "b.json").coders["exact"].hashes
    assert result.coders["exact"].segments_wrong == 0
    grid = result.coders["grid128"]
    if cell.backend == "onnx":
        assert grid.logits is not None
        assert grid.logits.mean_abs < 1e-4
        assert "ONNX" in result.coders["float64"].reason
    elif cell.backend != "torch":
        assert grid.status == "skipped"
        assert cell.backend in grid.reason


def test_a_changed_answer_is_found_and_breaks_decoding(fresh: Case, tmp_path: Path) -> None:
    run_cell(fresh, BASELINE, tmp_path / "b.json", write_baseline=True)
    streams = read_streams(fresh, "exact")
    other = [streams[0][:-1] + bytes([streams[0][-1] ^ 0xFF]), *streams[1:]]
    arrays = {str(n): np.frombuffer(data, dtype=np.uint8) for n, data in enumerate(other)}
    np.savez(fresh.baseline / "streams_exact.npz", allow_pickle=False, **arrays)
    cdf = np.load(fresh.baseline / "cdf_exact.npy")
    cdf[1, 3, 0, 5] += 1
    np.save(fresh.baseline / "cdf_exact.npy", cdf)
    part = run_cell(fresh, BASELINE, tmp_path / "out.json").coders["exact"]
    assert part.cdf is not None
    assert part.cdf.first == (1, 3, 0, 5)
    assert part.cdf.first_frames == [-1, 3, -1]
    assert (len(part.token_hashes), part.segments_wrong) == (2, 1)
    assert list(part.first_wrong_frames) == [0]


def test_coders_of_floats_can_take_fewer_segments(tmp_path: Path, codes: np.ndarray, model_folder: Path) -> None:
    case = make_case(tmp_path / "case", codes=codes, model_folder=model_folder, float_segments=2)
    before = run_cell(case, BASELINE, tmp_path / "b.json", write_baseline=True).coders
    assert (before["grid64"].segments, before["exact"].segments) == (2, len(codes))
    after = run_cell(case, Cell("few", batch=2, float_segments=1), tmp_path / "out.json").coders
    assert (after["grid64"].segments, after["exact"].segments) == (1, len(codes))
    counts = [part.logits.count for name in ("float64", "exact") if (part := after[name]).logits]
    assert counts[0] * len(codes) == counts[1]
    assert after["exact"].hashes == before["exact"].hashes


@_UNFUSED
def test_wrong_codes_are_kept(case: Case, tmp_path: Path) -> None:
    part = run_cell(case, Cell("cast", precision="autocast"), tmp_path / "out.json").coders["upstream"]
    assert part.segments_wrong > 0
    assert set(part.wrong_codes) == set(part.wrong_errors) == set(part.first_wrong_frames)
    for n, text in part.wrong_codes.items():
        codes = unpack_codes(text)
        assert step_hashes(codes[None, None])[0] == part.token_hashes[n]
        assert (codes != case.codes[n]).any() or part.wrong_errors[n]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_code_agrees_where_numbers_are_exact(
    tmp_path: Path, codes: np.ndarray, shallow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    case = make_case(tmp_path / "case", codes=codes, model_folder=shallow_folder)
    run_cell(case, BASELINE, tmp_path / "baseline.json", write_baseline=True)
    described = json.loads((case.folder / "case.json").read_text())
    (case.folder / "case.json").write_text(json.dumps(described | {"coders": ["exact"]}))  # floats take a minute
    command = [sys.executable, "-m", worker.__name__, str(case.folder)]
    cell = Cell("compiled", compiled=True, mode="full")
    out = tmp_path / "out.json"
    subprocess.run([*command, json.dumps(asdict(cell)), str(out)], check=True, capture_output=True)
    found = result_of(cell, "ran", "", json.loads(out.read_text()), 0.0).coders["exact"]
    assert differences(found) == (0, 0, 0)


def test_a_device_is_asked_for_upstreams_counts_and_for_the_codec(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, asked = Cell("GPU", device="cuda"), []
    load_steps = worker.load_steps
    monkeypatch.setattr(worker, "reason_to_skip", lambda cell: "")
    monkeypatch.setattr(worker, "load_steps", lambda case, numbers, cell: load_steps(case, numbers, BASELINE))
    monkeypatch.setattr(compare, "_on", lambda device, columns: asked.append(device) or columns)
    monkeypatch.setattr(worker, "codec_part", lambda case, cell, write: asked.append(cell.device) or {})
    result = run_cell(replace(case, files=case.files | {AUDIO_NAME: ""}), cell, tmp_path / "out.json")
    assert set(asked) == {"cuda"}
    assert asked.count("cuda") > 1, "for the codec at last"
    assert differences(result.coders["upstream"])[1] == 0


def test_what_the_machine_lacks_is_skipped(case: Case, tmp_path: Path) -> None:
    result = run_cell(case, Cell("odd", capability="avx1024"), tmp_path / "out.json")
    assert (result.status, result.coders) == ("skipped", {})
    assert "avx1024" in result.reason


def test_random_weights_run_too(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, size=(2, 3, 2))
    case = make_case(tmp_path / "case", codes=codes, model_folder=RANDOM)
    run_cell(case, BASELINE, tmp_path / "b.json", write_baseline=True)
    result = run_cell(case, Cell("full", mode="full"), tmp_path / "out.json")
    logits = result.coders["grid128"].logits
    assert logits is not None
    assert logits.mean_abs < 1e-4


def test_the_command_refuses_what_is_no_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), json.dumps(asdict(BASELINE)), str(tmp_path / "out.json")]
    assert worker.main(arguments) == 2
    assert "holds no case" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["numpy", "numpy-blas"])
def test_nothing_but_numpy_is_needed(case: Case, tmp_path: Path, backend: str, numpy_alone: Callable[..., str]) -> None:
    out = tmp_path / "out.json"
    cell = Cell("bare", backend=backend, batch=2)
    code = "from codecbook.probes.determinism.worker import main\n\nsys.exit(main())"
    numpy_alone(code, str(case.folder), json.dumps(asdict(cell)), str(out))
    result = result_of(cell, "ran", "", json.loads(out.read_text()), 0.0)
    assert result.machine["torch"] == ""
    expected = run_cell(case, BASELINE, tmp_path / "b.json").coders["exact"]
    part = result.coders.pop("exact")
    assert (part.hashes, part.bits) == (expected.hashes, expected.bits)
    assert differences(part) == (0, 0, 0)
    assert len(part.token_hashes) == 2
    assert part.token_hashes[0] == expected.token_hashes[0]
    skipped = CoderResult("skipped", f"the float model has no {backend} evaluator")
    assert result.coders == dict.fromkeys(set(CODERS) - {"exact"}, skipped)


def test_a_baseline_can_be_written_without_torch(fresh: Case, tmp_path: Path, numpy_alone: Callable[..., str]) -> None:
    cell = json.dumps(asdict(Cell("bare", backend="numpy")))
    code = "from codecbook.probes.determinism.worker import main\n\nsys.exit(main())"
    numpy_alone(code, str(fresh.folder), cell, str(tmp_path / "bare.json"), "--write-baseline")
    part = run_cell(fresh, Cell("numba", backend="numba"), tmp_path / "out.json").coders["exact"]
    assert differences(part) == (0, 0, 0)
