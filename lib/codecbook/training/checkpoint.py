"""Checkpoints of training: written atomically, read with checks, and those of another run refused.

Kept are also parameters averaged over the steps, a better model than those of any one step.
"""

import io
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import new_file, write_file


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state; an interruption leaves the previous file intact."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_file(path, buffer.getvalue(), overwrite=True)


def keep_checkpoint(path: Path, name: str) -> None:
    """Keep a checkpoint under another name in its folder, without writing it twice where links allow."""
    with new_file(path.with_name(name), overwrite=True) as partial:
        try:
            os.link(path, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, partial)


def read_checkpoint(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; `CorruptInput` if the file is truncated, or no checkpoint with these keys."""
    try:
        # from memory: given a path, torch seeks before the start of some truncated files, which is an OSError
        state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes fail wherever torch's parsers stumble over them
        raise CorruptInput(f"{path} is no complete checkpoint ({type(error).__name__}); take another.") from error
    missing = [key for key in keys if not isinstance(state, dict) or key not in state]
    if missing:
        raise CorruptInput(f"{path} is no complete checkpoint ({', '.join(missing)} missing); use another.")
    return state


def check_settings(saved: Any, wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse settings of a checkpoint that are not those of the run that goes on from it."""
    if not isinstance(saved, dict):
        raise CorruptInput(f"{path} is no complete checkpoint (damaged settings); delete it to start again.")
    changed = [
        f"{key}: {saved.get(key)} there, {wanted.get(key)} here"
        for key in sorted(saved.keys() | wanted.keys())
        if saved.get(key) != wanted.get(key)
    ]
    if changed:
        raise UnsupportedInput(f"{path} was made with other settings ({'; '.join(changed)}); choose another folder.")


@torch.no_grad()
def move_average(averages: Iterable[Tensor], parameters: Iterable[Tensor], steps: int, ema_decay: float) -> None:
    """Take parameters after a step into their averages, in place.

    Of an old average `ema_decay` stays, once it has seen many steps.
    """
    # a short memory at first, so that the average does not drag the random start along
    decay = min(ema_decay, (1.0 + steps) / (10.0 + steps))
    # one call for all of them: a call per parameter takes as long as the optimiser
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
        list(averages), [value.detach() for value in parameters], 1.0 - decay
    )
