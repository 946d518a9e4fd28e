"""`09_summary` on planted results: what it says of them, of those that are missing, and which claims fail then."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from codecbook.book import questions, results

ROOT = Path(__file__).resolve().parents[2]
STAGES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb") if path.stem != "09_summary")
COMPLETE, ANSWERED, ONE_MAKER = "Every notebook", "Every sentence", "One commit"


def planted() -> dict[str, dict[str, Any]]:
    """Return results of all notebooks, by one commit, with every headline that a sentence asks for."""
    facts = {"parameters": {}, "wall_s": 60.0, "git_commit": 40 * "a", "git_dirty": False, "cpu": "a processor"}
    found: dict[str, dict[str, Any]] = {stage: {"headlines": [], "claims": [], "provenance": facts} for stage in STAGES}
    for row in pd.read_csv(questions.SENTENCES).to_dict("records"):
        for label in row["labels"].split("; "):
            head = {"label": f"{label} and so on", "figure": "7.5 [7.0, 8.0] (95 %, n=36)", "unit": "bits"}
            found[row["stage"]]["headlines"].append(head)
    return found


def summed_up(found: dict[str, dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the notebook in this process and return its variables."""
    for stage, result in found.items():
        path = folder / "results" / f"{stage}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result))
    monkeypatch.setenv("CODECBOOK_RUN_DIR", str(folder))
    monkeypatch.chdir(ROOT / "notebooks")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in nbformat.read(ROOT / "notebooks" / "09_summary.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)
    return names


def verdict(run: results.Run, words: str) -> bool | None:
    (claim,) = [claim for claim in run.claims if claim.text.startswith(words)]
    return claim.holds


def test_a_whole_run_of_one_commit(tmp_path, monkeypatch, capsys) -> None:
    names = summed_up(planted(), tmp_path, monkeypatch)
    assert [verdict(names["run"], words) for words in (COMPLETE, ANSWERED, ONE_MAKER)] == [True] * 3
    assert len(names["answers"]) == len(pd.read_csv(questions.SENTENCES))
    assert {head.figure for head in names["run"].headlines} == {"7.5 [7.0, 8.0] (95 %, n=36)"}
    assert "Every claim of every notebook holds here." in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "artifacts" / "09_summary" / "answers.csv")
    assert set(written.figure) == {"7.5 bits [7.0, 8.0], n=36"}


def test_what_is_missing_or_does_not_belong_together_is_said(tmp_path, monkeypatch, capsys) -> None:
    found = planted()
    del found["05_determinism"], found["02_entropy_model"]
    found["06_corruption"]["provenance"] = {**found["06_corruption"]["provenance"], "git_commit": 40 * "b"}
    found["06_corruption"]["claims"] = [{"text": "No packet is lost", "holds": False, "hard": False, "figure": "3"}]
    names = summed_up(found, tmp_path, monkeypatch)
    assert [verdict(names["run"], words) for words in (COMPLETE, ANSWERED, ONE_MAKER)] == [False, None, False]
    assert "missing: 02_entropy_model, 05_determinism" in names["run"].claims[0].figure
    assert {"02_entropy_model", "05_determinism"}.isdisjoint(names["answers"].notebook)
    assert list(names["rest"].claim) == ["No packet is lost"]


@pytest.mark.parametrize("change", ["label", "dirty"])
def test_a_headline_by_another_name_and_a_changed_checkout_fail(change, tmp_path, monkeypatch, capsys) -> None:
    found = planted()
    if change == "label":
        found["04_bitstream"]["headlines"][0]["label"] = "Renamed"
    else:
        for result in found.values():
            result["provenance"]["git_dirty"] = True
    run = summed_up(found, tmp_path, monkeypatch)["run"]
    assert (verdict(run, ANSWERED), verdict(run, ONE_MAKER)) == (change != "label", change != "dirty")


def test_no_results_at_all_are_no_failure(tmp_path, monkeypatch, capsys) -> None:
    run = summed_up({}, tmp_path, monkeypatch)["run"]
    assert (run.headlines, verdict(run, COMPLETE), run.figures["notebooks"]) == ([], False, 0)


def test_the_table_has_a_heading_for_each_question_and_links(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(questions, "display", lambda page: shown.append(page.data))
    found = questions.answers(planted())
    questions.show(found, "A caption")
    (page,) = shown
    asked = found.question.nunique()
    assert page.count('scope="rowgroup"') == asked == 4
    assert page.count('.ipynb">') == page.count('<th scope="row"') == len(found)
    assert '<a href="04b_formats.ipynb">04b</a>' in page
    markdown = questions.to_markdown(found, "notebooks").splitlines()
    assert len(markdown) == len(found) + 2
    assert sum(line.startswith("| **") for line in markdown) == asked


def test_figures_keep_their_units_and_counts() -> None:
    def answered(*heads: tuple[str, str, str]) -> str:
        keys = ("label", "figure", "unit")
        found = {"04b_formats": {"headlines": [dict(zip(keys, head, strict=True)) for head in heads]}}
        answers = questions.answers(found)
        return f"{answers.answer.item()} / {answers.figure.item()}"

    rival = ("Best compressor (zstd)", "9.41", "bits")
    told = answered(("Exact coder", "7.5 (n=1; too few for an interval)", "bits"), rival)
    assert told.endswith("takes 7.5 bits as the exact coder writes it, and 9.41 as the best general compressor does. / "
                         "7.5 bits, n=1; too few for an interval")  # fmt: skip
    assert answered(("Exact coder", "11.2 (n=19,200 tokens)", "bits per weight"), rival).endswith(
        "/ 11.2 bits per weight, n=19,200 tokens"
    )
    assert answered(("Exact coder", "0 of 954", ""), rival).endswith("9.41 bits as the best general compressor does. "
                                                                     "/ 0 of 954")  # fmt: skip
