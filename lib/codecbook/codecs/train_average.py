"""Parameters averaged over the steps of a run, which give a better codec than those of any one step."""

import torch
from torch import Tensor, nn

from codecbook.codecs.build import random_seeded
from codecbook.codecs.train_recipes import Recipe


def parameter_copies(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's parameters by name, to begin an average with."""
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@torch.no_grad()
def move_average(average: dict[str, Tensor], module: nn.Module, step: int, ema_decay: float) -> None:
    """Take a module's parameters into their average, in place.

    Args:
        average: By name, as `parameter_copies` made it.
        module: With the parameters after the step.
        step: Steps done before this one.
        ema_decay: Share of the old average that stays, once the run has gone on for a while.
    """
    # a short memory at first, so that the average does not drag the start along
    decay = min(ema_decay, (1.0 + step) / (10.0 + step))
    parameters = dict(module.named_parameters())
    averages = [average[name] for name in parameters]
    # one call for all of them: a call per parameter takes as long as the optimiser
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
        averages, [value.detach() for value in parameters.values()], 1.0 - decay
    )


def averaged_module(recipe: Recipe, module: nn.Module, average: dict[str, Tensor]) -> nn.Module:
    """Return a new codec with a module's buffers and averaged parameters, on the CPU, in evaluation mode."""
    averaged = random_seeded(recipe.architecture, recipe.arguments, recipe.seed)
    averaged.load_state_dict({k: v.cpu() for k, v in module.state_dict().items()})
    averaged.load_state_dict({k: v.cpu() for k, v in average.items()}, strict=False)
    return averaged.eval()
