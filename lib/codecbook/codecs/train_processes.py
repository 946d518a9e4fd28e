"""Data parallel training: means over the processes that torchrun started."""

import torch
import torch.distributed
from torch import Tensor, nn


def is_distributed() -> bool:
    """Say whether this process is one of several."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean over all processes; the tensor itself where there is one process."""
    if not is_distributed():
        return tensor
    result = tensor.clone()
    torch.distributed.all_reduce(result)
    return result / torch.distributed.get_world_size()


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in one message."""
    if not is_distributed():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
