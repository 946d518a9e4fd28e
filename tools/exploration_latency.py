"""Time the exploration cells: run a notebook up to its first one, move its controls, and say how long answers take.

    python tools/exploration_latency.py notebooks/02_entropy_model.ipynb [--moves 20] [--skip CELL_ID ...]

Cells that the exploration does not need may be left out by their ids. A time is that from a control's move until its
answer is shown, without what a browser takes to draw it.
"""

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from codecbook.book import explore as room


class Found(Exception):
    """The exploration cell has been reached."""


def explorer_of(path: Path, skipped: list[str]) -> room.Explorer:
    """Run the cells of a notebook until one explores."""
    names: dict[str, Any] = {"__name__": "__main__"}

    class Caught(room.Explorer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            raise Found(self)

    room.Explorer = Caught
    os.environ.pop("CODECBOOK_BATCH", None)
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and cell.id not in skipped:
            try:
                exec(compile(cell.source, cell.id, "exec"), names)
            except Found as found:
                return found.args[0]
    raise SystemExit(f"{path} has no exploration cell.")


async def times_s(explorer: room.Explorer, moves: int) -> np.ndarray:
    """Return for each move of a control to a neighbouring option the seconds until its answer, and those computed."""
    random, taken = np.random.default_rng(0), []
    for move in range(moves):
        movable = [control for control in explorer.inputs if len(control.options) > 1]
        control = movable[move % len(movable)]
        step = int(random.choice([-1, 1]))
        start = np.array([time.perf_counter(), time.process_time()])
        control.index = (control.index + step) % len(control.options)
        while explorer.shown != explorer.chosen:
            await asyncio.sleep(0.002)
        taken.append(np.array([time.perf_counter(), time.process_time()]) - start)
    return np.array(taken)


def main() -> None:
    """Read the command line, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--skip", nargs="*", default=[], metavar="CELL_ID")
    options = parser.parse_args()
    taken = asyncio.run(times_s(explorer_of(options.notebook, options.skip), options.moves))
    (median, cpu), most = np.median(taken, axis=0), taken[:, 0].max()
    print(
        f"{options.notebook.stem}: median {median:.2f} s of {len(taken)} moves, at most {most:.2f} s; "
        f"processor time {cpu:.2f} s, load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
