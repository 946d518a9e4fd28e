"""Checkpoints of training: written atomically, read with checks."""

import io
import pickle
from pathlib import Path

import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import write_file


def write_checkpoint(path: Path, state: dict) -> None:
    """Write a checkpoint; whoever is interrupted leaves the previous one intact."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_file(path, buffer.getvalue(), overwrite=True)


def read_checkpoint(path: Path, recipe: dict) -> dict | None:
    """Read a checkpoint, None where there is none.

    Args:
        path: The file.
        recipe: The recipe as a dictionary, which must be the one that the checkpoint was made with.

    Raises:
        CorruptInput: The file is truncated or no checkpoint.
        UnsupportedInput: It was made with another recipe.
    """
    if not path.exists():
        return None
    try:
        # from memory: given a path, torch seeks before the start of some truncated files, which is an OSError
        state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise CorruptInput(
            f"{path} is no complete checkpoint ({error}); delete it to start again."
        ) from error
    saved_recipe = state.get("recipe") if isinstance(state, dict) else None
    if not isinstance(saved_recipe, dict):
        raise CorruptInput(f"{path} is no complete checkpoint (it has no recipe); delete it to start again.")
    if saved_recipe != recipe:
        changed = sorted(key for key in recipe if saved_recipe.get(key) != recipe[key])
        raise UnsupportedInput(
            f"{path} was made with another recipe (different: {', '.join(changed)}); choose another --out folder, or "
            "delete the checkpoint."
        )
    return state
