"""The committed sample report: whole, small, without a place of the machine that made it, and made by one command."""

import base64
import gzip
import html
import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "reports" / "sample"
MOST_BYTES = 4_000_000
PLACE = re.compile(r"(?<![\w.~/<-])/(?:home|root|tmp|work|Users|mnt|var)/[^\s\"'<>]+")


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    return importlib.import_module("sample")


def unpacked(page: Path) -> dict[str, str]:
    (packed,) = re.findall(r'id="packed">(.*?)</script>', page.read_text(), re.DOTALL)
    return {name: gzip.decompress(base64.b64decode(text)).decode() for name, text in json.loads(packed).items()}


def test_it_is_whole_and_small_and_says_what_the_readme_says(sample: ModuleType) -> None:
    page = SAMPLE / sample.PAGE
    assert page.stat().st_size < MOST_BYTES
    pages = unpacked(page)
    assert set(pages) == {"index.html", *(f"{stage}.html" for stage in sample.REPORTS)}
    for text in (page.read_text(), *pages.values()):
        assert "default-src 'none'" in html.unescape(text), "nothing is fetched"
    answers = pd.read_csv(SAMPLE / sample.ANSWERS)
    shown = html.unescape(re.sub(r"\s+", " ", pages["09_summary.html"]))
    assert [answer for answer in answers.answer if answer not in shown] == []
    assert len(answers) == len(pd.read_csv(ROOT / "lib" / "codecbook" / "book" / "assets" / "questions.csv"))


def test_it_names_no_place_of_a_machine(sample: ModuleType) -> None:
    texts = {**unpacked(SAMPLE / sample.PAGE), **{path.name: path.read_text() for path in SAMPLE.iterdir()}}
    assert {name: found for name, text in texts.items() if (found := PLACE.findall(text))} == {}


def test_a_run_becomes_the_sample(sample: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "mine"
    for folder in ("results", "notebooks", "artifacts/09_summary"):
        (run / folder).mkdir(parents=True)
    for stage in sample.REPORTS:
        (run / f"{stage}.html").write_text(f"<main><h1>{stage}</h1> {ROOT}/lib {Path.home()}/.cache</main>")
    result = json.loads((SAMPLE / sample.RESULT).read_text())
    (run / "results" / sample.RESULT).write_text(
        json.dumps({**result, "skipped.arm": f"{Path.home()}/roots is missing"})
    )
    answer = {"question": "Q?", "answer": "A.", "figure": "1", "notebook": "02_entropy_model", "label": "L"}
    pd.DataFrame([answer]).to_csv(run / "artifacts/09_summary/answers.csv", index=False)
    readme = tmp_path / "README.md"
    readme.write_text("# T\n\n<!-- results: by workflow/sample.py -->\nstale\n<!-- end of results -->\n\nmore\n")
    for _ in range(2):
        assert sample.main([str(run), "--root", str(tmp_path)]) == 0
    pages = unpacked(tmp_path / "reports" / "sample" / sample.PAGE)
    assert "./lib ~/.cache" in pages["02_entropy_model.html"]
    assert "~/roots is missing" in pages["index.html"]
    text = readme.read_text()
    assert text.count("| **Q?** | A. | 1 | [02](notebooks/02_entropy_model.ipynb) |") == 1
    assert "stale" not in text
    assert text.endswith("\n\n<!-- end of results -->\n\nmore\n")
    (run / "02_entropy_model.html").unlink()
    with pytest.raises(SystemExit):
        sample.main([str(run), "--root", str(tmp_path)])
    assert "02_entropy_model.html" in capsys.readouterr().err
