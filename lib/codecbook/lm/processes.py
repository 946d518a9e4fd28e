"""One process or many: `torchrun` starts several, and they share a batch (DistributedDataParallel)."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as distributed

from codecbook.errors import UnsupportedInput


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: Number of this process; 0 writes files and lines.
        count: How many there are.
        device: Device of this process.
    """

    rank: int
    count: int
    device: torch.device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes of a tensor on the CPU."""
        if self.count == 1:
            return values
        shared = values.to(self.device, copy=True)  # NCCL takes tensors on its device only
        distributed.all_reduce(shared)
        return shared.cpu()

    def wait(self) -> None:
        """Return once every process has come this far."""
        if self.count > 1:
            distributed.barrier()


@contextlib.contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that `torchrun` started, and leave them at the end; alone, do nothing.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``: CUDA where there is one, else the CPU. On CUDA each
            process takes the device of its local rank.

    Raises:
        UnsupportedInput: The device is not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if (device.startswith("cuda") and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise UnsupportedInput(f"device={device!r} is not on this machine; choose 'cpu' or 'auto'.")
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2:
        yield Processes(0, 1, torch.device(device))
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(distributed.get_rank(), count, torch.device(device))
    finally:
        distributed.destroy_process_group()
