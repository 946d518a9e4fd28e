import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codecbook.probes.determinism import worker
from codecbook.probes.determinism.case import RANDOM, Case, make_case
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.coders import CODERS
from codecbook.probes.determinism.worker import read_streams, run_cell


def test_the_baseline_agrees_with_itself(case: Case, tmp_path: Path) -> None:
    result = run_cell(case, BASELINE, tmp_path / "out.json")
    assert result == json.loads((tmp_path / "out.json").read_text()) | {"coders": result["coders"]}
    assert set(result["coders"]) == set(CODERS)
    for entry in result["coders"].values():
        assert entry["status"] == "ran"
        assert (entry["logits"]["differing"], entry["cdf"]["rows_differing"], entry["segments_wrong"]) == (
            0,
            0,
            0,
        )
        assert entry["segments_decoded"] >= 1
        assert {len(hashes) for hashes in entry["hashes"].values()} == {case.codes[..., 0].size}


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
    ],
    ids=lambda cell: cell.name,
)
def test_exact_cells_never_differ(case: Case, tmp_path: Path, cell: Cell) -> None:
    result = run_cell(case, cell, tmp_path / "out.json")
    entry, before = (
        result["coders"]["exact"],
        run_cell(case, BASELINE, tmp_path / "b.json")["coders"]["exact"],
    )
    assert entry["hashes"] == before["hashes"]
    assert entry["segments_wrong"] == 0
    if cell.backend != "torch":
        assert result["coders"]["grid128"]["status"] == "skipped"
        assert cell.backend in result["coders"]["grid128"]["reason"]


def test_a_changed_answer_is_found_and_breaks_decoding(fresh: Case, tmp_path: Path) -> None:
    run_cell(fresh, BASELINE, tmp_path / "b.json", write_baseline=True)
    streams = read_streams(fresh, "exact")
    other = [streams[0][:-1] + bytes([streams[0][-1] ^ 0xFF]), *streams[1:]]
    arrays = {str(n): np.frombuffer(data, dtype=np.uint8) for n, data in enumerate(other)}
    np.savez(fresh.baseline / "streams_exact.npz", allow_pickle=False, **arrays)
    cdf = np.load(fresh.baseline / "cdf_exact.npy")
    cdf[1, 3, 0, 5] += 1
    np.save(fresh.baseline / "cdf_exact.npy", cdf)
    entry = run_cell(fresh, BASELINE, tmp_path / "out.json")["coders"]["exact"]
    assert entry["cdf"]["first"] == (1, 3, 0, 5)
    assert entry["cdf"]["first_frames"] == [-1, 3, -1]
    assert (entry["segments_decoded"], entry["segments_wrong"]) == (2, 1)
    assert list(entry["first_wrong_frames"]) == [0]


def test_what_the_machine_lacks_is_skipped(case: Case, tmp_path: Path) -> None:
    result = run_cell(case, Cell("odd", capability="avx1024"), tmp_path / "out.json")
    assert (result["status"], result["coders"]) == ("skipped", {})
    assert "avx1024" in result["reason"]


def test_random_weights_run_too(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, size=(2, 3, 2))
    case = make_case(tmp_path / "case", codes=codes, model_folder=RANDOM, coders=["grid128"])
    run_cell(case, BASELINE, tmp_path / "b.json", write_baseline=True)
    result = run_cell(case, Cell("full", mode="full"), tmp_path / "out.json")
    assert result["coders"]["grid128"]["logits"]["mean_abs"] < 1e-4


def test_the_command_refuses_what_is_no_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), json.dumps(BASELINE.arguments()), str(tmp_path / "out.json")]
    assert worker.main(arguments) == 2
    assert "holds no case" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["numpy", "numpy-blas"])
def test_nothing_but_numpy_is_needed(
    case: Case, tmp_path: Path, backend: str, numpy_alone: Callable[..., str]
) -> None:
    out = tmp_path / "out.json"
    cell = Cell("bare", backend=backend, batch=2)
    code = "from codecbook.probes.determinism.worker import main\n\nsys.exit(main())"
    numpy_alone(code, str(case.folder), json.dumps(cell.arguments()), str(out))
    result = json.loads(out.read_text())
    assert (result["status"], result["machine"]["torch"]) == ("ran", "")
    expected = run_cell(case, BASELINE, tmp_path / "b.json")["coders"]["exact"]
    entry = result["coders"].pop("exact")
    assert entry["hashes"] == expected["hashes"]
    assert (entry["bits"], entry["bytes"]) == (expected["bits"], expected["bytes"])
    assert (entry["logits"]["differing"], entry["cdf"]["rows_differing"]) == (0, 0)
    assert (entry["segments_decoded"], entry["segments_wrong"]) == (2, 0)
    assert entry["token_hashes"]["0"] == expected["token_hashes"][0]
    assert set(result["coders"]) == set(CODERS) - {"exact"}
    for skipped in result["coders"].values():
        assert skipped == {"status": "skipped", "reason": "there is no torch here"}


def test_a_baseline_can_be_written_without_torch(
    fresh: Case, tmp_path: Path, numpy_alone: Callable[..., str]
) -> None:
    cell = json.dumps(Cell("bare", backend="numpy").arguments())
    code = "from codecbook.probes.determinism.worker import main\n\nsys.exit(main())"
    numpy_alone(code, str(fresh.folder), cell, str(tmp_path / "bare.json"), "--write-baseline")
    entry = run_cell(fresh, Cell("numba", backend="numba"), tmp_path / "out.json")["coders"]["exact"]
    assert (entry["cdf"]["rows_differing"], entry["segments_wrong"]) == (0, 0)
