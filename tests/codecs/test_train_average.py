import pytest
import torch
from torch import nn

from codecbook.codecs.build import random_seeded
from codecbook.codecs.train_average import averaged_module, move_average, parameter_copies


def test_copies_are_independent_of_the_module():
    module = nn.BatchNorm1d(2)
    copies = parameter_copies(module)
    assert sorted(copies) == ["bias", "weight"], "running statistics are no parameters"
    assert not any(value.requires_grad for value in copies.values())
    with torch.no_grad():
        module.weight.fill_(7.0)
    assert copies["weight"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (10, 0.55), (10_000, 0.99)])
def test_the_memory_is_short_at_first(step, decay):
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(2.0)
    average = {"weight": torch.tensor([[1.0]])}
    move_average(average, module, step, ema_decay=0.99)
    # float32: one rounding of the step from 1 to 2
    assert float(average["weight"]) == pytest.approx(decay + 2.0 * (1.0 - decay), rel=1e-6)
    assert float(module.weight.detach()) == 2.0


def test_the_averaged_module_has_averages_for_parameters_alone(tiny_recipe):
    recipe = tiny_recipe()
    module = random_seeded(recipe.architecture, recipe.arguments, seed=5)
    average = {name: value + 1.0 for name, value in parameter_copies(module).items()}
    averaged = averaged_module(recipe, module, average)
    assert averaged is not module
    assert not averaged.training
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, average[name] if name in average else module.state_dict()[name]), name
