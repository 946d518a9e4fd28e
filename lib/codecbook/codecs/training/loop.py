"""The training loop of all codecs: phases, averaged parameters, recovery from divergence.

A run is a function of its seed: a run that is stopped and continued from its checkpoint makes the same parameters,
bit for bit, as one that was not (on one machine, with a number of steps rather than of minutes, and without
recoveries in between).
"""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.codecs.build import random_seeded
from codecbook.codecs.training.data import Crops
from codecbook.codecs.training.losses import codec_loss
from codecbook.codecs.training.models import trainable
from codecbook.codecs.training.recipes import Recipe, learning_rate, phase_at
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.models.weights import seeded
from codecbook.training.checkpoint import check_settings, move_average, read_checkpoint, write_checkpoint
from codecbook.training.corpus_record import Record, continued, write_record
from codecbook.training.log import RunLog
from codecbook.training.processes import Processes, alone
from codecbook.training.schedule import Budget

_LOG_EVERY_STEPS, _SAY_EVERY_STEPS = 10, 50
_MAX_RECOVERIES = 8
_PLACE = ("step", "elapsed_s", "phase", "rate_scale", "recoveries")  # attributes: where a run stands


class CodecTrainer:
    """One training run.

    Args:
        recipe: What to train, and how.
        crops: Source of batches; each process has its own, with its own seed.
        budget: How long.
        folder: For ``checkpoint.pt`` and ``log.jsonl``; a checkpoint that is there is continued.
        processes: The processes of the run; None for this one alone, on the CPU.
        checkpoint_every_s: Between checkpoints.
        start_from: A trained module of the recipe's architecture to begin with; None begins from the data.
        record: What the recordings are, kept in checkpoints and as ``corpus.csv``.
        changed_corpus: Continue although the recordings are not those of the checkpoint.

    A damaged checkpoint raises CorruptInput; one of another recipe, number of processes or corpus UnsupportedInput.
    """

    def __init__(
        self,
        recipe: Recipe,
        crops: Crops,
        budget: Budget,
        folder: Path,
        processes: Processes | None = None,
        checkpoint_every_s: float = 120.0,
        start_from: nn.Module | None = None,
        record: Record | None = None,
        changed_corpus: bool = False,
    ) -> None:
        self.processes = processes or alone()
        self.recipe, self.crops, self.budget, self.device = recipe, crops, budget, self.processes.device
        self.folder, self.checkpoint_every_s = folder, checkpoint_every_s
        self.start_from, self.record = start_from, record
        module = random_seeded(recipe.architecture, recipe.arguments, recipe.seed)
        self.model = trainable(module.to(self.device))
        self.model.module.train()
        self.step, self.elapsed_s, self.phase, self.rate_scale, self.recoveries = 0, 0.0, -1, 1.0, 0
        self.random = np.random.default_rng(recipe.seed + 1)
        self.torch_random = torch.Generator().manual_seed(recipe.seed + 2)
        self.average: dict[str, Tensor] = {}
        self._prepare_phase()
        self.log = RunLog(folder, self.processes.rank == 0)
        self.path = folder / "checkpoint.pt"
        if self.path.exists():
            self._resume(changed_corpus)

    def _resume(self, changed_corpus: bool) -> None:
        saved = self._saved()
        check_settings(saved["recipe"], asdict(self.recipe), self.path)
        self.record, changes, _ = continued(saved.get("corpus"), self.record, changed_corpus, self.path)
        if changes:
            self.log.say(f"going on with another corpus: {changes}")
        count = len(saved["crops"])
        if count != self.processes.count:
            raise UnsupportedInput(f"The checkpoint is of {count} processes, not {self.processes.count}; take {count}.")
        self._restore(saved)
        self.crops.random.bit_generator.state = saved["crops"][self.processes.rank]

    @property
    def progress(self) -> float:
        """How far the run is, 0 to 1."""
        return self.budget.progress(self.step, self.elapsed_s)

    @property
    def _phase_name(self) -> str:
        return self.recipe.phases[self.phase].name if self.phase >= 0 else ""

    def _saved(self) -> dict[str, Any]:
        return read_checkpoint(self.path, ("recipe", "module", "average", "optimizer", "crops"))

    def _restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint, but for the crops that were drawn."""
        for name in _PLACE:
            setattr(self, name, state[name])
        self._prepare_phase()
        self.model.module.load_state_dict(state["module"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.bit_generator.state = state["random"]
        self.torch_random.set_state(state["torch_random"])

    def _checkpoint(self) -> None:
        crops = self.processes.gather(self.crops.random.bit_generator.state)
        if self.processes.rank == 0:
            state = {
                "recipe": asdict(self.recipe), "module": self.model.module.state_dict(), "average": self.average,
                "optimizer": self.optimizer.state_dict(), "random": self.random.bit_generator.state,
                "torch_random": self.torch_random.get_state(), "crops": crops, "corpus": self.record,
                **{name: getattr(self, name) for name in _PLACE},
            }  # fmt: skip
            write_checkpoint(self.path, state)

    def _batch(self) -> Tensor:
        batch = self.crops.batch(self.recipe.batch_size, self.recipe.crop_samples)
        return self.model.normalise(torch.from_numpy(batch).to(self.device))

    def _prepare_phase(self) -> None:
        """Choose what the current phase trains."""
        decoding = self._phase_name == "decoder"
        parameters = self.model.decoding_parameters() if decoding else self.model.module.parameters()
        self.parameters = list(parameters)
        # one fused kernel instead of a dozen passes over the parameters, where the device has one
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=1e-5,
            fused=self.device.type in ("cpu", "cuda"),
        )  # fmt: skip

    def _enter_phase(self, index: int) -> None:
        """Set up what the phase begins with, the same in every process."""
        if self.phase >= 0:
            self.model.module.load_state_dict(self.average, strict=False)
        elif self.start_from is not None:
            self.model.module.load_state_dict(self.start_from.state_dict())
        else:
            audio = torch.cat([self._batch() for _ in range(math.ceil(32 / self.recipe.batch_size))])
            self.processes.broadcast([audio])
            with seeded(self.recipe.seed):
                self.model.start(audio)
        self.phase = index
        if self._phase_name != "autoencoder" and self.model.refits and self.recipe.refits:
            self._fit_codebooks()
        self.average = {name: value.detach().clone() for name, value in self.model.module.named_parameters()}
        self._prepare_phase()
        self._checkpoint()

    @torch.no_grad()
    def _fit_codebooks(self) -> None:
        """Fit the codebooks to latents of fresh crops; the first process fits, the others receive."""
        crop_s = self.recipe.crop_samples / self.recipe.sample_rate_hz
        count = math.ceil(self.recipe.fit_seconds / crop_s / self.recipe.batch_size)
        latents = torch.cat([self.model.latents(self._batch()) for _ in range(count)])
        self.model.fit_codebooks(latents, self.recipe.seed)
        self.processes.broadcast(self.model.module.state_dict().values())

    def _num_codebooks(self) -> int:
        """Draw how many codebooks to use: the recipe's main number in half of the steps, else a power of two."""
        available = self.model.num_codebooks
        if not self.model.drops_codebooks:
            return available
        if self.random.random() < 0.5:
            return min(self.recipe.main_codebooks, available)
        return int(2 ** self.random.integers(0, available.bit_length()))

    def _forward(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (estimate, commitment loss) of the current phase."""
        num_codebooks = self._num_codebooks()
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            if self._phase_name == "autoencoder":
                quantized = self.model.continuous(self.model.latents(target))
                commitment = target.new_zeros(())
            else:
                with torch.set_grad_enabled(self._phase_name == "joint"):
                    latents = self.model.latents(target).float()
                with torch.autocast("cuda", enabled=False):
                    quantized, commitment = self.model.quantize(latents, num_codebooks)
            estimate = self.model.decode(quantized)
        return estimate.float()[..., : target.shape[-1]], commitment

    def train_step(self) -> dict[str, float]:
        """Do one step; return the parts of the loss, none where the run had to recover."""
        target = self._batch()
        rate = learning_rate(self.recipe, self.phase, self.progress, self.step)
        self.optimizer.param_groups[0]["lr"] = self.rate_scale * rate
        estimate, commitment = self._forward(target)
        loss, parts = codec_loss(estimate, target, self.recipe.sample_rate_hz, commitment, self.recipe.loss)
        finite = bool(self.processes.mean(loss.detach().reshape(1)).isfinite())
        norm = torch.zeros(())
        if finite:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.processes.average_gradients(self.parameters)
            norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
            finite = bool(norm.isfinite())
        if not finite:
            self._recover()
            return {}
        self.optimizer.step()
        if self._phase_name == "joint":
            self.model.update_codebooks(self.processes.mean, self.torch_random)
        parameters = dict(self.model.module.named_parameters())
        averages = (self.average[name] for name in parameters)
        move_average(averages, parameters.values(), self.step, self.recipe.ema_decay)
        self.step += 1
        return {"loss": float(loss.detach()), **parts, "gradient_norm": float(norm)}

    def _recover(self) -> None:
        """Go back to the last checkpoint after a loss that is not finite, with half the learning rate."""
        step, elapsed_s, rate_scale, recoveries = self.step, self.elapsed_s, self.rate_scale / 2, self.recoveries + 1
        if recoveries > _MAX_RECOVERIES:
            raise CodecbookError(f"The loss was not finite {recoveries} times, last in step {step}; lower its rate.")
        # crops go on from here: the same batches might diverge in the same way
        self._restore(self._saved())
        self.elapsed_s, self.rate_scale, self.recoveries = elapsed_s, rate_scale, recoveries
        message = f"Loss not finite at step {step}; back to step {self.step}, learning rate x {rate_scale:g} from here."
        self.log.write({"step": step, "message": message})
        self.log.say(message)

    def run(self, stop_after_steps: int | None = None) -> nn.Module:
        """Train to the end of the budget, or some steps further at most; return `averaged`."""
        if self.processes.rank == 0 and self.record is not None:
            write_record(self.folder, self.record)
        last_checkpoint = last_time = time.monotonic()
        stop_at = math.inf if stop_after_steps is None else self.step + stop_after_steps
        while self.progress < 1.0 and self.step < stop_at:
            index = phase_at(self.recipe.phases, self.progress, self.phase)
            if index != self.phase:
                self._enter_phase(index)
            parts = self.train_step()
            now = time.monotonic()
            self.elapsed_s += self.processes.mean_of_number(now - last_time)
            last_time = now
            if parts and self.step % _LOG_EVERY_STEPS == 0:
                self._report(parts)
            if self.processes.mean_of_number(now - last_checkpoint) > self.checkpoint_every_s:
                self._checkpoint()
                last_checkpoint = time.monotonic()
        self._checkpoint()
        return self.averaged()

    def _report(self, parts: dict[str, float]) -> None:
        remaining_s = self.elapsed_s / self.progress - self.elapsed_s
        self.log.write(
            {
                "step": self.step, "phase": self._phase_name, "elapsed_s": round(self.elapsed_s, 1),
                "remaining_s": round(remaining_s, 1), "rate": self.optimizer.param_groups[0]["lr"],
                **{name: round(value, 5) for name, value in parts.items()},
            }
        )  # fmt: skip
        if self.step % _SAY_EVERY_STEPS == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in parts.items())
            self.log.say(
                f"{self._phase_name} step {self.step}  {100 * self.progress:.1f} %  {shown}  "
                f"about {remaining_s / 60:.0f} min left"
            )

    def averaged(self) -> nn.Module:
        """Return a copy of the codec with averaged parameters, on the CPU, in evaluation mode."""
        averaged = random_seeded(self.recipe.architecture, self.recipe.arguments, self.recipe.seed)
        averaged.load_state_dict({**self.model.module.state_dict(), **self.average})
        return averaged.eval()
