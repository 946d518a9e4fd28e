"""The log of a training run: one JSON object per line, lines of progress, and where else its figures go."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import write_file

LOG_NAME = "log.jsonl"


class RunLog:
    """What a run writes and says.

    Args:
        folder: Where ``log.jsonl`` is, and is appended to; made with the first record.
        is_first: Whether this process writes and says anything; one of several does.
        say: Takes lines of progress.
    """

    def __init__(
        self, folder: Path, is_first: bool, say: Callable[[str], None] = lambda line: print(line, flush=True)
    ) -> None:
        self.path = folder / LOG_NAME
        self._is_first, self._say = is_first, say

    def write(self, record: dict[str, Any]) -> None:
        """Append a record of JSON types."""
        if self._is_first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def say(self, line: str) -> None:
        """Say a line of progress."""
        if self._is_first:
            self._say(line)

    def truncate(self, last_step: int) -> None:
        """Drop the lines of steps after a checkpoint, which its continuation writes again."""
        if not self._is_first or not self.path.is_file():
            return
        kept = []
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break  # the run ended within it
            try:
                is_later = json.loads(line)["step"] > last_step
            except (ValueError, TypeError, KeyError) as error:
                raise CorruptInput(f"{self.path}, line {number} is no record ({error!r}); move it away.") from error
            if is_later:
                break
            kept.append(line)
        write_file(self.path, b"".join(kept), overwrite=True)


Tracker = Callable[[int, Mapping[str, float]], None]
"""Where a run's figures go besides its log; called with the step and flat figures."""


def tensorboard_tracker(folder: str | Path) -> Tracker:
    """Return a tracker that writes TensorBoard event files; `UnsupportedInput` if TensorBoard is not installed."""
    _require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def track(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def wandb_tracker(project: str, folder: str | Path) -> Tracker:
    """Return a tracker that sends figures to Weights & Biases; `UnsupportedInput` if wandb is not installed."""
    _require("wandb")
    import wandb  # pyright: ignore[reportMissingImports]

    run = wandb.init(project=project, dir=str(folder), resume="allow")
    return lambda step, figures: run.log(dict(figures), step=step)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UnsupportedInput(f"{package} is not installed; install it with 'pip install {package}', or go without.")
