import pytest
import torch
from torch import nn

from codecbook.training.checkpoint import move_average


@pytest.mark.parametrize(("steps", "decay"), [(0, 0.1), (10, 0.55), (10_000, 0.99)])
def test_the_memory_is_short_at_first(steps, decay):
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(2.0)
    average = torch.tensor([[1.0]])
    move_average([average], module.parameters(), steps, ema_decay=0.99)
    # float32: one rounding of the step from 1 to 2
    assert float(average) == pytest.approx(decay + 2.0 * (1.0 - decay), rel=1e-6)
    assert float(module.weight.detach()) == 2.0


def test_one_call_for_all_averages_as_one_call_each():
    torch.manual_seed(0)
    old, new = ([torch.randn(17, n) for n in (1, 8, 33)] for _ in range(2))
    expected = [a.clone().lerp_(b, 1.0 - 0.25) for a, b in zip(old, new, strict=True)]
    move_average(old, new, 3, 0.25)
    assert all(torch.equal(a, b) for a, b in zip(old, expected, strict=True))
