"""The workbook's four questions, and the sentences in which a run's results answer them.

``assets/questions.csv`` holds a sentence a line: the stage that answers, and ``{0}``, ``{1}``, ... for headlines of it
(`codecbook.book.claims.Headline`), found by how their labels begin; the first is the figure that answers. Sentences
say what was measured and take no side: which way it went is for the figure to say. So neither the summary of a run nor
the table in the README holds a figure that was typed.
"""

import html
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, display

from codecbook.book import tables
from codecbook.book.claims import Headline
from codecbook.book.labels import ASSETS
from codecbook.book.results import Run
from codecbook.errors import MissingInput
from codecbook.paths import repository_dir

SENTENCES = ASSETS / "questions.csv"


def built_on(run: Run) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the results of all other notebooks, by stage, and the names of those without."""
    found, missing = {}, []
    for stage in sorted(path.stem for path in (repository_dir() / "notebooks").glob("*.ipynb")):
        try:
            found |= {stage: run.builds_on(stage)} if stage != run.stage else {}
        except MissingInput:
            missing.append(stage)
    return found, missing


def answers(results: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return what results, by stage, answer, as text: one row a sentence, with question, figure, notebook and label.

    The figure is the sentence's first, with interval and count, and the label is the one by which its notebook calls
    it. A sentence one of whose figures the run lacks is left out.
    """
    rows = []
    for question, stage, sentence, labels in pd.read_csv(SENTENCES).itertuples(index=False):
        known = [Headline(**headline) for headline in results.get(stage, {}).get("headlines", [])]
        wanted = labels.split("; ")
        heads = [head for label in wanted for head in known if head.label.startswith(label)]
        if len(heads) == len(wanted):
            # those after the first stand without a unit that is the same
            units = [heads[0].unit, *(head.unit if head.unit != heads[0].unit else "" for head in heads[1:])]
            values = [f"{head.parts[0]} {unit}".strip() for head, unit in zip(heads, units, strict=True)]
            rows.append((question, sentence.format(*values), _figure(heads[0]), stage, heads[0].label))
    return pd.DataFrame(rows, columns=["question", "answer", "figure", "notebook", "label"])


def show(found: pd.DataFrame, caption: str) -> None:
    """Display answers as the table that tells the story, by question, with links to the notebooks."""
    page = tables.to_html(found.drop(columns=["question", "label"]), caption)
    head, *rows = page.replace('class="', 'class="story answers ', 1).split('<tr><th scope="row"')
    asked = ""
    for question, stage, row in zip(found.question, found.notebook, rows, strict=True):
        above = f'<tr><th colspan="3" scope="rowgroup">{html.escape(question)}</th></tr>\n' * (question != asked)
        link = f'<a href="{stage}.ipynb">{_number(stage)}</a>'
        head, asked = head + above + '<tr><th scope="row"' + row.replace(f">{stage}<", f">{link}<"), question
    display(HTML(head))


def to_markdown(found: pd.DataFrame, notebooks: str) -> str:
    """Return answers as a Markdown table, with links into the folder of notebooks."""
    lines = ["| question | answer | figure [95 % interval] | notebook |", "|---|---|---|---|"]
    asked = ""
    for question, answer, figure, stage in found[["question", "answer", "figure", "notebook"]].to_numpy():
        link = f"[{_number(stage)}]({notebooks}/{stage}.ipynb)"
        lines.append("| " + " | ".join((f"**{question}**" * (question != asked), answer, figure, link)) + " |")
        asked = question
    return "\n".join(lines)


def _number(stage: str) -> str:
    return stage.partition("_")[0]


def _figure(head: Headline) -> str:
    """Return a figure with unit, interval and count: ``7.7 bits [7.2, 8.2], n=36``."""
    value, interval = head.parts
    counted = re.sub(r" ?\((?:95 %, )?(.*)\)", r", \1", interval)
    return f"{value} {head.unit}".strip() + (" " if counted.startswith("[") else "") + counted
