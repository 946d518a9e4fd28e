"""Render executed notebooks as self-contained HTML reports.

A report is one file that makes no request: styles, scripts, figures and audio are in it, and the content security
policy in its head forbids everything else, so the browser itself enforces it. Formulas become MathML, which
browsers draw without a script. The index page over a run's reports is made by `index_page`.
"""

import itertools
import re
import warnings
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter, TemplateExporter
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from nbformat import NotebookNode

from codecbook.book import provenance
from codecbook.book.labels import ASSETS
from codecbook.book.notebooks import clean, error_line, failing_cell, first_heading
from codecbook.book.pages.index_page import CONTENT_POLICY
from codecbook.book.pages.summary import add_summary
from codecbook.errors import CorruptInput
from codecbook.files import write_file

REPORT_LIMIT_BYTES = 6_000_000


def render_report(executed_ipynb: Path, html: Path, failed: bool = False) -> Path:
    """Render an executed notebook as one offline HTML file, beside the index page of its run.

    A cell that raised is marked, with a banner at the top that leads to it; `failed` says that the run failed even if
    no cell says so (its kernel died). The report is replaced in one step, and its path returned. A warning tells of one
    that is larger than 6 MB, or of a formula that could not be rendered.
    """
    executed_ipynb, html = Path(executed_ipynb), Path(html)
    try:
        notebook = nbformat.read(executed_ipynb, as_version=4)
    except (OSError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise CorruptInput(f"{executed_ipynb} cannot be read as a notebook ({error}); run the stage again.") from error
    clean(notebook)
    failing = failing_cell(notebook)
    if failing is not None:
        failing.metadata["codecbook_failed"] = True
    failure = error_line(failing)
    if not failure and (failing is not None or failed):
        failure = "The notebook stopped before its end; the log of the run says why."
    context = {
        "policy": CONTENT_POLICY,
        "css": (ASSETS / "report.css").read_text(encoding="utf-8"),
        "scripts": [(ASSETS / name).read_text(encoding="utf-8") for name in ("report.js", "points.js")],
        "title": first_heading(notebook) or executed_ipynb.stem,
        "stage": html.stem,
        "footer": _footer(notebook, executed_ipynb.stem),
        "failure": failure,
        "failed_cell": f"cell-{failing.id}" if failing is not None else "",
    }
    exporter = _ReportExporter(
        template_name="report", extra_template_basedirs=[str(Path(__file__).parent / "templates")]
    )
    # without scripts from elsewhere neither widgets nor JavaScript outputs can run; what they fall back to is shown
    exporter.config.NbConvertBase.display_data_priority = [
        "text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain",
    ]  # fmt: skip
    body, _ = exporter.from_notebook_node(
        notebook, resources={"codecbook": context, "metadata": {"path": str(executed_ipynb.parent)}}
    )
    # links to notebooks, which work in JupyterLab, lead to their reports, which lie beside this one
    body = re.sub(r'(<a [^>]*href="(?:\./)?[\w.+~-]+)\.ipynb(?=["#])', r"\1.html", body)
    soup = BeautifulSoup(body, "html.parser")
    _add_contents(soup)
    add_summary(soup)
    page = str(soup)
    size_bytes = len(page.encode())
    if size_bytes > REPORT_LIMIT_BYTES:
        warnings.warn(
            f"{html.name} has {size_bytes / 1e6:.1f} MB, above {REPORT_LIMIT_BYTES / 1e6:.0f} MB; embed fewer or "
            "shorter clips.",
            stacklevel=2,
        )
    return write_file(html, page, overwrite=True)


def to_mathml(tex: str, block: bool) -> str:
    """Convert a formula, without its dollar signs, to MathML on a line of its own (`block`) or inline.

    One that cannot be converted is shown as its TeX source, with a warning.
    """
    tex = tex.strip()
    try:
        mathml = convert(tex, display="block" if block else "inline")
    except Exception as error:  # the converter's exceptions share no base class
        warnings.warn(f"The formula {tex!r} could not be converted ({error!r}).", stacklevel=2)
        return f"<code>{escape(tex)}</code>"
    return mathml.replace("<math ", f'<math alttext="{escape(tex)}" ', 1)


class _ReportExporter(HTMLExporter):
    """nbconvert's HTML exporter with formulas as MathML, and without its own pass over the finished page.

    That pass, as long as all else here, marks parts of nbconvert's own templates, of which this one has none.
    """

    def from_notebook_node(self, nb: NotebookNode, resources: Any = None, **kw: Any) -> tuple[str, dict]:
        """Set up the filters of `HTMLExporter`, and fill in the template."""
        language = nb.metadata.get("language_info", {})
        lexer = language.get("pygments_lexer", language.get("name"))
        self.register_filter("highlight_code", Highlight2HTML(pygments_lexer=lexer, parent=self))
        data_types = WidgetsDataTypeFilter(notebook_metadata=self._nb_metadata, parent=self, resources=resources)
        self.register_filter("filter_data_type", data_types)
        return TemplateExporter.from_notebook_node(self, nb, self._init_resources(resources), **kw)

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Render a Markdown cell; images beside the notebook and attachments are embedded."""
        renderer = _MathRenderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=True,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            exclude_anchor_links=True,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


class _MathRenderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return to_mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return to_mathml(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)


def _footer(notebook: NotebookNode, stage: str) -> str:
    """Return when, how long and with which code the notebook ran, as the job that ran it noted down."""
    run = notebook.metadata.get("papermill", {})
    code = notebook.metadata.get("codecbook", {})
    parts = [f"{stage}.ipynb"]
    if code:
        parts += [f"codecbook {code['version']}", provenance.commit_text(code)]
    if run.get("start_time"):
        parts.append("run " + re.sub(r"T(\d\d:\d\d).*", r" \1 UTC", run["start_time"]))
    if run.get("duration"):
        parts.append(f"in {run['duration']:.0f} s")
    return ", ".join(parts) + "."


def _add_contents(soup: BeautifulSoup) -> None:
    """Fill the list of contents from the headings, and give headings a link to themselves."""
    navigation, contents = soup.select_one("nav.toc"), soup.select_one("nav.toc ol")
    seen: set[str] = set()
    for heading in soup.select("main .prose h2, main .prose h3, main .prose h4"):
        # the anchor that JupyterLab gives a heading, so that links within a notebook work in both
        slug = anchor = re.sub(r"\s+", "-", heading.get_text().strip())
        numbers = itertools.count(2)
        while anchor in seen:
            anchor = f"{slug}-{next(numbers)}"
        seen.add(anchor)
        heading["id"] = anchor
        if contents is not None and heading.name != "h4":
            item = soup.new_tag("li", attrs={"class": f"level-{heading.name[1]}"})
            link = soup.new_tag("a", href=f"#{anchor}")
            link.string = heading.get_text()
            item.append(link)
            contents.append(item)
        own = soup.new_tag("a", attrs={"class": "anchor", "href": f"#{anchor}", "aria-label": "Link to this section"})
        own.string = "#"
        heading.append(own)
    share_media(soup)
    if navigation is not None and contents is not None and not contents.contents:
        navigation.decompose()


def share_media(soup: BeautifulSoup) -> None:
    """Keep each clip and each module of a page once, however many players use it.

    Players that had a clip after the first one link to that, for readers without scripts.
    """
    seen: set[str] = set()
    for module in soup.select("script[type=module]"):
        text = module.get_text()
        module.decompose() if text in seen else seen.add(text)
    for audio in soup.select("audio[data-clip]"):
        key = str(audio["data-clip"])
        if key in seen:
            link = soup.new_tag("a", href=f"#clip-{key}")
            link.string = "the same clip as above"
            audio.replace_with(link)
        else:
            seen.add(key)
            audio["id"] = f"clip-{key}"
