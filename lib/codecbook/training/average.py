"""Parameters averaged over the steps of a run, which give a better model than those of any one step."""

from collections.abc import Iterable

import torch
from torch import Tensor


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
