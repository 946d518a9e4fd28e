import io
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from codecbook.book import tables
from codecbook.errors import UnsupportedInput


def cells(frame: pd.DataFrame, **arguments) -> list[list[str]]:
    soup = BeautifulSoup(tables.to_html(frame, "What it says", **arguments), "html.parser")
    return [[cell.get_text() for cell in row.select("th, td")] for row in soup.select("tr")]


def test_heads_rows_and_caption_are_accessible():
    frame = pd.DataFrame({"codec": ["a<b", "c"], "si_sdr_db": [1.0, -12.25]})
    soup = BeautifulSoup(tables.to_html(frame, "Codecs & quality"), "html.parser")
    assert soup.caption is not None
    assert soup.caption.get_text() == "Codecs & quality CSV"
    assert [th["scope"] for th in soup.select("thead th")] == ["col", "col"]
    assert [th["scope"] for th in soup.select("tbody th")] == ["row", "row"]
    assert [cell.get("style") for cell in soup.select("thead th")] == ["text-align:left", "text-align:right"]
    assert [[c.get_text() for c in row] for row in soup.select("tr")] == [
        ["Codec", "SI-SDR (dB)"], ["a<b", "1.00"], ["c", "\u221212.25"],
    ]  # fmt: skip


def test_the_csv_beside_a_table_has_exact_values_and_no_formulas():
    texts = ["=1+1", "@x", "-1+A1", "-12.5", "+3", "a\nb", '"q", r']
    frame = pd.DataFrame({"=name": texts, "x": [1 / 3, None, -2.0, 0.1, 1e-9, 5.0, 6.0], "n": range(7)})
    link = BeautifulSoup(tables.to_html(frame, "Rates: <all>"), "html.parser").select_one("a.csv")
    assert link["download"] == "rates-all.csv"
    kind, _, data = link["href"].partition(",")
    assert kind == "data:text/csv;charset=utf-8"
    read = pd.read_csv(io.StringIO(unquote(data)))
    assert read.columns.tolist() == ["'=name", "x", "n"]
    assert read["'=name"].tolist() == ["'=1+1", "'@x", "'-1+A1", *texts[3:]]
    np.testing.assert_array_equal(read["x"], frame["x"].astype(float))
    assert read["n"].tolist() == [*range(7)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 20_000], ["1", "20\u202f000"]),
        ([0.5, 0.25], ["0.5000", "0.2500"]),
        ([1234.5, 2.0], ["1\u202f234", "2"]),
        ([1e-7, 10.0], ["1e-07", "10"]),
        ([1.5, None], ["1.50", "–"]),
        ([True, False], ["yes", "no"]),
        (["x", None], ["x", "–"]),
        ([0.0, 0.0], ["0", "0"]),
        ([float("inf"), 1.0], ["inf", "1.000"]),
    ],
)
def test_digits(values, expected):
    shown = [row[-1] for row in cells(pd.DataFrame({"v": values}))[1:]]
    assert shown == [text if text != "1.50" else "1.500" for text in expected]


def test_formats_by_column():
    frame = pd.DataFrame({"share": [0.123, -0.5], "name": ["a", "b"]})
    shown = cells(frame, formats={"share": ".1%", "name": str.upper})
    assert shown[1:] == [["12.3%", "A"], ["\u221250.0%", "B"]]


def test_named_index_becomes_columns_and_plain_index_goes():
    frame = pd.DataFrame({"codec": ["a", "b"], "rate": [3, 6]})
    assert cells(frame)[0] == ["Codec", "Rate"]
    assert cells(frame.set_index("codec"))[1] == ["a", "3"]
    wide = frame.groupby("codec").agg({"rate": ["min", "max"]})
    assert cells(wide)[0] == ["Codec", "rate min", "rate max"]


def test_bad_calls_are_refused():
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(UnsupportedInput, match="caption"):
        tables.to_html(frame, " ")
    with pytest.raises(UnsupportedInput, match="at least one column"):
        tables.to_html(pd.DataFrame(), "x")
    with pytest.raises(UnsupportedInput, match=r"\['b'\]"):
        tables.to_html(frame, "x", {"b": ".1f"})


def test_recorded_figures_have_digits_of_their_own(monkeypatch):
    shown = []
    monkeypatch.setattr(tables, "display", lambda page: shown.append(page.data))
    tables.show_figures({"steps": 12_000, "error": 0.34519, "rate": -2.0694, "ok": True, "skipped.b": "none"})
    soup = BeautifulSoup(shown[0], "html.parser")
    assert [[cell.get_text() for cell in row.select("th, td")] for row in soup.select("tbody tr")] == [
        ["steps", "12\u202f000"], ["error", "0.3452"], ["rate", "\u22122.069"], ["ok", "yes"],
    ]  # fmt: skip


def test_published_rates_agree_with_their_own_definitions() -> None:
    rows = tables.published("bits_per_second")
    is_text, is_v2 = (rows[column].str.contains(word) for column, word in (("stream", "text"), ("source", "v2")))
    assert rows["stream"][is_text & is_v2].str.contains("under-trained").all(), "its source says so"
    assert rows.source.str.startswith("audio-bits v").tolist() == [True] * 6
    capacity = np.log2(rows.vocabulary_size)
    # printed with two to four digits
    np.testing.assert_allclose(rows.bits_per_s, rows.bits_per_token * rows.tokens_per_s, rtol=0.02)
    np.testing.assert_allclose(rows.capacity_bits_per_s, rows.tokens_per_s * capacity, rtol=0.02)
    np.testing.assert_allclose(rows.utilisation, rows.bits_per_token / capacity, atol=0.01)
    np.testing.assert_allclose(rows.training_flops, 6 * 18_881_024 * rows.train_tokens, rtol=0.05)


def test_published_figures_of_determinism_are_ranges_with_a_source() -> None:
    table = tables.published("determinism")
    assert (table.low <= table.high).all()
    assert table[["setting", "quantity", "unit", "source"]].map(len).to_numpy().min() > 0
    assert table[table.unit == "share"].high.max() <= 1
    wide = table[(table.coder == "grid128") & (table.unit == "per million")]
    assert (wide.low.min(), wide.high.max()) == (7, 247)
    assert not table.duplicated(["setting", "quantity"]).any()
