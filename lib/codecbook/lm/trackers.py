"""Where a run's figures go besides its log: TensorBoard, or Weights & Biases where it is installed."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from codecbook.errors import UnsupportedInput

Tracker = Callable[[int, Mapping[str, float]], None]
"""Called with the step and flat figures."""


def tensorboard_tracker(folder: str | Path) -> Tracker:
    """Return a tracker that writes TensorBoard event files.

    Raises:
        UnsupportedInput: TensorBoard is not installed.
    """
    _require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def track(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def wandb_tracker(project: str, folder: str | Path) -> Tracker:
    """Return a tracker that sends figures to Weights & Biases.

    Raises:
        UnsupportedInput: wandb is not installed.
    """
    _require("wandb")
    import wandb  # pyright: ignore[reportMissingImports]

    run = wandb.init(project=project, dir=str(folder), resume="allow")

    def track(step: int, figures: Mapping[str, float]) -> None:
        run.log(dict(figures), step=step)

    return track


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UnsupportedInput(
            f"{package} is not installed; install it with 'pip install {package}', or go without."
        )
