"""Answers survive the way through a file, whoever writes it; what is no answer is refused with its place."""

import json
import shutil
import subprocess

import pytest

from codecbook.book.labels import ASSETS
from codecbook.book.listen.answers import COLUMNS, read_answers, write_answers
from codecbook.errors import CodecbookError, CorruptInput, MissingInput

ROW = {"schema": "codecbook-answers-1", "test": "mushra", "title": "How good?", "listener": "me", "session": "0123abcd",
       "trial": 1, "item": "speech", "condition": "6 kbps", "score": 70, "vote": "", "played_s": "1.50",
       "time_utc": "2026-01-01T12:00:00.000Z"}  # fmt: skip
FORMULAS = ["=HYPERLINK(A1)", "+1", "-1", "@SUM(A1)", "'quoted", 'a "b", c', "\u00e4, \u4f60\u597d", "a\tb"]


def rows() -> list[dict]:
    return [{**ROW, "condition": text, "listener": text, "trial": i + 1} for i, text in enumerate(FORMULAS)]


def test_formulas_are_text_in_the_file_and_come_back_as_they_were(tmp_path):
    path = write_answers(rows(), tmp_path / "answers.csv")
    cells = [cell for line in path.read_text().splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.lstrip('"')[:1] in tuple("=+-@")]
    assert list(read_answers(path).condition) == [text.replace("\t", " ") for text in FORMULAS]


def test_a_page_writes_the_same_file(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no node here; install nodejs")
    module = tmp_path / "answers.mjs"
    module.write_text((ASSETS / "answers.js").read_text())
    program = (
        f"import {{ toCsv }} from {json.dumps(module.as_uri())};\nprocess.stdout.write(toCsv({json.dumps(rows())}));"
    )
    done = subprocess.run(["node", "--input-type=module", "-e", program], capture_output=True, check=True)
    assert done.stdout == write_answers(rows(), tmp_path / "answers.csv").read_bytes()


def test_folders_and_several_files_are_read_in_order_of_time(tmp_path):
    late = {**ROW, "session": "00000001", "time_utc": "2026-01-02T12:00:00Z"}
    write_answers([late], tmp_path / "a.csv")
    write_answers([ROW], tmp_path / "b.csv")
    found = read_answers(tmp_path)
    assert list(found.session) == ["0123abcd", "00000001"]
    assert list(found.columns) == [name for name in COLUMNS if name != "schema"]
    assert found.score.tolist() == [70.0, 70.0]
    assert read_answers([tmp_path / "a.csv", tmp_path / "b.csv"]).equals(found)


def test_a_file_that_a_spreadsheet_marked_is_read(tmp_path):
    path = write_answers([ROW], tmp_path / "a.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_answers(path)) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"score": "101"}, "score is '101', not a number from 0 to 100"),
        ({"score": "nan"}, "score is 'nan'"),
        ({"score": ""}, "score is ''"),
        ({"played_s": "1e9"}, "played_s"),
        ({"trial": "0"}, "trial is '0', not a whole number from 1"),
        ({"test": "mos"}, "test is 'mos', not abx or mushra"),
        ({"session": "../../x"}, "8 hex digits"),
        ({"listener": ""}, "listener is ''"),
        ({"item": "x" * 400}, "300 characters"),
        ({"time_utc": "yesterday"}, "time_utc is 'yesterday', not a time"),
        ({"time_utc": "2026-01-01T12:00:00"}, "with its zone"),
        ({"test": "abx", "vote": ""}, "vote is ''"),
        ({"vote": "A"}, "vote is 'A'"),
        ({"schema": "codecbook-answers-2"}, "schema is 'codecbook-answers-2', not codecbook-answers-1"),
    ],
)
def test_values_out_of_range_are_refused_with_their_line(tmp_path, changed, said):
    with pytest.raises(CorruptInput, match="line 2: ") as caught:
        write_answers([{**ROW, **changed}], tmp_path / "a.csv")
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no CSV table"),
        (b"a,b\r\n1,2\r\n", "has the columns"),
        (",".join(COLUMNS).encode() + b"\r\nx,y\r\n", "has 2 cells"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'"open', "no CSV table"),
        (b"a" * (5 << 20), "more than answers"),
    ],
)
def test_other_files_are_refused(tmp_path, data, said):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(CodecbookError, match=said):
        read_answers(path)


def test_missing_and_repeated_files_are_refused(tmp_path):
    with pytest.raises(MissingInput, match="No answers in"):
        read_answers(tmp_path)
    path = write_answers([ROW], tmp_path / "a.csv")
    with pytest.raises(CorruptInput, match="there twice"):
        read_answers([path, path])
