import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from codecbook.training.processes import alone

# each process has half of the batch, and writes what it ends up with
CHILD = """
import sys, torch
from codecbook.training.processes import joined_processes
torch.set_num_threads(1)
joined = joined_processes("cpu")
processes = joined.__enter__()
rank = processes.rank
batch = torch.load(sys.argv[1])
layers = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)
for index, layer in enumerate(layers):
    layer.load_state_dict(batch["layers"][index])
layers[1](layers[0](batch["vectors"][4 * rank : 4 * rank + 4])).square().mean().backward()
parameters = [parameter for layer in layers for parameter in layer.parameters()]
processes.average_gradients(parameters)
mean = processes.mean(torch.tensor([1.0 + rank, torch.inf if rank else 0.0]))
sent = [torch.full((2,), 5.0 + rank), torch.arange(3) * (rank + 1)]
processes.broadcast(sent)
told = {
    "rank": rank, "count": processes.count, "gathered": processes.gather({"of": rank}), "sent": sent,
    "number": processes.mean_of_number(1.0 + rank), "sum": processes.sum(torch.tensor([1.0 + rank])),
}
processes.wait()
torch.save({"gradients": [p.grad for p in parameters], "mean": mean, **told}, f"{sys.argv[2]}/{rank}.pt")
joined.__exit__(None, None, None)
"""


def test_one_process_is_its_own_mean():
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    processes = alone()
    processes.average_gradients(layer.parameters())
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [1.0]
    tensor = torch.ones(3)
    assert processes.mean(tensor) is processes.sum(tensor) is tensor
    assert processes.mean_of_number(0.1) == 0.1
    assert (processes.rank, processes.count, processes.gather("crops")) == (0, 1, ["crops"])
    processes.broadcast([tensor])
    processes.wait()
    assert tensor.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_joined_batch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    # the last layer is left out of the loss, and has no gradient
    layers = nn.Linear(3, 2), nn.Linear(2, 1), nn.Linear(1, 1)
    vectors = torch.randn(8, 3, generator=generator)
    torch.save({"layers": [layer.state_dict() for layer in layers], "vectors": vectors}, tmp_path / "batch.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "batch.pt"), str(tmp_path)]
    children = [subprocess.Popen(command, env={**os.environ, **address, "RANK": str(r)}) for r in range(2)]
    try:
        assert [child.wait(timeout=120) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
            child.wait()
    layers[1](layers[0](vectors)).square().mean().backward()
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt")
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        for found, parameter in zip(result["gradients"], parameters, strict=True):
            if parameter.grad is None:
                assert found is None
            else:
                # sums in another order
                torch.testing.assert_close(found, parameter.grad, rtol=1e-5, atol=1e-6)
        assert result["mean"].tolist() == [1.5, torch.inf], "what is not finite in one is so in all"
        assert (result["rank"], result["count"], result["number"]) == (rank, 2, 1.5)
        assert result["sum"].tolist() == [3.0]
        assert result["gathered"] == [{"of": 0}, {"of": 1}]
        assert [tensor.tolist() for tensor in result["sent"]] == [[5.0, 5.0], [0, 1, 2]]
