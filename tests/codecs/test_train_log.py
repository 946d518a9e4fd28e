import json

import pytest

from codecbook.codecs.train_log import TrainingLog

PARTS = {"loss": 1.2345678, "mel": 0.5}


SAID = "joint step 50  25.0 %  loss 1.235  mel 0.500  about 3 min left\n"


@pytest.mark.parametrize(("step", "said"), [(40, ""), (50, SAID)])
def test_every_step_is_recorded_and_some_are_said(tmp_path, capsys, step, said):
    log = TrainingLog(tmp_path / "run", is_main=True)
    log.step(step, "joint", 0.25, 60.04, 1e-3, PARTS)
    log.write({"step": step, "message": "on"})
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "step": step,
            "phase": "joint",
            "elapsed_s": 60.0,
            "remaining_s": 180.1,
            "rate": 0.001,
            "loss": 1.23457,
            "mel": 0.5,
        },
        {"step": step, "message": "on"},
    ]
    assert capsys.readouterr().out == said


def test_other_processes_write_and_say_nothing(tmp_path, capsys):
    log = TrainingLog(tmp_path / "run", is_main=False)
    log.step(50, "joint", 0.0, 0.0, 1e-3, PARTS)
    log.say("a line")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""
