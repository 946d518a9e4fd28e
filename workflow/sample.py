"""Write the sample report, ``reports/sample``, and the README's table of results from a run.

    python workflow/sample.py fast

The sample is one page: the run's index, its summary and a few of its reports, which show what the others are like. The
README's table is that of the summary.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from usage import ROOT, Parser, run_folder

from codecbook.book import questions
from codecbook.book.pages.export import export_run
from codecbook.book.pages.index_page import render_index
from codecbook.errors import CodecbookError
from codecbook.files import write_file

REPORTS = ("02_entropy_model", "03_bits_per_second", "05b_consequences", "07b_published_schemes", "09_summary")
SUMMARY = "09_summary"
PAGE, ANSWERS, RESULT = "codecbook.html", "answers.csv", f"{SUMMARY}.json"  # what the folder holds
BLOCK = re.compile(r"(?<=<!-- results: by workflow/sample.py -->\n).*?(?=<!-- end of results -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Write both from the run that the command line names, and return the exit status."""
    parser = Parser(prog="workflow/sample.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=run_folder, help="name below reports/, or folder")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to write into (this one)")
    options = parser.parse_args(arguments)
    try:
        page = write_sample(options.run, options.root / "reports" / "sample")
        readme = options.root / "README.md"
        text = readme.read_text(encoding="utf-8")
        write_file(readme, BLOCK.sub(lambda _: results_block(page.parent), text), overwrite=True)
    except (CodecbookError, OSError) as error:
        parser.error(f"{error}")
    print(f"Page: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def write_sample(run: Path, folder: Path) -> Path:
    """Write the sample of a run into a folder and return its page, in which no path of this machine is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch) / "sample"
        for part in ("results", "notebooks"):
            shutil.copytree(run / part, chosen / part)
        for stage in REPORTS:
            shutil.copy(run / f"{stage}.html", chosen)
        render_index(chosen)
        for page in chosen.glob("*.html"):
            page.write_text(_without_places(page.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copy(run / "artifacts" / SUMMARY / ANSWERS, folder / ANSWERS)
        shutil.copy(run / "results" / RESULT, folder / RESULT)
        return export_run(chosen, folder / PAGE)


def results_block(sample: Path) -> str:
    """Return the README's table of results, by what a sample's folder holds."""
    result: dict[str, Any] = json.loads((sample / RESULT).read_text(encoding="utf-8"))
    (makers,) = [claim["figure"] for claim in result["claims"] if claim["text"].startswith("One commit")]
    hold, fail = result["claims_holding"], result["claims_failing"]
    facts = f"{hold} of {hold + fail} claims hold in this run ({makers}, {result['provenance']['cores']} cores)."
    return f"{questions.to_markdown(pd.read_csv(sample / ANSWERS, dtype=str), 'notebooks')}\n\n{facts}\n\n"


def _without_places(page: str) -> str:
    """Replace the folders of this checkout and of the user, whole names only."""
    for folder, shown in ((ROOT, "."), (Path.home(), "~")):
        page = re.sub(rf"(?<![\w/]){re.escape(str(folder))}(?![\w-])", shown, page)
    return page


if __name__ == "__main__":
    sys.exit(main())
