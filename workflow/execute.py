"""Run one notebook in batch: the job of a stage.

Executes a copy with the given parameters, renders it to HTML whether or not it came to its end, and ends with the
notebook's own error message as the last line. Called by the Snakefile from the root of the checkout.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

# jsonschema, below papermill, builds a grammar of international addresses wherever it finds this package: seconds of
# every start, for a format that no notebook has
sys.modules["rfc3987_syntax"] = None  # pyright: ignore[reportArgumentType]
sys.modules["pyarrow"] = None  # pyright: ignore[reportArgumentType] - papermill would load it, for notebooks on HDFS

PARENT_CHECK_INTERVAL_S = 1.0

# what the numerical libraries below torch, numpy, numba and tokenizers read when they are loaded
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
# glibc's malloc then keeps what is freed for the next large tensor; given back, each of its pages is faulted in again,
# a fifth of the time of a training
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 62)}


def main() -> None:
    """Run the stage that the command line names; a message and exit code 1 where it fails."""
    arguments = _arguments()
    run_dir = arguments.run_dir.resolve()
    stage = arguments.stage
    executed = run_dir / "notebooks" / f"{stage}.ipynb"
    html = run_dir / f"{stage}.html"
    result, failed_result = (run_dir / folder / f"{stage}.json" for folder in ("results", "results/failed"))
    for path in (executed, html, failed_result):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    _end_with_parent()
    os.environ.update(_environment(run_dir, stage, arguments.threads, arguments.inputs, arguments.needs))
    error = "the job was ended from outside"
    try:
        error = _execute(arguments.notebook, executed, json.loads(arguments.parameters))
        if error is None and not result.is_file():
            error = f"The notebook came to its end without writing results/{stage}.json; end it with run.finish()."
    finally:
        render_error = _render(executed, html, failed=error is not None)
    if error or render_error:
        if result.is_file():  # a claim failed after everything was written: kept, but no result to build on
            result.replace(failed_result)
        sys.exit(error or render_error)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", required=True, help="the notebook's stem")
    parser.add_argument("--notebook", type=Path, required=True, help="the notebook to run")
    parser.add_argument("--run-dir", type=Path, required=True, help="reports/<preset>")
    parser.add_argument("--threads", type=int, required=True, help="cores to compute on")
    parser.add_argument("--needs", type=Path, nargs="*", default=[], help="results of the stages that it needs")
    parser.add_argument("--parameters", default="{}", help="JSON object of the notebook's parameters")
    parser.add_argument("--inputs", default="", help="what the files are that its parameters name, for its results")
    return parser.parse_args()


def _environment(run_dir: Path, stage: str, threads: int, inputs: str, needs: list[Path]) -> dict[str, str]:
    """Return what the notebook's kernel finds in its environment."""
    return {
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        **KEEP_MEMORY,
        "CODECBOOK_RUN_DIR": str(run_dir),
        "CODECBOOK_STAGE": stage,
        "CODECBOOK_INPUTS": inputs,
        "CODECBOOK_NEEDS": json.dumps({result.stem: str(result.resolve().parents[1]) for result in needs}),
        "CODECBOOK_BATCH": "1",
        # this environment's kernel, even where the user has installed another one under the same name
        "JUPYTER_PREFER_ENV_PATH": "1",
    }


def _execute(notebook: Path, executed: Path, parameters: dict) -> str | None:
    """Execute a copy of the notebook; return None, or in one line what went wrong."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _log_as_it_comes()
    try:
        _copy_with_code(notebook, executed)
        papermill.execute_notebook(
            str(executed),
            str(executed),
            parameters,
            kernel_name="python3",
            cwd=str(notebook.parent),  # as in JupyterLab
            progress_bar=False,
            log_output=True,
            store_widget_state=False,
        )
    except PapermillExecutionError as error:
        print(error, flush=True)
        first_line = (str(error.evalue).strip() or "no message").splitlines()[0]
        return f"{error.ename}: {first_line} (cell [{error.exec_count}])"
    except Exception as error:  # a dead kernel, an unreadable notebook: the stage fails, the others go on
        print(repr(error), flush=True)
        said = (str(error).strip() or "no message").splitlines()[0]
        killed = " by something else, as where memory runs out" * (type(error).__name__ == "DeadKernelError")
        return f"{type(error).__name__}: {said}{killed}"
    return None


def _log_as_it_comes() -> None:
    """Write into the stage's log when each cell begins, and what it prints, at once; not that a figure was shown."""

    def worth_reading(record: logging.LogRecord) -> bool:
        record.msg = str(record.msg).rstrip("-\n ")
        return not record.msg.startswith(("<", "Ending Cell"))

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(worth_reading)
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


def _copy_with_code(notebook: Path, executed: Path) -> None:
    """Copy a notebook, with a note of the code that is about to run: by the time of a report, it may be another."""
    from codecbook import __version__
    from codecbook.book import provenance

    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["metadata"]["codecbook"] = {"version": __version__, **provenance.checkout()}
    executed.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _render(executed: Path, html: Path, *, failed: bool) -> str | None:
    """Render the executed copy, where there is one; return None, or in one line what went wrong."""
    from codecbook.book.pages.render import render_report

    if not executed.is_file():
        return None
    try:
        render_report(executed, html, failed=failed)
    except Exception as error:  # a report that cannot be rendered must not hide the notebook's own error
        print(repr(error), flush=True)
        return f"The report could not be rendered: {type(error).__name__}: {error}"
    return None


def _end_with_parent() -> None:
    """End this job soon after the engine that started it is gone, so that a later run meets no leftover writer."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_INTERVAL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
