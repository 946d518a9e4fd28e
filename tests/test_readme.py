"""README.md: every command in it is run, or parsed where it takes long, and its table is what the sample's run says."""

import importlib
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from codecbook import __main__ as console
from codecbook.book.listen.answers import write_answers

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "reports" / "sample"
WEIGHTS = "codecbook.probes.weights"
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", README))]
OPTIONS = [span for span in SPANS if span.startswith("--")]


# what has a space, and is no command: parameters of a stage, options by themselves, a call in Python
NO_COMMAND = re.compile(r"\w+: \{|--\w|\w+\(")


def commands() -> list[str]:
    """Return all lines of shell blocks, and all that stands in backticks and could be a command."""
    lines = [line for language, text in FENCE.findall(README) if not language for line in text.splitlines()]
    could_be = [span for span in SPANS if span.startswith("./") or (" " in span and not NO_COMMAND.match(span))]
    spans = [part for span in could_be for part in span.split(" && ")]
    return list(dict.fromkeys([re.split(r" +# ", line)[0] for line in lines if line] + spans))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, where commands run, and which is the home folder; with a second of speech."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("workflow", "tools"):
        monkeypatch.syspath_prepend(ROOT / folder)
    noise = np.random.default_rng(0).standard_normal(24_000) * np.hanning(24_000)
    soundfile.write("speech.wav", 0.1 * noise, 24_000)
    for folder in ("recordings", "music/album"):
        Path(folder).mkdir(parents=True)
    soundfile.write("music/album/song.mp3", 0.1 * noise, 24_000)
    Path("my.yaml").write_text("01_tokenize: {max_clips: 4}\n")
    return tmp_path


def part(name: str) -> ModuleType:
    return importlib.import_module(name)


def parsed(place: Path, words: list[str]) -> None:
    assert part("run").main([*words[1:], "--check"]) == 0


def listed(place: Path, words: list[str]) -> None:
    """For what would start a server, or the tests themselves: `--help` has it."""
    assert re.search(rf"^ +\./run_all\.sh {words[1]} |^ +{words[1]} ", (ROOT / "run_all.sh").read_text(), re.MULTILINE)


def of_workflow(place: Path, words: list[str]) -> None:
    """Run a part of the workflow, on runs that lie here; two of them take too long."""
    for name in ("before", "after", "fast"):
        results = place / "reports" / name / "results"
        results.mkdir(parents=True)
        shutil.copy(SAMPLE / "09_summary.json", results)
        (results.parent / "index.html").write_text("an index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part("usage"), "ROOT", place)
        long = words[1] in ("bench", "corpus")
        assert part(words[1]).main(words[2:] + ["--check"] * long) == 0
    if "--out" in words and not long:
        assert Path(words[-1]).stat().st_size > 0


def of_sample(place: Path, words: list[str]) -> None:
    """Have the README's table written anew; the page is taken as it is."""
    sample = part("sample")
    (place / "run" / "results").mkdir(parents=True)
    (place / "README.md").write_text(sample.BLOCK.sub("", README))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "write_sample", lambda run, folder: SAMPLE / "codecbook.html")
        assert sample.main(["run", "--root", str(place)]) == 0
    assert (place / "README.md").read_text() == README, "call python workflow/sample.py RUN"


def in_full(place: Path, words: list[str]) -> None:
    assert console.main(words[1:]) == 0


def with_help(place: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        console.main([*(words[1:] if words[0] == "codecbook" else ["codecs"]), "--help"])
    assert stop.value.code == 0


def without_work(place: Path, words: list[str]) -> None:
    """Have a command line parsed, by a module that does nothing then."""
    module, arguments = ("foreign", words[2:]) if words[0] == "python" else (f"{WEIGHTS}.__main__", words[2:])
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part(module), "exit_status", lambda *_, **__: asked.append(1) or 0)
        assert part(module).main(arguments) == 0
    assert asked


def reads_a_variable(place: Path, words: list[str]) -> None:
    assert words[1].partition("=")[0] in (ROOT / "lib" / "codecbook" / "paths.py").read_text()


def installs(place: Path, words: list[str]) -> None:
    """Installing takes a network: what is named is known to the project."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {re.split(r"[ ;<>=!~\[]", name)[0] for name in extras["measures"]} | {
        f"codecbook[{name}]" for name in extras
    }
    known |= set((ROOT / "requirements.lock").read_text().splitlines())
    for word in words[2:]:
        assert word.startswith("-") or word == "." or word in known or (ROOT / word).is_file(), word


CHECKS: dict[Callable[[Path, list[str]], None], tuple[str, ...]] = {
    parsed: (
        "./run_all.sh", "./run_all.sh --clips ~/recordings", "./run_all.sh --sweep clip_length",
        "./run_all.sh --preset my.yaml",
    ),
    listed: ("./run_all.sh lab", "./run_all.sh test", "./run_all.sh --help"),
    of_workflow: (
        "./run_all.sh compare before after --out page.html", "./run_all.sh export fast --out fast.html",
        "./run_all.sh doctor", "./run_all.sh bench", "./run_all.sh corpus FOLDER --out CORPUS",
    ),
    of_sample: ("python workflow/sample.py fast",),
    in_full: (
        'codecbook codecs export "music/**/*.mp3" --codec encodec_24khz --outdir tokens', "codecbook codecs list",
        "codecbook coding compress speech.wav speech.cbs",
    ),
    with_help: (
        "codecbook determinism export", "codecbook determinism run", "codecbook determinism import",
        "codecbook lm train", "codecbook lm export", "python -m codecbook.codecs", "codecbook codecs fetch mimi",
    ),
    without_work: (
        "python tools/foreign.py arm64 s390x --torch",
        "codecbook weights compress encodec_24khz --step 1e-4 --out small.cbw",
    ),
    reads_a_variable: ("export CODECBOOK_DATA=/path/to/it/data",),
    installs: (
        "pip install --no-deps -r requirements.lock", "pip install --no-deps -e .",
        "pip install 'codecbook[measures]'", "pip install .", "pip install --no-deps encodec==0.1.1",
        "pip install --no-deps speechmos resemblyzer pocketsphinx visqol-python swift-f0",
    ),
}  # fmt: skip
HOW = {command: check for check, listed_ones in CHECKS.items() for command in listed_ones}


def test_no_command_is_left_out() -> None:
    assert sorted(commands()) == sorted(HOW)


@pytest.mark.parametrize("command", HOW)
def test_a_command(command: str, place: Path) -> None:
    HOW[command](place, shlex.split(command))


def test_options_and_subcommands_that_are_named_alone_exist(capsys: pytest.CaptureFixture) -> None:
    said = (ROOT / "run_all.sh").read_text()
    for arguments in (["codecs"], ["coding"], ["coding", "compress"], ["coding", "decompress"], ["weights"]):
        with pytest.raises(SystemExit):
            console.main([*arguments, "--help"])
    said += capsys.readouterr().out
    alone = {"to-wav", "inspect", "decompress", "verify", "convert"}
    assert alone <= set(SPANS)
    for span in [*OPTIONS, *alone]:
        assert re.search(rf"(?<![\w-]){re.escape(span.split()[0])}\b", said), span


def test_the_python_runs(place: Path) -> None:
    listening, package, coding = (text for language, text in FENCE.findall(README) if language == "python")
    row = {"schema": "codecbook-answers-1", "test": "abx", "title": "A", "listener": "me", "session": "0123abcd",
           "trial": 1, "item": "speech", "condition": "A", "vote": "A", "played_s": "1.50",
           "time_utc": "2026-01-01T12:00:00.000Z"}  # fmt: skip
    answers = place / "reports/interactive/artifacts/listening"
    answers.mkdir(parents=True)
    write_answers([row], answers / "a.csv")
    names: dict[str, Any] = {}
    exec(package, names)
    assert (place / "four_codebooks.wav").is_file()
    exec(coding, names)
    assert names["decoded"].damage == []
    exec(listening, {**names, "decoded": names["decoded"].clip})


def test_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_prose_is_no_wider_than_the_code() -> None:
    wide = [line for line in README.splitlines() if len(line) > 120 and not line.startswith(("|", "!["))]
    assert wide == []
