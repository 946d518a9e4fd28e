import nbformat
import nbformat.v4 as nbf
import pytest

from codecbook.book import notebooks


def with_outputs(*outputs):
    return nbf.new_notebook(cells=[nbf.new_code_cell("1", outputs=list(outputs))])


def texts(notebook) -> list[str]:
    return [output.text for output in notebook.cells[0].outputs]


@pytest.mark.parametrize(
    "progress",
    [
        "  0%|          | 0/20 [00:00<?, ?it/s]\r100%|██████████| 20/20 [00:01<00:00, 19.9it/s]\n",
        "0it [00:00, ?it/s]\r12it [00:01, 9.8it/s]\n",
        "training:  50%|█████     | 1/2\n",
    ],
)
def test_progress_bars_go_and_other_lines_stay(progress):
    notebook = with_outputs(
        nbf.new_output("stream", name="stderr", text=progress),
        nbf.new_output("stream", name="stderr", text="a warning\n"),
        nbf.new_output("stream", name="stdout", text="50% of all\n"),
        nbf.new_output("stream", name="stderr", text=progress),
    )
    notebooks.clean(notebook)
    assert texts(notebook) == ["a warning", "50% of all"]


def test_carriage_returns_overwrite_as_on_a_terminal():
    notebook = with_outputs(nbf.new_output("stream", name="stdout", text="step 1\rstep 2\rstep 3\r\ndone\n"))
    notebooks.clean(notebook)
    assert texts(notebook) == ["step 3\ndone"]


def test_widgets_and_markers_go():
    notebook = with_outputs(
        nbf.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "  0%|  | 0/2"}),
        nbf.new_output("display_data", {"text/plain": "  0%|          | 0/20"}),
        nbf.new_output("display_data", {"text/plain": "42"}),
    )
    notebook.metadata["widgets"] = {"state": "large"}
    notebook.cells.insert(0, nbf.new_markdown_cell("An Exception", metadata={"tags": ["papermill-error-cell-tag"]}))
    notebooks.clean(notebook)
    assert "widgets" not in notebook.metadata
    assert [output.data["text/plain"] for output in notebook.cells[0].outputs] == ["42"]


def test_failing_cell_is_the_first_unintended_error():
    error = nbf.new_output("error", ename="E", evalue="x", traceback=[])
    meant = nbf.new_code_cell("1/0", outputs=[error], metadata={"tags": ["raises-exception"]})
    failing = nbf.new_code_cell("assert 0", outputs=[error])
    assert notebooks.failing_cell(nbf.new_notebook(cells=[meant])) is None
    assert notebooks.failing_cell(nbf.new_notebook(cells=[nbf.new_markdown_cell("x"), meant, failing])) is failing
    killed = nbf.new_code_cell("loop()", metadata={"papermill": {"exception": True}})
    assert notebooks.failing_cell(nbf.new_notebook(cells=[killed])) is killed


@pytest.mark.parametrize(
    ("source", "title", "lead"),
    [
        ("# What do *tokens* cost?\n\nA [question](x.md) on **bits**,\nin `two` lines.", "What do tokens cost?",
         "A question on bits, in two lines."),
        ("Text first\n\n# Title #", "Title", "Text first"),
        ("## Section only", "", ""),
        ("# A `b_c` d_e", "A b_c d_e", ""),
    ],
)  # fmt: skip
def test_first_heading_and_lead(source, title, lead):
    notebook = nbf.new_notebook(cells=[nbf.new_code_cell("# comment"), nbf.new_markdown_cell(source)])
    assert notebooks.first_heading(notebook) == title
    assert notebooks.lead(notebook) == lead


def test_contents_come_from_the_notebooks(tmp_path):
    sources = {
        "00_index": "# Start\n\nHere.",
        "01_a": "# What *is* it?\n\n**Question.** Is it a | or\nb?\n\nMore.",
        "02_b": "# Second\n\n> Quoted.",
    }
    for name, source in sources.items():
        nbformat.write(nbf.new_notebook(cells=[nbf.new_markdown_cell(source)]), tmp_path / f"{name}.ipynb")
    assert notebooks.contents(tmp_path).splitlines() == [
        "| notebook | question |",
        "|---|---|",
        r"| [01_a](01_a.ipynb) What is it? | Is it a \| or b? |",
        "| [02_b](02_b.ipynb) Second | Quoted. |",
    ]
    assert notebooks.contents(tmp_path, {"02_b": "fast"}).splitlines()[2:] == [
        r"| [01_a](01_a.ipynb) What is it? | Is it a \| or b? | not run yet |",
        "| [02_b](02_b.ipynb) Second | Quoted. | fast |",
    ]
    assert "[01_tokenize](01_tokenize.ipynb)" in notebooks.contents()
