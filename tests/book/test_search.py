import json

import nbformat
import nbformat.v4 as nbf
import pandas as pd

from codecbook.book import tables
from codecbook.book.pages import search
from codecbook.book.pages.index_page import render_index
from codecbook.book.pages.render import render_report


def test_the_index_holds_the_text_of_all_reports(tmp_path):
    run_dir = tmp_path / "fast"
    (run_dir / "notebooks").mkdir(parents=True)
    frame = pd.DataFrame({"codec": ["</script><b>wide</b>"], "rate": [1.5]})
    output = nbf.new_output("display_data", {"text/html": tables.to_html(frame, "Rates of codecs")})
    cells = [
        nbf.new_markdown_cell("# Title\n\nQuestion?\n\n## Rates"),
        nbf.new_code_cell("measure()", outputs=[output]),
    ]
    source = run_dir / "notebooks" / "01_a.ipynb"
    nbformat.write(nbf.new_notebook(cells=cells), source)
    report = render_report(source, run_dir / "01_a.html")
    assert search.sections(report.read_text()) == [
        ["Title", "", "Question?"],
        ["Rates", "Rates", "measure() Rates of codecs Codec Rate </script><b>wide</b> 1.500"],
    ]
    page = render_index(run_dir, tmp_path).read_text()
    held = page.partition('id="texts">')[2].partition("</script>")[0]
    assert json.loads(held)[0][:2] == ["01_a.html", "Title"]
    assert "<" not in held
