"""What a reader of an executed notebook wants to know of it, and what must not reach the report."""

import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from codecbook.paths import repository_dir

_PAPERMILL_MARKER = "papermill-error-cell-tag"
_PROGRESS = re.compile(r"\d+%\|.*|^\s*\d+(it|batch|clip)\w* \[.*", re.MULTILINE)


def clean(notebook: NotebookNode) -> None:
    """Remove, in place, what is noise in a report: progress bars, widget state, papermill's own markers."""
    notebook.metadata.pop("widgets", None)
    notebook.cells = [cell for cell in notebook.cells if _PAPERMILL_MARKER not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in _joined(cell.outputs) if _is_worth_showing(output)]


def failing_cell(notebook: NotebookNode) -> NotebookNode | None:
    """Return the cell at which the run stopped, None where all went well.

    A cell tagged ``raises-exception`` is meant to raise.
    """
    for cell in notebook.cells:
        if cell.cell_type != "code" or "raises-exception" in cell.metadata.get("tags", []):
            continue
        raised = any(output.output_type == "error" for output in cell.outputs)
        if raised or cell.metadata.get("papermill", {}).get("exception"):
            return cell
    return None


def error_line(cell: NotebookNode | None) -> str:
    """Return in one line what a cell raised, empty where it raised nothing."""
    for output in [] if cell is None else cell.get("outputs", []):
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}".strip().splitlines()[0]
    return ""


def first_heading(notebook: NotebookNode) -> str:
    """Return the text of the first ``#`` heading, empty where there is none."""
    match = re.search(r"^# +(.+?)\s*#*$", _prose(notebook), re.MULTILINE)
    return re.sub(r"[`*_]{1,2}(\S.*?\S|\S)[`*_]{1,2}", r"\1", match[1]) if match else ""


def lead(notebook: NotebookNode) -> str:
    """Return the question: the first paragraph below the first heading as plain text, empty where there is none."""
    paragraphs = (block.strip() for block in re.split(r"\n\s*\n", _prose(notebook)))
    texts = (text for text in paragraphs if text and not text.startswith(("#", "|", "-", "<", "$")))
    return _plain(next(texts, "")).removeprefix("Question. ")


def _prose(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def contents(folder: Path | None = None, states: Mapping[str, str] | None = None) -> str:
    """Return a folder's notebooks, but for the first one, as a Markdown table: link with title, question, and state.

    `states` says of notebooks, by name, what is known of their last run; without any, there is no such column.
    """
    lines = ["| notebook | question |" + " last run |" * bool(states), "|---|---|" + "---|" * bool(states)]
    for path in sorted((folder or repository_dir() / "notebooks").glob("*.ipynb"))[1:]:
        notebook = nbformat.read(path, as_version=4)
        cells = [f"[{path.stem}]({path.name}) {first_heading(notebook)}", lead(notebook)]
        cells += [states.get(path.stem, "not run yet")] if states else []
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _plain(markdown: str) -> str:
    """Remove quote marks, emphasis and link targets from Markdown text."""
    text = re.sub(r"^>\s?", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"\*\*|[`*]", "", text).split())


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream, and apply carriage returns as a terminal does."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            lines = [line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n")]
            output.text = "\n".join(line for line in lines if not _PROGRESS.search(line)).strip("\n")
    return joined


def _is_worth_showing(output: NotebookNode) -> bool:
    if output.output_type == "stream":
        return bool(output.text.strip())
    if output.output_type not in ("display_data", "execute_result"):
        return True
    data = output.data
    if "application/vnd.jupyter.widget-view+json" in data and "text/html" not in data:
        return False
    return bool(data) and not (set(data) == {"text/plain"} and _PROGRESS.search(data["text/plain"]))
