"""The notebook that CONTRIBUTING.md spells out, added to a copy of the checkout just as it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGE = "20_frequent_codes"


def checkout(root: Path) -> Path:
    """Make a copy of what a run takes, with the bundled tokens, but without other notebooks' weights and clips."""
    ignored = shutil.ignore_patterns("*.egg-info")
    for name in ("workflow", "profiles", "config", "lib", "notebooks", "data/tokens"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("run_all.sh", "Snakefile", "requirements.lock"):
        shutil.copy2(ROOT / name, root / name)
    return root


def notebook_of(code: str) -> nbformat.NotebookNode:
    """Return the cells that `# %%` begins, as a notebook."""
    cells = []
    for kind, text in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n)*)", code, re.MULTILINE):
        if kind == " [markdown]":
            cells.append(nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()))
        else:
            cells.append(nbformat.v4.new_code_cell(text.strip(), metadata={"tags": kind.split()}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def run(root: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", str(root / "run_all.sh"), *arguments], capture_output=True, text=True, timeout=600,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(root / "lib")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.notebook
def test_the_notebook_of_the_text_runs_and_is_listed(spelled_out: Callable, tmp_path: Path) -> None:
    file, code, line = spelled_out("A new notebook")
    root = checkout(tmp_path / "checkout")
    nbformat.write(notebook_of(code), root / file)
    with (root / "config" / "stages.yaml").open("a") as stages:
        stages.write(f"\n{line}\n")
    run(root, Path(file).stem)
    result = json.loads((root / "reports" / "fast" / "results" / f"{STAGE}.json").read_text())
    assert 0.1 < result["share_of_tokens_low"] < result["share_of_tokens"] < result["share_of_tokens_high"] < 1
    (claim,) = result["claims"]
    assert claim["holds"]
    assert claim["hard"], "judged on bundled data, by default parameters"
    index = (root / "reports" / "fast" / "index.html").read_text()
    assert "Do a few codes do most of the work?" in index
    assert f'href="{STAGE}.html"' in index

    (preset,) = re.findall(r"`(20_frequent_codes: \{share.*?\})` in a preset", (ROOT / "CONTRIBUTING.md").read_text())
    (tmp_path / "wide.yaml").write_text(preset + "\n")
    assert f"reports/wide/results/{STAGE}.json" in run(
        root, "--preset", str(tmp_path / "wide.yaml"), "--dry-run", STAGE
    )
