import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.probes.determinism import __main__ as command
from codecbook.probes.determinism.bundle import read_bundle, read_result, write_bundle, write_result
from codecbook.probes.determinism.case import Case, make_case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.matrix import CellResult
from codecbook.probes.determinism.worker import run_cell


@pytest.fixture
def bundle(case: Case, tmp_path: Path) -> Path:
    return write_bundle(case, tmp_path / "bundle.zip")


@pytest.fixture
def result(case: Case, tmp_path: Path) -> Path:
    content = run_cell(case, BASELINE, tmp_path / "cell.json")
    return write_result(case, [CellResult(BASELINE, "ran", "", content, 1.5)], tmp_path / "result.json")


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def change_manifest(contents: dict[str, bytes], **changes: object) -> None:
    contents["bundle.json"] = json.dumps(json.loads(contents["bundle.json"]) | changes).encode()


def test_a_bundle_is_the_same_case_elsewhere(case: Case, bundle: Path, tmp_path: Path) -> None:
    there = read_bundle(bundle, tmp_path / "there")
    assert there.identity == case.identity
    entries = run_cell(there, BASELINE, tmp_path / "out.json")["coders"]
    assert {entry["cdf"]["rows_differing"] for entry in entries.values()} == {0}


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9, -1])
def test_truncated_bundles_are_refused(bundle: Path, tmp_path: Path, keep: float) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(CorruptInput):
        read_bundle(bundle, tmp_path / "there")


def test_altered_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 0x10
    bundle.write_bytes(data)
    with pytest.raises(CorruptInput):
        read_bundle(bundle, tmp_path / "there")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda c: c.update({"baseline/cdf_exact.npy": b"other"}), CorruptInput),
        (lambda c: c.pop("baseline/cdf_exact.npy"), CorruptInput),
        (lambda c: c.update({"more.txt": b""}), CorruptInput),
        (lambda c: c.update({"../more.txt": b""}), CorruptInput),
        (lambda c: c.pop("bundle.json"), CorruptInput),
        (lambda c: change_manifest(c, case="0" * 64), CorruptInput),
        (lambda c: change_manifest(c, version=2), UnsupportedInput),
        (lambda c: change_manifest(c, format="something"), UnsupportedInput),
    ],
)
def test_inconsistent_bundles_are_refused(
    bundle: Path, tmp_path: Path, change: Callable, error: type[CodecbookError]
) -> None:
    rewrite(bundle, change)
    with pytest.raises(error):
        read_bundle(bundle, tmp_path / "there")
    assert not (tmp_path / "more.txt").exists()


def test_a_case_without_answers_is_no_bundle(fresh: Case, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput, match="no answers"):
        write_bundle(fresh, tmp_path / "bundle.zip")


def test_results_come_back_as_they_were(case: Case, result: Path) -> None:
    content, (found,) = read_result(result, case)
    assert content["identities"] == case.identities
    assert (found.cell, found.status, found.seconds) == (BASELINE, "ran", 1.5)


def test_results_that_cannot_be_used_are_refused(
    case: Case, result: Path, tmp_path: Path, codes: np.ndarray, model_folder: Path
) -> None:
    other = make_case(tmp_path / "other", codes=codes[:1], model_folder=model_folder)
    with pytest.raises(UnsupportedInput, match="run the present bundle"):
        read_result(result, other)
    text = result.read_text()
    for changed, error in (
        (text[:-20], CorruptInput),
        (text.replace('"ran"', '"won"', 1), CorruptInput),
        (text.replace('"version": 1', '"version": 7'), UnsupportedInput),
        ("[]", UnsupportedInput),
    ):
        result.write_text(changed)
        with pytest.raises(error):
            read_result(result, case)


def test_the_command_imports(
    bundle: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["import", str(result), "--bundle", str(bundle)]) == 0
    assert "exact" in capsys.readouterr().out
    result.write_text("{}")
    assert command.main(["import", str(result)]) == 2
    assert capsys.readouterr().err.startswith("codecbook: ")
    assert command.main(["run", str(tmp_path / "none.zip"), "--out", str(result)]) == 2
    assert command.main(["run", str(bundle), "--out", str(result), "--cells", "steam"]) == 2
    assert "steam" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_a_bundle(
    bundle: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "there.json"
    assert command.main(["run", str(bundle), "--out", str(out), "--cells", "baseline,numba,CUDA"]) == 0
    _, results = read_result(out, case)
    assert [found.status for found in results[:2]] == ["ran", "ran"]
    assert command.main(["import", str(out), "--bundle", str(bundle)]) == 0
    assert "numba" in capsys.readouterr().out
