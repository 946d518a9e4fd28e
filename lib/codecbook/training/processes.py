"""One process or many: `torchrun` starts several, and they share what a step trains on."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from codecbook.models.weights import checked_device


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them."""

    rank: int  # number of this process; 0 writes files and lines
    count: int  # how many there are
    device: torch.device  # of this process

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on the tensor's own device; the tensor itself where there is one."""
        if self.count == 1:
            return values
        shared = values.to(self.device, copy=True)  # NCCL takes tensors on its device only
        distributed.all_reduce(shared)
        return shared.to(values.device)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes; the tensor itself where there is one."""
        return values if self.count == 1 else self.sum(values) / self.count

    def mean_of_number(self, number: float) -> float:
        """Return the mean of a number over all processes, so that all of them go on from the same."""
        return float(self.mean(torch.tensor([number], dtype=torch.float64)))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes by rank; any objects that can be pickled."""
        values = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return once every process has come this far."""
        if self.count > 1:
            distributed.barrier()


def alone(device: str = "cpu") -> Processes:
    """Return a single process on a device."""
    return Processes(0, 1, torch.device(device))


@contextlib.contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that `torchrun` started, and leave them at the end; alone, do nothing.

    The device ``"auto"`` is CUDA where there is one, else the CPU. On CUDA each process takes the device of its local
    rank.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checked_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2:
        yield alone(device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(distributed.get_rank(), count, torch.device(device))
    finally:
        distributed.destroy_process_group()
