"""Parameters averaged over the steps of a run, which give a better model than those of any one step."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def move_average(averages: Iterable[Tensor], parameters: Iterable[Tensor], steps: int, ema_decay: float) -> None:
    """Take parameters into their averages, in place.

    Args:
        averages: In the order of the parameters.
        parameters: After a step.
        steps: Steps that the average has seen.
        ema_decay: Share of the old average that stays, once the run has gone on for a while.
    """
    # a short memory at first, so that the average does not drag the random start along
    decay = min(ema_decay, (1.0 + steps) / (10.0 + steps))
    # one call for all of them: a call per parameter takes as long as the optimiser
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
        list(averages), [value.detach() for value in parameters], 1.0 - decay
    )
