import json

import pytest

from codecbook.errors import CorruptInput
from codecbook.training.log import RunLog


def test_records_are_lines_of_json_and_lines_are_said(tmp_path, capsys):
    log = RunLog(tmp_path / "run", is_first=True)
    for step in (1, 2):
        log.write({"step": step, "loss": 0.5})
    log.say("on")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.5}]
    assert capsys.readouterr().out == "on\n"


def test_other_processes_write_and_say_nothing(tmp_path, capsys):
    log = RunLog(tmp_path / "run", is_first=False)
    log.write({"step": 1})
    log.say("a line")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("end", ["", '{"step": 3'])
def test_lines_after_a_checkpoint_are_dropped(tmp_path, end):
    log = RunLog(tmp_path, is_first=True)
    log.truncate(2)
    assert not log.path.exists()
    log.path.write_text('{"step": 1}\n{"step": 2}\n' + (end or '{"step": 3}\n{"step": 1}\n'))
    log.truncate(2)
    assert log.path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("damage", [b"no JSON", b"[1]", b'{"loss": 1}', b'{"step": "x"}', b"\xff", b""])
def test_a_damaged_log_is_refused_with_its_line(tmp_path, damage):
    log = RunLog(tmp_path, is_first=True)
    before = b'{"step": 1}\n' + damage + b"\n"
    log.path.write_bytes(before)
    with pytest.raises(CorruptInput, match=r"log\.jsonl, line 2 is no record"):
        log.truncate(5)
    assert log.path.read_bytes() == before
