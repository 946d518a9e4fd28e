"""Two runs side by side: all that was changed is named, and nothing where nothing was."""

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from codecbook.book.pages.compare import compare_runs, render_comparison, text_of
from codecbook.errors import CorruptInput, UnsupportedInput

ROOT = Path(__file__).resolve().parents[2]
RESULT: dict[str, Any] = {
    "bits": 8.0, "bits_low": 7.5, "bits_high": 8.5, "tokens": 100, "codec": "a", "exact.frame_ms": 0.2,
    "exact.encode_speedup_vs_upstream": 12.0, "exact.encode_speedup_vs_upstream_low": 11.0,
    "exact.encode_speedup_vs_upstream_high": 13.0, "conceal.stoi_107ms": 0.9, "codec_48khz.encode_rtf": 0.2,
    "headlines": [{"label": "Bits", "figure": "8.0 [7.5, 8.5]", "unit": "bits"}],
    "claims": [
        {"text": "bits fall", "holds": True, "hard": True, "figure": "0.2"},
        {"text": "it is fast", "holds": True, "hard": False, "figure": "9 times"},
    ],
    "provenance": {
        "git_commit": "a1", "cpu": "One", "seed": 0, "inputs": "", "packages": {"torch": "2.13.0"},
        "parameters": {"steps": 10}, "wall_s": 9.0, "started_utc": "2026-01-01T00:00:00+00:00", "peak_memory_mb": 1.0,
    },
}  # fmt: skip


def write(folder: Path, **stages: dict[str, Any]) -> Path:
    (folder / "results").mkdir(parents=True)
    for stage, result in stages.items():
        (folder / "results" / f"{stage}.json").write_text(json.dumps(result))
    return folder


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the result with one entry changed, or left out where the value is None."""
    result = copy.deepcopy(RESULT)
    *above, last = path.split("/")
    inner: Any = result
    for name in above:
        inner = inner[int(name) if name.isdigit() else name]
    if value is None:
        del inner[int(last) if last.isdigit() else last]
    else:
        inner[last] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "kind", "name", "counts"),
    [
        ("bits", 8.4, "within", "bits", False),
        ("bits", 8.6, "moved", "bits", True),
        ("bits_high", 8.6, "within", "bits", False),
        ("tokens", 101, "moved", "tokens", True),
        ("codec", "<b>", "moved", "codec", True),
        ("tokens", None, "missing", "tokens", True),
        ("more", 1, "missing", "more", True),
        ("conceal.stoi_107ms", 0.91, "moved", "conceal.stoi_107ms", True),
        ("conceal.stoi_107ms", 0.9 + 1e-8, "rounding", "conceal.stoi_107ms", False),
        ("codec_48khz.encode_rtf", 0.3, "timing", "codec_48khz.encode_rtf", False),
        ("headlines/0/figure", "8.1 [7.5, 8.5]", "told", "Bits", False),
        ("headlines/0", None, "missing", "Bits", True),
        ("claims/0/figure", "0.3", "told", "bits fall", False),
        ("exact.frame_ms", 0.9, "timing", "exact.frame_ms", False),
        ("exact.encode_speedup_vs_upstream", 40.0, "timing", "exact.encode_speedup_vs_upstream", False),
        ("claims/0/holds", False, "claim", "bits fall", True),
        ("claims/1/holds", False, "finding", "it is fast", False),
        ("claims/1", None, "missing", "it is fast", True),
        ("provenance/git_commit", "b2", "condition", "git_commit", False),
        ("provenance/cpu", "Other", "condition", "cpu", False),
        ("provenance/seed", 1, "condition", "seed", False),
        ("provenance/inputs", "0f", "condition", "inputs", False),
        ("provenance/packages/torch", "2.14.0", "condition", "package torch", False),
        ("provenance/parameters/steps", 20, "condition", "parameter steps", False),
    ],
)
def test_what_differs_is_named(tmp_path: Path, path: str, value: Any, kind: str, name: str, counts: bool) -> None:
    before, after = write(tmp_path / "a", stage=RESULT), write(tmp_path / "b", stage=changed(path, value))
    for runs in ((before, after), (after, before)):
        (difference,) = [each for each in compare_runs(*runs) if each.kind != "same"]
        assert (difference.kind, difference.stage, difference.name, difference.counts) == (kind, "stage", name, counts)
        assert difference.change or difference.before != difference.after
        assert name in text_of([difference])


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return all that a result holds by its path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {whole: each for name, inner in items for whole, each in leaves(inner, f"{path}/{name}").items()}
    return {path.lstrip("/"): value}


def altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return f"other than {value}" if isinstance(value, str) else value + 1


def test_whatever_is_altered_is_named(tmp_path: Path) -> None:
    before = write(tmp_path / "before", stage=RESULT)
    unsaid = []
    for number, (path, value) in enumerate(leaves(RESULT).items()):
        after = write(tmp_path / str(number), stage=changed(path, altered(value)))
        if all(each.kind == "same" for each in compare_runs(before, after)):
            unsaid.append(path)
    # whether a claim must hold follows from parameters and data; times and memory are never the same
    assert unsaid == ["claims/0/hard", "claims/1/hard", "provenance/wall_s", "provenance/started_utc",
                      "provenance/peak_memory_mb"]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("claims", [{"text": "bits fall", "holds": True}]), ("claims", "none"), ("headlines", {"bits": 8}),
        ("provenance", "a1"), ("provenance/packages", ["torch"]),
    ],
)  # fmt: skip
def test_a_result_of_another_version_is_refused_with_its_remedy(tmp_path: Path, path: str, value: Any) -> None:
    runs = write(tmp_path / "a", stage=RESULT), write(tmp_path / "b", stage=changed(path, value))
    with pytest.raises(
        CorruptInput, match=r"stage.json was written by another version .*; delete it and run ./run_all"
    ):
        compare_runs(*runs)


def test_nothing_differs_between_equal_runs_whenever_and_however_fast(tmp_path: Path) -> None:
    later = copy.deepcopy(RESULT)
    later["provenance"] |= {"wall_s": 99.0, "started_utc": "2026-02-01T00:00:00+00:00", "peak_memory_mb": 2.0}
    differences = compare_runs(write(tmp_path / "a", stage=RESULT), write(tmp_path / "b", stage=later))
    assert {each.kind for each in differences} == {"same"}
    assert text_of(differences) == "0 differences that count, 7 figures the same."


def test_a_stage_of_one_run_alone_and_conditions_of_all(tmp_path: Path) -> None:
    other = changed("provenance/cpu", "Other")
    before = write(tmp_path / "a", one=RESULT, two=RESULT, three=RESULT, four=RESULT)
    after = write(tmp_path / "b", two=other, three=other, four=other, five=other)
    said = [(each.kind, each.stage, each.name) for each in compare_runs(before, after) if each.kind != "same"]
    assert said == [
        ("condition", "four, three, two", "cpu"), ("missing", "five", "stage"), ("missing", "one", "stage"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedInput, match="holds no results"):
        compare_runs(before, tmp_path)


def test_the_page_has_all_figures_and_runs_no_foreign_text(tmp_path: Path) -> None:
    runs = write(tmp_path / "a", stage=RESULT), write(tmp_path / "b", stage=changed("codec", "<script>x</script>"))
    for run in runs:
        story = '<section class="summary"><div class="told"><img alt="a picture" src="data:,"></div></section>'
        (run / "stage.html").write_text(f"<main>{story}</main>")
    page = render_comparison(*runs, compare_runs(*runs), tmp_path / "page.html").read_text()
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.select("script")
    assert [row.get_text() for row in soup.select("tr.counts th")] == ["codec"]
    assert len(soup.select("tr.same")) == 6
    assert len(soup.select(".pair img")) == 2


def test_the_exit_status_says_whether_anything_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "workflow")
    command = importlib.import_module("compare")
    runs = [write(tmp_path / "a", stage=RESULT), write(tmp_path / "b", stage=changed("tokens", 101))]
    assert command.main([str(runs[0]), str(runs[0])]) == 0
    assert command.main([*map(str, runs), "--out", str(tmp_path / "page.html")]) == 1
    assert "tokens: 100 -> 101 (+1 %)" in capsys.readouterr().out
    for wrong in (["fast"], [str(runs[0]), str(tmp_path / "none")]):
        with pytest.raises(SystemExit) as stop:
            command.main(wrong)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("run_all.sh compare: ")
