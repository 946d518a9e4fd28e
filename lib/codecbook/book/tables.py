"""Tables for readers: captioned, accessible, with digits that can be compared at a glance."""

import html
import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from IPython.display import HTML, display

from codecbook.book.labels import ASSETS, axis_label, value_text
from codecbook.errors import UnsupportedInput

Format = str | Callable[[Any], str | HTML]
# what a spreadsheet would compute: all that begins so, signs before a number aside
_FORMULA = re.compile(r"\s*([=@＝＠\t\r]|[-+＋－](?!(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$))", re.IGNORECASE)
_MISSING = '<span aria-label="no value">–</span>'


def show(
    dataframe: pd.DataFrame, caption: str, formats: Mapping[str, Format] | None = None, *, story: bool = False
) -> None:
    """Display a table; see `to_html`. One with `story` stands at the top of the report too."""
    page = to_html(dataframe, caption, formats)
    display(HTML(page.replace('class="', 'class="story ', 1) if story else page))


def published(name: str) -> pd.DataFrame:
    """Return figures that others measured, each with its source: the table ``assets/published/<name>.csv``."""
    return pd.read_csv(ASSETS / "published" / f"{name}.csv", keep_default_na=False)


def show_figures(figures: Mapping[str, Any], caption: str = "Headline figures") -> None:
    """Display what a run has recorded, one figure a line, each with digits of its own."""
    shown = {key: value for key, value in figures.items() if not key.startswith("skipped.")}
    frame = pd.DataFrame({"figure": list(shown), "value": pd.Series(list(shown.values()), dtype=object)})
    show(frame, caption, {"value": value_text})


def to_html(dataframe: pd.DataFrame, caption: str, formats: Mapping[str, Format] | None = None) -> str:
    """Render a table as HTML with caption, column scopes and right-aligned numbers.

    An index with a name becomes the leading columns; one without a name is left out. Column names become headings
    as axis labels do (``bitrate_kbps``: "Bitrate (kbps)"). A column of floats gets as many decimals as its largest
    value needs for four significant digits, so that points align; where a column spans more than five decades,
    each value has three digits. `formats` chooses otherwise by column: with a format specification (``".2f"``) or a
    function from value to text or ``HTML``.
    """
    formats, table = formats or {}, dataframe.copy()
    if isinstance(table.columns, pd.MultiIndex):
        table.columns = [" ".join(str(part) for part in parts if str(part)) for parts in table.columns]
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    if table.shape[1] == 0 or not caption.strip():
        raise UnsupportedInput("A table needs at least one column and a caption; received none.")
    unknown = [name for name in formats if name not in table.columns]
    if unknown:
        raise UnsupportedInput(f"Formats name {unknown}, but the columns are {list(table.columns)}; correct the names.")
    head, columns = "", []
    for j, name in enumerate(table.columns):
        cells, is_number = _column(table.iloc[:, j].tolist(), formats.get(name))
        align = f' style="text-align:{"right" if is_number else "left"}"'
        head += f'<th scope="col"{align}>{html.escape(axis_label(str(name)))}</th>'
        tag, scope = ("th", ' scope="row"') if j == 0 and not is_number else ("td", "")
        columns.append([f"<{tag}{scope}{align}>{text}</{tag}>" for text in cells])
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in zip(*columns, strict=True))
    title = html.escape(caption)
    return (
        f'<div class="codecbook-table scroll" tabindex="0" role="group" aria-label="{title}" style="overflow-x:auto">\n'
        f"<table>\n<caption><span>{title} {_csv_link(table, caption)}</span></caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def to_csv(table: pd.DataFrame) -> str:
    """Return a table's columns as CSV with exact values, which no spreadsheet takes for formulas.

    Text that begins like a formula has an apostrophe before it (OWASP, "CSV Injection").
    """

    def guarded(value: Any) -> Any:
        if isinstance(value, numbers.Number) or _is_missing(value):
            return value
        return f"'{value}" if _FORMULA.match(str(value)) else str(value)

    return table.rename(columns=guarded).map(guarded).to_csv(index=False)


def _csv_link(table: pd.DataFrame, caption: str) -> str:
    """Return a link that holds the CSV itself, and so works from any page, without scripts."""
    name = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")[:60].strip("-") or "table"
    return (
        f'<a class="csv" download="{name}.csv" href="data:text/csv;charset=utf-8,{quote(to_csv(table), safe=" ,;:")}" '
        f'aria-label="CSV of the table: {html.escape(caption)}">CSV</a>'
    )


def _column(values: list, chosen: Format | None) -> tuple[list[str], bool]:
    """Return the cells of a column as HTML text, and whether it is a column of numbers."""
    present = [value for value in values if not _is_missing(value)]
    is_number = bool(present) and all(
        isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) for value in present
    )
    to_text = _formatter(present, chosen, is_number)
    return [_MISSING if _is_missing(value) else _cell(to_text(value)) for value in values], is_number


def _cell(text: str | HTML) -> str:
    return str(text.data) if isinstance(text, HTML) else html.escape(text)


def _formatter(present: list, chosen: Format | None, is_number: bool) -> Callable[[Any], str | HTML]:
    if callable(chosen):
        return chosen
    if chosen is not None:
        return lambda value: _minus(format(value, chosen))
    if not is_number:
        return lambda value: ("yes" if value else "no") if isinstance(value, bool | np.bool_) else str(value)
    if all(isinstance(value, numbers.Integral) for value in present):
        return lambda value: _minus(f"{int(value):,}".replace(",", "\u202f"))
    sizes = [abs(float(v)) for v in present if float(v) != 0 and math.isfinite(v)]
    if not sizes or max(sizes) / min(sizes) > 1e5 or max(sizes) < 1e-3:
        return lambda value: _minus(f"{float(value):.3g}")
    decimals = min(max(0, 3 - math.floor(math.log10(max(sizes)))), 4)  # four significant digits
    return lambda value: _minus(f"{float(value):,.{decimals}f}".replace(",", "\u202f"))


def _minus(text: str) -> str:
    """Use the minus sign, as wide as a digit, for a leading hyphen."""
    return "\u2212" + text[1:] if text.startswith("-") else text


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value))
