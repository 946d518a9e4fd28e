import hashlib
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codecbook import paths
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.probes.determinism import __main__ as command
from codecbook.probes.determinism.bundle import read_bundle, read_result, write_bundle, write_result
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.compare import CellResult, CodecResult
from codecbook.probes.determinism.worker import run_cell


@pytest.fixture
def bundle(case: Case, tmp_path: Path) -> Path:
    return write_bundle(case, tmp_path / "bundle.zip")


@pytest.fixture
def result(case: Case, tmp_path: Path) -> Path:
    found = replace(run_cell(case, BASELINE, tmp_path / "cell.json"), seconds=1.5)
    return write_result(case, [found], tmp_path / "result.json")


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def change_manifest(contents: dict[str, bytes], **changes: object) -> None:
    contents["bundle.json"] = json.dumps(json.loads(contents["bundle.json"]) | changes).encode()


def replace_file(contents: dict[str, bytes], name: str, data: bytes) -> None:
    files = json.loads(contents["bundle.json"])["files"] | {name: hashlib.sha256(data).hexdigest()}
    contents[name] = data
    change_manifest(contents, files=files)


add = replace_file


def change_case(contents: dict[str, bytes], **changes: object) -> None:
    replace_file(contents, "case.json", json.dumps(json.loads(contents["case.json"]) | changes).encode())


def test_a_bundle_is_the_same_case_elsewhere(case: Case, bundle: Path, tmp_path: Path) -> None:
    there = read_bundle(bundle, tmp_path / "there")
    assert there.identity == case.identity
    found = run_cell(there, BASELINE, tmp_path / "out.json").coders
    assert [part.cdf.rows_differing for part in found.values() if part.cdf] == [0] * len(case.coders)


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
        (lambda c: change_manifest(c, files=[]), CorruptInput),
        (lambda c: change_manifest(c, files=5), CorruptInput),
        (lambda c: change_manifest(c, files=dict.fromkeys(json.loads(c["bundle.json"])["files"], 5)), CorruptInput),
        (lambda c: change_manifest(c, case=5), CorruptInput),
        (lambda c: add(c, "baseline/cdf_exact.npy/more", b""), CorruptInput),
        (lambda c: add(c, "baseline/", b""), CorruptInput),
        (lambda c: add(c, "/more.txt", b""), CorruptInput),
        (lambda c: add(c, "a/../../more.txt", b""), CorruptInput),
        (lambda c: add(c, "n" * 300, b""), CorruptInput),
        (lambda c: replace_file(c, "case.json", b"[" * 5000), CorruptInput),
        (lambda c: replace_file(c, "case.json", b"null"), CorruptInput),
        (lambda c: replace_file(c, "case.json", b'{"format": 2, "codec": 1e999}'), CorruptInput),
        (lambda c: change_case(c, coders=[[]]), UnsupportedInput),
        (lambda c: change_case(c, files=["codes.npy"]), CorruptInput),
        (lambda c: change_case(c, files={"../more.txt": ""}), CorruptInput),
        (lambda c: change_case(c, files={"/etc/hosts": ""}), CorruptInput),
        (lambda c: change_case(c, seed=[]), CorruptInput),
    ],
)
def test_inconsistent_bundles_are_refused(
    bundle: Path, tmp_path: Path, change: Callable, error: type[CodecbookError]
) -> None:
    rewrite(bundle, change)
    with pytest.raises(error):
        read_bundle(bundle, tmp_path / "there")
    assert not (tmp_path / "more.txt").exists()


def test_a_manifest_that_inflates_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", bytes(20_000_000))
    tracemalloc.start()
    with pytest.raises(CorruptInput, match=r"20000000 bytes of bundle\.json"):
        read_bundle(path, tmp_path / "there")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_size_that_lies_is_refused(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        size = archive.getinfo("bundle.json").file_size
    place = data.rindex(b"PK\x01\x02", 0, data.rindex(b"bundle.json"))
    assert data[place + 24 : place + 28] == size.to_bytes(4, "little")
    for claimed in (1, size - 1, 2**31):
        bundle.write_bytes(data[: place + 24] + claimed.to_bytes(4, "little") + data[place + 28 :])
        with pytest.raises(CorruptInput):
            read_bundle(bundle, tmp_path / "there")


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"none\.zip"):
        read_bundle(tmp_path / "none.zip", tmp_path / "there")
    with pytest.raises(MissingInput, match=r"none\.json"):
        read_result(tmp_path / "none.json")


def test_bundles_that_did_harm(tmp_path: Path) -> None:
    extra = paths.extra_dir()
    found = sorted((extra / "cases" / "containers").glob("*bundle_*.zip")) if extra else []
    if not found:
        pytest.skip("needs CODECBOOK_EXTRA with cases/containers")
    for path in found:
        with pytest.raises(CorruptInput) as caught:
            read_bundle(path, tmp_path / "there")
        assert "\n" not in str(caught.value)


def test_a_case_without_answers_is_no_bundle(fresh: Case, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput, match="no answers"):
        write_bundle(fresh, tmp_path / "bundle.zip")


def test_results_come_back_as_they_were(case: Case, result: Path) -> None:
    content, (found,) = read_result(result, case)
    assert content["identities"] == case.identities
    assert (found.cell, found.status, found.seconds) == (BASELINE, "ran", 1.5)


def test_results_of_more_than_ten_segments_come_back(case: Case, result: Path, tmp_path: Path) -> None:
    _, (found,) = read_result(result, case)
    coders = {name: replace(of, token_hashes={i: "0" for i in range(12)}) for name, of in found.coders.items()}
    path = write_result(case, [replace(found, coders=coders)], tmp_path / "many.json")
    _, (read,) = read_result(path, case)
    assert {tuple(of.token_hashes) for of in read.coders.values()} == {tuple(range(12))}


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
        ("[]", CorruptInput),
        ("null", CorruptInput),
        ("[" * 100_000, CorruptInput),
        ('{"a":' * 500 + "1" + "}" * 500, CorruptInput),
        (text.replace('"seconds": 1.5', '"seconds": 1e999'), CorruptInput),
    ):
        result.write_text(changed)
        with pytest.raises(error):
            read_result(result, case)


def signed(content: dict) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_results_of_no_sense_are_refused_though_their_hash_is_right(case: Case, result: Path) -> None:
    good = {key: value for key, value in json.loads(result.read_text()).items() if key != "sha256"}
    part = good["results"][0]
    result.write_text(signed(good))
    read_result(result, case)
    for changes in (
        {"results": 5}, {"results": [5]}, {"results": [{}]}, {"coders": 5}, {"results": None},
        {"results": [{**part, "cell": []}]}, {"results": [{**part, "cell": {"name": "a", "threads": "two"}}]},
        {"results": [{**part, "cell": {"name": "a", "steam": 1}}]}, {"results": [{**part, "seconds": "long"}]},
        {"results": [{**part, "content": {"coders": {"exact": 5}}}]}, {"results": [{**part, "content": 7}]},
        {"results": [{**part, "content": {"coders": []}}]}, {"results": [{**part, "cell": {"backend": []}}]},
    ):  # fmt: skip
        result.write_text(signed({**good, **changes}))
        with pytest.raises(CorruptInput, match="run the bundle again"):
            read_result(result, case)
    result.write_text(signed({**good, "case": 5}))
    with pytest.raises(UnsupportedInput, match="run the present bundle"):
        read_result(result, case)
    # what a machine found may be no number
    result.write_text(signed({**good, "results": [{**part, "seconds": float("inf")}]}))
    assert read_result(result, case)[1][0].seconds == float("inf")


def test_targets_are_looked_at_before_anything_is_computed(
    bundle: Path, result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = result.read_bytes(), bundle.read_bytes()
    monkeypatch.setattr(command, "make_case", None)
    monkeypatch.setattr(command, "read_bundle", None)
    for arguments in (["run", str(bundle), "--out", str(result)], ["export", str(bundle)]):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert "exists; pass --overwrite" in error
        assert error.count("\n") == 1
    assert command.main(["run", str(bundle), "--out", str(result / "below")]) == 2
    assert (result.read_bytes(), bundle.read_bytes()) == before


def test_a_target_is_replaced_where_that_is_asked_for(
    bundle: Path, result: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [CellResult(BASELINE, "skipped", "for a trial")]
    monkeypatch.setattr(command, "run_matrix", lambda *arguments, **options: found)
    assert command.main(["run", str(bundle), "--out", str(result), "--overwrite"]) == 0
    assert read_result(result, case)[1] == found


def test_the_command_imports(
    bundle: Path, result: Path, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["import", str(result), "--bundle", str(bundle)]) == 0
    assert "exact" in capsys.readouterr().out
    differs = {"codec_exact": CodecResult("ran", tokens=4, codebooks_differing=[1], samples=9)}
    write_result(case, [CellResult(BASELINE, "skipped", codec=differs)], result, overwrite=True)
    assert command.main(["import", str(result)]) == 1
    assert "codec_exact" in capsys.readouterr().out
    result.write_text("{}")
    assert command.main(["import", str(result)]) == 2
    assert capsys.readouterr().err.startswith("codecbook: ")
    assert command.main(["run", str(tmp_path / "none.zip"), "--out", str(result)]) == 2
    assert command.main(["run", str(bundle), "--out", str(tmp_path / "new.json"), "--cells", "steam"]) == 2
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
