import json
import sys
from pathlib import Path
from random import Random

import pytest

from codecbook.coding import inspect
from codecbook.errors import UnsupportedInput
from codecbook.lm.models import build_lm
from codecbook.probes.corruption import __main__, fuzz
from codecbook.probes.corruption.alter import altered_json
from codecbook.probes.corruption.fuzz import Trial
from codecbook.probes.corruption.readers import READERS, any_checksum

PROMISED = ("cbs", "parquet")


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> dict[str, fuzz.Reader]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import bad_readers

    return bad_readers.READERS


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_what_it_is_given(name: str, tmp_path: Path) -> None:
    """The short version of what the command does at length, without its limits."""
    trial = Trial(name, READERS[name], tmp_path)
    count = 2 if name in ("cbs_audio", "codec") else 12
    found = [trial.run(seed) for seed in range(count)]
    said = [detail for outcome, detail in found if outcome == "crash"]
    assert not said, said
    outcomes = [outcome for outcome, _ in found]
    assert name not in PROMISED or "undetected" not in outcomes
    assert count < 12 or name == "cbs" or "refused" in outcomes  # a stream is mostly read, with its damage


def test_formats_that_promise_are_held_to_it() -> None:
    assert {name for name, reader in READERS.items() if reader.checked} >= set(PROMISED)


def test_an_input_is_its_reader_and_seed(tmp_path: Path) -> None:
    trials = [Trial("npq", READERS["npq"], tmp_path / part) for part in "ab"]
    for seed in range(5):
        found = {
            str(trial.run(seed)).replace(str(tmp_path / part), "") for trial, part in zip(trials, "ab", strict=True)
        }
        assert len(found) == 1
    inputs = [(tmp_path / part / fuzz.INPUT_NAME / "input.npq").read_bytes() for part in "ab"]
    assert inputs[0] == inputs[1]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("raises", "crash"), ("speaks in lines", "crash"), ("refuses", "refused"), ("believes all", "undetected")],
)
def test_what_is_said_of_a_reader(name: str, outcome: str, bad: dict, tmp_path: Path) -> None:
    found = [Trial(name, bad[name], tmp_path).run(seed) for seed in range(4)]
    assert outcome in [each for each, _ in found]
    assert name != "raises" or "KeyError: 'missing'" in found[0][1]


def test_readers_that_hang_die_or_take_memory(bad: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report = fuzz.fuzz(
        4, readers=("hangs", "dies", "takes memory", "promises nothing"), timeout_s=2.0, memory_mib=600,
        catalogue="bad_readers", out=tmp_path,
    )  # fmt: skip
    outcomes = {failure.reader: failure.outcome for failure in report.failures}
    assert outcomes["hangs"] == "hang"
    assert outcomes["dies"] == "crash"
    assert "the process ended" in next(failure.detail for failure in report.failures if failure.reader == "dies")
    if sys.platform == "linux":
        assert "MemoryError" in next(failure.detail for failure in report.failures if failure.reader == "takes memory")
    assert "promises nothing" not in outcomes
    assert report.counts.to_numpy().sum() == 4
    assert report.counts.undetected["promises nothing"] == 1
    kept = tmp_path / "dies_0"
    assert "the process ended" in (kept / "failure.txt").read_text()
    assert (kept / "input").read_bytes() != b"good" * 20


def test_the_command(capsys: pytest.CaptureFixture, bad: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    assert __main__.main(["fuzz", "--reader", "npq_companion", "--seed", "3"]) == 0
    assert "1 inputs, 0 failures" in capsys.readouterr().out
    assert __main__.main(["fuzz", "--reader", "nqp"]) == 2
    assert "There is no reader 'nqp'" in capsys.readouterr().err
    monkeypatch.setattr(__main__, "CATALOGUE", "bad_readers")
    assert __main__.main(["fuzz", "--reader", "raises", "--seed", "0"]) == 1
    assert "KeyError: 'missing'" in capsys.readouterr().out


def test_ctrl_c_ends_with_what_was_found(bad: dict) -> None:
    def interrupt(reader: str, done: int, count: int) -> None:
        raise KeyboardInterrupt

    report = fuzz.fuzz(100, readers=("refuses",), catalogue="bad_readers", on_progress=interrupt)
    assert report.counts.to_numpy().sum() == 1


def test_refusals() -> None:
    with pytest.raises(UnsupportedInput, match="no reader 'zip'; choose from cbs"):
        fuzz.fuzz(1, readers=("zip",))


def test_checksums_of_streams_can_be_passed_over(tmp_path: Path) -> None:
    """Else streams with checksums made anew would be tried in name alone."""
    trial = Trial("cbs", READERS["cbs"], tmp_path)
    (files, good), *_ = trial.good
    data = bytearray(files["input.cbs"])
    _, end, _ = inspect(bytes(data)).segments[0]
    data[end - 8] ^= 1
    (tmp_path / "input" / "input.cbs").write_bytes(data)
    strict = READERS["cbs"].read(tmp_path / "input")
    assert strict[2]
    assert not READERS["cbs"].is_wrong(good, strict)
    with any_checksum():
        lenient = READERS["cbs"].read(tmp_path / "input")
    assert not lenient[2]
    assert READERS["cbs"].is_wrong(good, lenient)


def test_altered_json_is_often_json_and_never_the_same() -> None:
    content = {"format": 1, "arguments": {"dim": 8, "sizes": [5, 5]}}
    texts = [altered_json(content, Random(seed)) for seed in range(200)]
    assert len(set(texts)) > 100
    assert max(map(len, texts)) > 100_000  # nested more deeply than readers can follow

    def parses(text: str) -> bool:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True

    assert 100 < sum(map(parses, texts)) < 200


def test_altered_json_depends_on_its_seed_alone() -> None:
    """A value that is put in by one seed is not altered, or put into itself, by another."""
    content = {"a": [0, 1], "b": {"c": 2}}
    first = [altered_json(content, Random(seed)) for seed in range(3000)]
    assert first == [altered_json(content, Random(seed)) for seed in range(3000)]


class TestCasesThatFailedOnce:
    """Each was an exception of another kind, or more than a line, when it was found."""

    def test_parquet_whose_footer_no_thrift_parser_takes(self, tmp_path: Path) -> None:
        trial = Trial("parquet", READERS["parquet"], tmp_path)
        found = [trial.run(seed) for seed in range(8, 16)]
        assert "crash" not in [outcome for outcome, _ in found], found

    def test_a_model_whose_tokens_have_no_places(self) -> None:
        with pytest.raises(UnsupportedInput, match="not levels from 0 on"):
            build_lm("tiny_gpt", {"codebook_sizes": [5], "places": []})
