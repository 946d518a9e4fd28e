import json
from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.probes.determinism.case import DESCRIPTION_NAME, FORMAT, RANDOM, Case, make_case, open_case


def test_a_case_opens_as_it_was_made(fresh: Case, codes: np.ndarray) -> None:
    opened = open_case(fresh.folder)
    assert opened == fresh
    assert opened.identity == fresh.identity
    assert set(fresh.identities) == {"lm", "exact"}
    np.testing.assert_array_equal(opened.codes, codes)


def test_other_tokens_are_another_case(
    fresh: Case, tmp_path: Path, codes: np.ndarray, model_folder: Path
) -> None:
    other = make_case(tmp_path / "other", codes=codes[::-1], model_folder=model_folder)
    assert other.identity != fresh.identity
    assert other.identities == fresh.identities


def test_random_weights_have_no_exact_twin(tmp_path: Path, codes: np.ndarray) -> None:
    case = make_case(tmp_path / "case", codes=codes, model_folder=RANDOM)
    assert "exact" not in case.coders
    assert open_case(case.folder).codec == RANDOM


@pytest.mark.parametrize("name", ["codes.npy", "lm/model.safetensors", "exact/config.json"])
def test_an_altered_or_missing_file_is_found(fresh: Case, name: str) -> None:
    path = fresh.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptInput, match="altered"):
        open_case(fresh.folder)
    path.unlink()
    with pytest.raises(CorruptInput, match="missing"):
        open_case(fresh.folder)


def test_other_formats_and_no_cases_are_refused(fresh: Case, tmp_path: Path) -> None:
    with pytest.raises(CorruptInput, match="no case"):
        open_case(tmp_path / "nothing")
    path = fresh.folder / DESCRIPTION_NAME
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(UnsupportedInput, match="99"):
        open_case(fresh.folder)
    path.write_text(json.dumps(content | {"coders": ["morse"]}))
    with pytest.raises(UnsupportedInput, match="morse"):
        open_case(fresh.folder)
    path.write_text(json.dumps(content | {"files": {"../codes.npy": "0"}}))
    with pytest.raises(CorruptInput):
        open_case(fresh.folder)
    path.write_text(json.dumps({"format": FORMAT}))
    with pytest.raises(CorruptInput, match="damaged"):
        open_case(fresh.folder)


def test_what_cannot_be_made_is_refused(
    fresh: Case, tmp_path: Path, codes: np.ndarray, model_folder: Path
) -> None:
    with pytest.raises(CodecbookError, match="already"):
        make_case(fresh.folder, codes=codes, model_folder=model_folder)
    with pytest.raises(UnsupportedInput, match="morse"):
        make_case(tmp_path / "a", codes=codes, model_folder=model_folder, coders=["morse"])
    with pytest.raises(MissingWeights, match=r"config\.json"):
        make_case(tmp_path / "b", codes=codes, model_folder=tmp_path)
    with pytest.raises(UnsupportedInput, match="segments=0"):
        make_case(tmp_path / "c", segments=0, model_folder=model_folder)
