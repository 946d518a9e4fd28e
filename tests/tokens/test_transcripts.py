from pathlib import Path

import numpy as np
import pytest

from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.tokens import Tokens
from codecbook.tokens.parquet import write_tokens
from codecbook.tokens.transcripts import find_transcripts, main, read_transcripts, write_transcripts


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_texts_come_back_sorted_by_clip(tmp_path: Path) -> None:
    texts = {"b/2": "Größe", "a/1": "one"}
    path = write_transcripts(tmp_path / "t.json", texts, "somewhere", "CC0")
    assert list(read_transcripts(path).items()) == [("a/1", "one"), ("b/2", "Größe")]
    with pytest.raises(CodecbookError):
        write_transcripts(path, texts, "somewhere", "CC0")


@pytest.mark.parametrize("texts", [{}, {"a": ""}])
def test_clips_without_words_are_refused(tmp_path: Path, texts: dict[str, str]) -> None:
    with pytest.raises(UnsupportedInput):
        write_transcripts(tmp_path / "t.json", texts, "", "")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"codecbook_transcripts": 2}',
        '{"codecbook_transcripts": 1, "texts": {"a": 1}}',
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    put(tmp_path / "t.json", content)
    with pytest.raises(CorruptInput):
        read_transcripts(tmp_path / "t.json")
    with pytest.raises(MissingInput, match=r"missing\.json"):
        read_transcripts(tmp_path / "missing.json")


def test_texts_are_found_by_path_by_stem_and_in_tables(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a1.txt", " first \n")
    put(tmp_path / "y" / "a1.txt", "second")
    put(tmp_path / "y" / "a2.txt", "third")
    put(tmp_path / "z" / "103-1240.trans.txt", "103-1240-0000 CHAPTER ONE\n103-1240-0001\n")
    names = ["x/a1", "y/a1", "elsewhere/a2", "libri/103-1240-0000", "103-1240-0001", "music"]
    assert find_transcripts(tmp_path, names) == {
        "x/a1": "first",
        "y/a1": "second",
        "elsewhere/a2": "third",
        "libri/103-1240-0000": "CHAPTER ONE",
    }
    with pytest.raises(UnsupportedInput, match="2 texts fit"):
        find_transcripts(tmp_path, ["a1"])
    with pytest.raises(MissingInput):
        find_transcripts(tmp_path / "none", [])


def test_a_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(CorruptInput, match=r"a\.txt"):
        find_transcripts(tmp_path, ["a"])


def test_command_takes_names_from_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = Tokens((np.array([1, 2]),), (4,), (25.0,))
    write_tokens(tmp_path / "t.parquet", {"k/a1": clip, "k/a2": clip})
    put(tmp_path / "k" / "a1.txt", "hello")
    command = [str(tmp_path), "--tokens", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "o.json"),
               "--source", "s", "--licence", "l"]  # fmt: skip
    assert main(command) == 0
    assert "1 of 2 clips, 5 characters" in capsys.readouterr().out
    assert read_transcripts(tmp_path / "o.json") == {"k/a1": "hello"}
    assert main(command) == 2
    assert "overwrite" in capsys.readouterr().err
