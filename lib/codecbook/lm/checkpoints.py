"""Checkpoints of a training run: ``latest.pt``, ``best.pt`` and ``step_NNNNNNNN.pt`` in its folder.

Each is a complete state from which the run goes on bit for bit. There are no states of random generators in it,
because none is carried from step to step: order and dropout are drawn from (seed, step).
"""

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput
from codecbook.files import new_file, write_file
from codecbook.lm.models import build_lm
from codecbook.lm.token_lm import TokenLM, check_vocabulary

FORMAT = 1
LATEST_NAME = "latest.pt"
BEST_NAME = "best.pt"
_KEYS = (
    "format",
    "architecture",
    "arguments",
    "options",
    "decisive",
    "model",
    "average",
    "optimizer",
    "run",
    "meter",
)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state; whoever is interrupted leaves the previous file intact."""
    with new_file(path, overwrite=True) as partial:
        torch.save(state, partial)


def keep_checkpoint(path: Path, name: str) -> None:
    """Keep a checkpoint under another name in its folder, without writing it twice where links allow."""
    with new_file(path.with_name(name), overwrite=True) as partial:
        try:
            os.link(path, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, partial)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: The file, or the folder of a run, of which the latest is read.

    Raises:
        MissingWeights: There is no such file.
        CorruptInput: It is truncated, or no checkpoint.
        UnsupportedInput: It is of another format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / LATEST_NAME
    if not path.is_file():
        raise MissingWeights(f"There is no checkpoint {path}; check the path, or train first.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # a truncated file shows as any of these, a read beyond its end (OSError) among them
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        BadZipFile,
        ValueError,
        KeyError,
        OSError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptInput(f"{path} is no complete checkpoint ({reason}); use another one.") from error
    missing = [key for key in _KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise CorruptInput(
            f"{path} is no checkpoint of a language model ({', '.join(missing)} missing); use another."
        )
    if state["format"] != FORMAT:
        raise UnsupportedInput(
            f"{path} has format {state['format']}, this version reads {FORMAT}; update codecbook."
        )
    return state


def check_continuation(state: dict[str, Any], model: TokenLM, decisive: dict[str, Any], source: Path) -> None:
    """Raise UnsupportedInput unless a run with this model and these options may go on from a checkpoint."""
    if state["architecture"] != model.architecture:
        raise UnsupportedInput(
            f"{source} is of architecture {state['architecture']!r}, and {model.architecture!r} is to be trained; "
            "choose another folder, or the same architecture."
        )
    saved_sizes: Sequence[int] = state["arguments"]["codebook_sizes"]
    check_vocabulary(model, saved_sizes, f"The tokens that {source} was trained on")
    changed = _differing(state["arguments"], model.config.arguments()) + _differing(
        state["decisive"], decisive
    )
    if changed:
        raise UnsupportedInput(
            f"{source} was made with other settings ({'; '.join(changed)}); choose another folder, or these."
        )


def _differing(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {saved.get(key)} there, {wanted.get(key)} here"
        for key in sorted(saved.keys() | wanted.keys())
        if saved.get(key) != wanted.get(key)
    ]


def averaged_model(state: dict[str, Any]) -> TokenLM:
    """Return the model of a checkpoint with its averaged weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        model = build_lm(state["architecture"], state["arguments"])
    model.load_state_dict(state["average"])
    return model.eval()


def truncate_log(path: Path, last_step: int) -> None:
    """Drop the lines of steps after a checkpoint, which its continuation writes again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > last_step:
            break
        kept.append(line)
    write_file(path, "".join(kept), overwrite=True)
