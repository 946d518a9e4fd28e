"""Checkpoints of a language model's run: ``latest.pt``, ``best.pt`` and ``step_NNNNNNNN.pt`` in its folder.

Each is a complete state from which the run goes on bit for bit. There are no states of random generators in it,
because none is carried from step to step: order and dropout are drawn from (seed, step).
"""

from pathlib import Path
from typing import Any

import torch

from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.lm.models import build_lm
from codecbook.lm.token_lm import TokenLM, check_vocabulary
from codecbook.training import checkpoint
from codecbook.training.checkpoint import check_settings

FORMAT = 1
LATEST_NAME = "latest.pt"
BEST_NAME = "best.pt"
_KEYS = (
    "format", "architecture", "arguments", "options", "decisive", "model", "average", "optimizer", "run", "meter",
)  # fmt: skip


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, or the latest of a run's folder, onto the CPU.

    Raises MissingWeights, UnsupportedInput, CorruptInput: there is none; another format; truncated, or no checkpoint.
    """
    path = Path(path)
    path = path / LATEST_NAME if path.is_dir() else path
    if not path.is_file():
        raise MissingWeights(f"There is no checkpoint {path}; check the path, or train first.")
    state = checkpoint.read_checkpoint(path, _KEYS)
    if state["format"] != FORMAT:
        raise UnsupportedInput(f"{path} has format {state['format']}, this version reads {FORMAT}; update codecbook.")
    return state


def check_continuation(state: dict[str, Any], model: TokenLM, decisive: dict[str, Any], source: Path) -> None:
    """Raise UnsupportedInput unless a run with this model and these options may go on from a checkpoint."""
    if state["architecture"] != model.architecture:
        raise UnsupportedInput(
            f"{source} is of architecture {state['architecture']!r}, not {model.architecture!r}; choose another folder."
        )
    check_vocabulary(model, state["arguments"]["codebook_sizes"], f"The tokens that {source} was trained on")
    wanted = model.config.arguments() | decisive
    check_settings({**state["arguments"], **state["decisive"]}, wanted, source)


def averaged_model(state: dict[str, Any]) -> TokenLM:
    """Return the model of a checkpoint with its averaged weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        model = build_lm(state["architecture"], state["arguments"])
    model.load_state_dict(state["average"])
    return model.eval()
