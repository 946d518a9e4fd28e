import json
from pathlib import Path

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.probes.determinism.case import AUDIO_NAME, DESCRIPTION_NAME, FORMAT, RANDOM, Case, open_case
from codecbook.probes.determinism.case_maker import audio_batch, make_case, segments_of


def test_a_case_opens_as_it_was_made(fresh: Case, codes: np.ndarray) -> None:
    opened = open_case(fresh.folder)
    assert opened == fresh
    assert opened.identity == fresh.identity
    assert set(fresh.identities) == {"lm", "exact"}
    np.testing.assert_array_equal(opened.codes, codes)


def test_other_tokens_are_another_case(fresh: Case, tmp_path: Path, codes: np.ndarray, model_folder: Path) -> None:
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


def test_what_cannot_be_made_is_refused(fresh: Case, tmp_path: Path, codes: np.ndarray, model_folder: Path) -> None:
    with pytest.raises(CodecbookError, match="already"):
        make_case(fresh.folder, codes=codes, model_folder=model_folder)
    with pytest.raises(MissingWeights, match=r"config\.json"):
        make_case(tmp_path / "b", codes=codes, model_folder=tmp_path)
    with pytest.raises(UnsupportedInput, match="segments=0"):
        make_case(tmp_path / "c", segments=0, model_folder=model_folder)


def test_a_case_of_ones_own_recordings(tmp_path: Path, model_folder: Path) -> None:
    random = np.random.default_rng(0)
    clips = [
        Clip(random.normal(0, 0.1, (channels, count)).astype(np.float32), rate_hz, f"{count}")
        for channels, rate_hz, count in ((1, 24_000, 9_600), (2, 44_100, 44_100), (1, 8_000, 80))
    ]
    # 30 and 75 frames hold 3 and 7 stretches of 10, the third clip none
    codes = segments_of(clips, "encodec_24khz", 20, 10)
    assert codes.shape == (10, 10, 8)
    first = load_codec("encodec_24khz").encode(clips[0], num_codebooks=8).to_frames()
    assert any((codes[0] == first[place : place + 10]).all() for place in (0, 10, 20))
    assert len({part.tobytes() for part in codes}) == 10
    np.testing.assert_array_equal(segments_of(clips, "encodec_24khz", 3, 10), codes[:3])
    case = make_case(tmp_path / "a", segments=2, frames=10, model_folder=model_folder, recordings=3, clips=clips)
    assert case.codes.shape == (2, 10, 8)
    assert np.load(case.folder / AUDIO_NAME).shape == (1, 1, 24_000), "one clip lasts a second"
    case = make_case(tmp_path / "b", model_folder=model_folder, frames=10, recordings=3, clips=clips[:1])
    assert AUDIO_NAME not in case.files
    with pytest.raises(UnsupportedInput, match=r"None of the 1 clips .* the longest lasts 0.01 s, and 0.133 s"):
        segments_of(clips[2:], "encodec_24khz", 1, 10)


def test_audio_is_cut_from_clips() -> None:
    audio, _ = audio_batch("encodec_24khz", 2, 0.2)
    assert (audio.shape, audio.dtype) == ((2, 1, 4800), np.float32)
    assert audio.std() > 0
    with pytest.raises(UnsupportedInput, match="ask for fewer"):
        audio_batch("encodec_24khz", 2, 1e4)
