"""Data parallel training: what the processes that torchrun started tell each other."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


def is_distributed() -> bool:
    """Say whether this process is one of several."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def process_rank() -> int:
    """Return the number of this process, 0 where there is one."""
    return torch.distributed.get_rank() if is_distributed() else 0


def num_processes() -> int:
    """Return how many processes train together."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def gather(value: Any) -> list[Any]:
    """Return the values of all processes by rank; any objects that can be pickled."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * num_processes()
    torch.distributed.all_gather_object(values, value)
    return values


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of the first process, in place."""
    if is_distributed():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean over all processes; the tensor itself where there is one process."""
    if not is_distributed():
        return tensor
    result = tensor.clone()
    torch.distributed.all_reduce(result)
    return result / torch.distributed.get_world_size()


def mean_of_number(number: float) -> float:
    """Return the mean of a number over all processes, so that all of them go on from the same."""
    return float(all_reduce_mean(torch.tensor([number], dtype=torch.float64)))


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in one message."""
    if not is_distributed():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
