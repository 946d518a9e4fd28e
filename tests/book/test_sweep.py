"""The page of a sweep, of results that are written down here."""

import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from codecbook.book.grid import Figure, Grid, Point
from codecbook.book.pages.sweep import render_sweep
from codecbook.errors import UnsupportedInput

RATE, QUALITY = Figure("02_code", "bitrate_kbps"), Figure("02_code", "{codec}.stoi")
PROVENANCE = {"git_commit": "0123456789abcdef", "git_dirty": False, "wall_s": 90.0, "cpu": "A CPU", "cores": 2}
# by codec and dim: rate and quality; the second of a beats its first in both, nothing has less than b's first
FOUND = {("a", 1): (3.0, 0.5), ("a", 20): (2.0, 0.9), ("b", 1): (1.0, 0.4), ("b", 20): (4.0, 0.9)}


def make_grid(axes: dict, frontier: bool = True) -> Grid:
    points = []
    for values in itertools.product(*axes.values()):
        name = "+".join(f"{axis}~{value}" for axis, value in zip(axes, values, strict=True))
        points.append(Point(dict(zip(axes, values, strict=True)), {"01_train": "shared", "02_code": name}))
    return Grid("Is <more> better?", axes, [QUALITY, RATE], {RATE: "less", QUALITY: "more"} if frontier else {}, points)


def write(run_dir: Path, grid: Grid, interval: bool = True) -> None:
    result("01_train", run_dir, "shared", {})
    for point in grid.points:
        codec, dim = point.values["codec"], point.values["dim"]
        rate, stoi = FOUND[codec, dim]
        figures = {"bitrate_kbps": rate, f"{codec}.stoi": stoi}
        ends = {f"{codec}.stoi_low": stoi - 0.1, f"{codec}.stoi_high": stoi + 0.1} if interval else {}
        result("02_code", run_dir, point.folders["02_code"], {**figures, **ends})


def result(stage: str, run_dir: Path, folder: str, figures: dict) -> None:
    path = run_dir / "points" / folder / "results" / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**figures, "provenance": PROVENANCE}))
    (path.parents[1] / f"{stage}.html").write_text("a report")


@pytest.fixture
def grid() -> Grid:
    return make_grid({"codec": ["a", "b"], "dim": [1, 20]})


def page_of(run_dir: Path, grid: Grid) -> BeautifulSoup:
    html = render_sweep(run_dir, grid)
    assert html == run_dir / "index.html"
    return BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")


def series(figure) -> dict[str, list]:
    return {one["name"]: one["points"] for one in json.loads(figure.select_one("[data-points]")["data-points"])}


def test_a_page_of_all_points(tmp_path: Path, grid: Grid) -> None:
    write(tmp_path, grid)
    page = page_of(tmp_path, grid)
    assert page.h1.text == "Is <more> better?"
    facts = {each.dt.text: each.dd.text for each in page.select("dl.facts > div")}
    assert (facts["Points"], facts["Runs of notebooks"], facts["dim"]) == ("4", "5 ok", "1, 20")
    assert facts["Wall time of all runs"] == "7.5 min"
    assert [heading.text for heading in page.select("h2")] == ["Frontier", "Against codec", "Against dim", "All points"]
    assert not page.select("[src^=http], [href^=http], link")
    for link in page.select("td a"):
        assert (tmp_path / unquote(link["href"])).is_file()
    rows = [[cell.text for cell in row.select("th, td")] for row in page.select("tbody tr")]
    assert [row[:3] for row in rows] == [
        ["a", "1", "no"], ["a", "20", "yes"], ["b", "1", "yes"], ["b", "20", "no"],
    ]  # fmt: skip
    assert all(row[3:5] == ["✓ ok", "✓ ok"] for row in rows)
    csv = unquote(page.select_one("a.csv")["href"])
    assert "codec,dim,frontier,01_train,02_code,stoi,stoi_low,stoi_high,bitrate_kbps" in csv
    assert "a,20,True,ok: points/shared/01_train.html,ok: points/codec~a%2Bdim~20/02_code.html,0.9,0.8,1.0,2.0" in csv


def test_figures_hold_every_point_with_its_interval(tmp_path: Path, grid: Grid) -> None:
    write(tmp_path, grid)
    frontier, by_codec, by_dim = page_of(tmp_path, grid).select("figure")
    assert {name: [point[2:] for point in points] for name, points in series(frontier).items()} == {
        "codec a": [["3", "0.5 [0.4, 0.6]"], ["2", "0.9 [0.8, 1]"]],
        "codec b": [["1", "0.4 [0.3, 0.5]"], ["4", "0.9 [0.8, 1]"]],
    }
    assert "On the frontier: codec b, dim 1: 1, 0.4; codec a, dim 20: 2, 0.9." in frontier.img["alt"]
    assert [point[2:] for point in series(by_codec)["dim 20"]] == [["a", "2"], ["b", "4"]], "the last panel's"
    assert {point[2] for point in series(by_dim)["codec b"]} == {"1", "20"}


def test_failed_points_and_such_as_did_not_run(tmp_path: Path, grid: Grid) -> None:
    write(tmp_path, grid, interval=False)
    failed, missing = (tmp_path / "points" / f"codec~b+dim~{dim}" for dim in (1, 20))
    for folder in (failed, missing):
        (folder / "results" / "02_code.json").unlink()
    (missing / "02_code.html").unlink()
    (failed / "logs").mkdir()
    (failed / "logs" / "02_code.log").write_text("08:00 began\nValueError: <no luck> (cell [2])\n")
    page = page_of(tmp_path, grid)
    assert page.select_one("main > ul li").text == "02_code, codec~b+dim~1: ValueError: <no luck> (cell [2])"
    rows = [[cell.text for cell in row.select("th, td")] for row in page.select("tbody tr")]
    assert [row[4] for row in rows] == ["✓ ok", "✓ ok", "✗ failed", "– not run"]
    assert "stoi_low" not in unquote(page.select_one("a.csv")["href"])
    assert "3 ok, 1 failed, 1 not run" in page.text


def test_a_sweep_without_any_result(tmp_path: Path, grid: Grid) -> None:
    page = page_of(tmp_path, grid)
    assert [heading.text for heading in page.select("h2")] == ["All points"]


def test_many_lines_give_way_to_their_mean(tmp_path: Path) -> None:
    axes = {"dim": [1, 20], "seed": [*range(7)]}
    grid = make_grid({"codec": ["a"], **axes}, frontier=False)
    write(tmp_path, grid)
    by_dim, by_seed = page_of(tmp_path, grid).select("figure")
    assert [*series(by_dim)] == ["mean of 7"]
    assert [*series(by_seed)] == ["dim 1", "dim 20"]


def test_a_figure_that_no_result_has(tmp_path: Path, grid: Grid) -> None:
    write(tmp_path, grid)
    wrong = Grid(grid.question, grid.axes, [Figure("02_code", "bitrate_kpbs")], {}, grid.points)
    with pytest.raises(UnsupportedInput, match=re.escape("did you mean 'bitrate_kbps'? Known: bitrate_kbps, a.stoi")):
        render_sweep(tmp_path, wrong)
    assert "All points" in (tmp_path / "index.html").read_text(encoding="utf-8")
