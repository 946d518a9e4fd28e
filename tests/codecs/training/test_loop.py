import json
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from codecbook.codecs.training import loop as train_loop
from codecbook.codecs.training import losses
from codecbook.codecs.training.data import Crops
from codecbook.codecs.training.loop import CodecTrainer
from codecbook.codecs.training.losses import relative_squared_error
from codecbook.codecs.training.recipes import Phase, learning_rate
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.training.schedule import Budget

STEPS = 10  # autoencoder 0 to 3, joint 4 to 6, decoder 7 to 9


@pytest.fixture
def trainer(tiny_recipe, tones, tmp_path):
    """Make a trainer of the small codec, as a new process would."""

    def make(folder="run", recipe=None, steps=STEPS, **more):
        recipe = recipe or tiny_recipe()
        crops = Crops([tones(4, channels=recipe.channels)], [1.0], 0)
        return CodecTrainer(recipe, crops, Budget(steps=steps), tmp_path / folder, **more)

    return make


def assert_same(first, second, where="checkpoint"):
    """Compare two nested states bit for bit, but for the time that they took."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first.keys() - {"elapsed_s"}:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def state_of(trainer):
    return torch.load(trainer.folder / "checkpoint.pt", weights_only=True)


def log_of(trainer):
    return [json.loads(line) for line in (trainer.folder / "log.jsonl").read_text().splitlines()]


def break_losses(monkeypatch, calls, loss_of=lambda loss, estimate: loss * torch.nan):
    """Replace the loss of some calls, counted from 0."""
    original, count = losses.codec_loss, iter(range(10_000))

    def broken(estimate, *arguments):
        loss, parts = original(estimate, *arguments)
        return (loss_of(loss, estimate) if next(count) in calls else loss), parts

    monkeypatch.setattr(train_loop, "codec_loss", broken)


# in the middle of a phase, at its last step, and one step into the next
@pytest.mark.parametrize("stops", [(2,), (4,), (5, 2), (7,), (8, 1)])
def test_a_stopped_run_goes_on_bit_for_bit(trainer, stops):
    unbroken = trainer("unbroken")
    module = unbroken.run()
    for steps in stops:
        stopped = trainer("stopped")
        stopped.run(steps)
    assert stopped.step == sum(stops)
    last = trainer("stopped")
    assert last.step == sum(stops)
    continued = last.run()
    assert_same(state_of(unbroken), state_of(last))
    for name, value in module.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name


@pytest.mark.parametrize("architecture", ["snac", "fsq", "encodec_stereo"])
def test_every_architecture_goes_on_bit_for_bit(trainer, tiny_recipe, architecture):
    phases = (Phase("joint", 0.5, 1.0, 0.5), Phase("decoder", 1.0, 0.5, 0.1))
    recipe = tiny_recipe(architecture, phases=phases)
    unbroken, stopped = (trainer(folder, recipe, 4) for folder in ("unbroken", "stopped"))
    unbroken.run()
    stopped.run(3)
    last = trainer("stopped", recipe, 4)
    last.run()
    assert_same(state_of(unbroken), state_of(last))


def test_a_finished_run_stays_as_it_is(trainer):
    first = trainer(steps=3)
    first.run()
    state = state_of(first)
    second = trainer(steps=3)
    second.run()
    assert_same(state, state_of(second))


def test_a_raised_budget_does_not_go_back_to_an_earlier_phase(trainer):
    first = trainer(steps=10)
    first.run()
    assert first.recipe.phases[first.phase].name == "decoder"
    second = trainer(steps=40)
    encoder = {n: v.clone() for n, v in second.model.module.encoder.state_dict().items()}
    second.run()
    assert second.step == 40
    assert second.recipe.phases[second.phase].name == "decoder"
    for name, value in second.model.module.encoder.state_dict().items():
        assert torch.equal(value, encoder[name]), name


def test_training_learns(trainer, tiny_recipe, tones):
    run = trainer(recipe=tiny_recipe(phases=(Phase("autoencoder", 1.0, 1.0, 0.5),)), steps=40)
    audio = torch.from_numpy(np.stack(tones(4, 0.1, seed=1)))

    @torch.no_grad()
    def error(module):
        return float(relative_squared_error(module.decoder(module.encoder(audio)), audio))

    started = error(run.run(1))
    assert error(run.run()) < 0.9 * started


def test_every_tenth_step_is_logged(trainer):
    run = trainer(steps=20)
    run.run()
    entries = log_of(run)
    assert [(entry["step"], entry["phase"]) for entry in entries] == [(10, "joint"), (20, "decoder")]
    for entry in entries:
        assert entry.keys() >= {"elapsed_s", "remaining_s", "rate", "loss", "gradient_norm"}
        assert np.isfinite(entry["loss"])
    assert entries[-1]["remaining_s"] == 0.0


def test_phases_train_what_they_should(trainer):
    run = trainer()
    parts = {}
    for name, steps in (("start", 1), ("autoencoder", 3), ("joint", 3), ("decoder", 3)):
        run.run(steps)
        assert run.recipe.phases[run.phase].name == ("autoencoder" if name == "start" else name)
        parts[name] = {key: value.clone() for key, value in run.model.module.state_dict().items()}
        if name == "joint":
            averages = {key: value.clone() for key, value in run.average.items()}

    def changed(before, after):
        return {".".join(key.split(".")[:1]) for key in before if not torch.equal(parts[after][key], before[key])}

    assert changed(parts["start"], "autoencoder") == {"encoder", "decoder"}
    assert changed(parts["autoencoder"], "joint") == {"encoder", "quantizer", "decoder"}
    # the codes are frozen, and it is the averages that were frozen
    encoder = {key: value for key, value in averages.items() if key.startswith("encoder")}
    assert encoder
    assert changed(encoder, "decoder") == set()
    assert changed(averages, "decoder") == {"decoder"}


def test_every_fiftieth_step_is_said(trainer, tiny_recipe, capsys):
    trainer(recipe=tiny_recipe(phases=(Phase("autoencoder", 1.0, 1.0, 0.5),)), steps=50).run()
    assert re.fullmatch(
        r"autoencoder step 50  100.0 %  loss \d.*  gradient_norm \d.*  about 0 min left\n", capsys.readouterr().out
    )


@pytest.mark.parametrize("damage", ["another recipe", "truncated", "no recipe"])
def test_a_run_that_is_refused_overwrites_nothing(trainer, tiny_recipe, damage):
    run = trainer()
    run.run(1)
    path = run.folder / "checkpoint.pt"
    recipe, error, message = tiny_recipe(), CorruptInput, "is no complete checkpoint"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "no recipe":
        torch.save({**state_of(run), "recipe": 7}, path)
    else:
        recipe, error, message = tiny_recipe(seed=1), UnsupportedInput, "seed: 0 there, 1 here"
    before = {file: file.read_bytes() for file in run.folder.iterdir()}
    with pytest.raises(error, match=message):
        trainer(recipe=recipe)
    assert {file: file.read_bytes() for file in run.folder.iterdir()} == before


def test_a_run_of_another_number_of_processes_is_refused(trainer):
    run = trainer()
    run.run(1)
    state = state_of(run)
    torch.save({**state, "crops": state["crops"] * 2}, run.folder / "checkpoint.pt")
    with pytest.raises(UnsupportedInput, match="is of 2 processes, not 1; take 2"):
        trainer()


def test_the_result_has_the_averages_and_is_a_copy(trainer):
    run = trainer()
    module = run.run(3)
    assert not module.training
    parameters = dict(module.named_parameters())
    for name, value in run.average.items():
        assert torch.equal(parameters[name], value), name
    assert not all(torch.equal(v, parameters[n]) for n, v in run.model.module.named_parameters())
    with torch.no_grad():
        for value in parameters.values():
            value.zero_()
    assert any(value.any() for value in run.average.values())


def test_quantiser_dropout_draws_powers_of_two_and_often_the_main_number(trainer, tiny_recipe):
    arguments = {**tiny_recipe().arguments, "num_codebooks": 6, "bandwidth_kbps": 6 * 1.6}
    run = trainer(recipe=tiny_recipe(arguments=arguments, main_codebooks=3))
    drawn = Counter(run._num_codebooks() for _ in range(1200))
    assert drawn.keys() == {1, 2, 3, 4}
    assert drawn[3] == pytest.approx(600, abs=70)  # four standard deviations
    assert min(drawn[1], drawn[2], drawn[4]) > 130


@pytest.mark.parametrize(("num_codebooks", "main"), [(1, 8), (2, 8), (6, 6)])
def test_quantiser_dropout_keeps_to_the_codebooks_that_there_are(trainer, tiny_recipe, num_codebooks, main):
    arguments = {**tiny_recipe().arguments, "num_codebooks": num_codebooks}
    arguments["bandwidth_kbps"] = 1.6 * num_codebooks
    run = trainer(recipe=tiny_recipe(arguments=arguments, main_codebooks=main))
    drawn = {run._num_codebooks() for _ in range(200)}
    assert min(drawn) == 1
    assert max(drawn) == num_codebooks


def test_codecs_without_dropout_use_all_levels(trainer, tiny_recipe):
    run = trainer(recipe=tiny_recipe("snac"))
    assert {run._num_codebooks() for _ in range(20)} == {2}


def infinite_gradient(loss, estimate):
    """A finite loss whose gradient is not."""
    return loss + (estimate * 0).abs().sqrt().sum()


@pytest.mark.parametrize("loss_of", [lambda loss, _estimate: loss * torch.nan, infinite_gradient])
def test_a_loss_that_is_not_finite_goes_back_and_slows_down(trainer, monkeypatch, capsys, loss_of):
    run = trainer(checkpoint_every_s=1000.0)
    run.run(2)  # leaves a checkpoint at step 2
    good = state_of(run)
    capsys.readouterr()
    break_losses(monkeypatch, {1}, loss_of)
    assert run.train_step()
    assert run.step == 3
    assert run.train_step() == {}
    message = "Loss not finite at step 3; back to step 2, learning rate x 0.5 from here."
    assert capsys.readouterr().out == message + "\n"
    assert log_of(run)[-1] == {"step": 3, "message": message}
    assert run.step == 2
    for name, value in run.model.module.state_dict().items():
        assert torch.equal(value, good["module"][name]), name
    run.train_step()
    (group,) = run.optimizer.param_groups
    assert group["lr"] == pytest.approx(0.5 * learning_rate(run.recipe, run.phase, 0.2, 2), rel=1e-12)
    module = run.run()
    assert run.step == STEPS
    assert all(value.isfinite().all() for value in module.state_dict().values())


def test_recoveries_halve_the_rate_again_and_are_remembered(trainer, monkeypatch):
    run = trainer()
    break_losses(monkeypatch, {1, 3})
    run.run(4)
    assert run.rate_scale == 0.25
    again = trainer()
    assert (again.rate_scale, again.recoveries) == (0.25, 2)


def test_recovery_in_the_decoder_phase_keeps_the_codes(trainer, monkeypatch):
    run = trainer()
    run.run(8)
    encoder = {n: v.clone() for n, v in run.model.module.state_dict().items() if not n.startswith("decoder")}
    break_losses(monkeypatch, {0})
    run.run()
    assert run.recoveries == 1
    for name, value in encoder.items():
        assert torch.equal(run.model.module.state_dict()[name], value), name


def test_a_run_that_cannot_recover_gives_up(trainer, monkeypatch, capsys):
    run = trainer()
    break_losses(monkeypatch, set(range(2, 100)))
    with pytest.raises(CodecbookError, match=r"not finite 9 times, last in step 0; lower its rate"):
        run.run()
    assert capsys.readouterr().out.count("Loss not finite") == 8
    state = state_of(run)
    assert all(value.isfinite().all() for value in state["module"].values())


def test_minutes_end_a_run_too(tiny_recipe, tones, tmp_path, monkeypatch):
    clock = iter(np.arange(0.0, 1e6, 1.5))
    # of this module alone: other parts of the process need the real clock
    monkeypatch.setattr(train_loop, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    recipe = replace(tiny_recipe(), fit_seconds=0.5)
    crops = Crops([tones(2)], [1.0], 0)
    run = CodecTrainer(recipe, crops, Budget(minutes=0.2), tmp_path, checkpoint_every_s=1000.0)
    run.run()
    assert (run.step, run.elapsed_s) == (8, 12.0)
    again = CodecTrainer(recipe, crops, Budget(minutes=0.2), tmp_path)
    assert again.progress == 1.0
