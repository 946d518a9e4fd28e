"""The training loop of all language models.

A run of a number of steps is a function of its seed: stopped at any moment and continued, it ends with the same
weights, bit for bit, on one machine with one number of threads. Nothing random is carried from step to step: the
windows of a step, and the dropout of each of its windows' passes, are drawn from (seed, step, pass). The same makes
several processes repeat the run of one, up to the rounding of sums.
"""

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.batches import Clips, Windows
from codecbook.lm.checkpoints import (
    BEST_NAME,
    FORMAT,
    LATEST_NAME,
    averaged_model,
    check_continuation,
    keep_checkpoint,
    read_checkpoint,
    truncate_log,
    write_checkpoint,
)
from codecbook.lm.objective import NATS_TO_BITS
from codecbook.lm.options import Evaluation, TrainOptions, TrainReport
from codecbook.lm.passes import Passes
from codecbook.lm.processes import Processes
from codecbook.lm.progress import Meter, log_line
from codecbook.lm.run_state import RunState
from codecbook.lm.score import clip_bits, score_from
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.trackers import Tracker

LOG_NAME = "log.jsonl"
_MAX_RECOVERIES = 8
_MAX_SKIPS_IN_A_ROW = 50


def parameter_groups(model: TokenLM, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices and embeddings decay; gains of norms and position biases do not."""
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    free = [p for name, p in parameters if p.ndim < 2 or name.startswith("position_bias")]
    decayed = [p for name, p in parameters if not (p.ndim < 2 or name.startswith("position_bias"))]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


class Trainer:
    """One training run; `codecbook.lm.train.train` is the usual way to make one.

    Args:
        model: The model to train, on its device, with the parameters to start from.
        windows: Training windows.
        held_out: Clips to evaluate on.
        options: How to train.
        folder: For checkpoints and the log; a checkpoint that is there is continued.
        processes: The processes of the run.
        on_evaluation: Called on rank 0 with the averaged model and the evaluation, to make audio for instance.
        trackers: Called on rank 0 with the figures of evaluations.
        say: Takes lines of progress, on rank 0.

    Raises:
        UnsupportedInput: No windows, no clips, a batch that does not divide, or a checkpoint of another run.
        CorruptInput: A damaged checkpoint.
    """

    def __init__(
        self,
        model: TokenLM,
        windows: Windows,
        held_out: Clips,
        options: TrainOptions,
        folder: Path,
        processes: Processes,
        on_evaluation: Callable[[TokenLM, Evaluation], None] | None = None,
        trackers: Sequence[Tracker] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        self.model, self.windows, self.held_out = model, windows, held_out
        self.options, self.folder, self.processes = options, folder, processes
        self.on_evaluation, self.trackers = on_evaluation, trackers
        self._say = say if processes.rank == 0 else lambda line: None
        if len(held_out) == 0:
            raise UnsupportedInput(
                "No clip is held out, so nothing can be evaluated; split the corpus again."
            )
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, options.weight_decay), lr=options.learning_rate, betas=options.betas,
            fused=processes.device.type in ("cpu", "cuda"),
        )  # fmt: skip
        self.state = RunState()
        self.meter = Meter()
        self._resume()
        self.passes = Passes(model, windows, options, processes)

    def run(self) -> TrainReport:
        """Train to the end of the budget.

        Raises:
            CodecbookError: The loss would not become finite, or memory ran out.
            CorruptInput: A training or held-out code outside its codebook.
        """
        devices = [self.processes.device] if self.processes.device.type == "cuda" else []
        # the caller's random numbers go on afterwards as if nothing had been
        with torch.random.fork_rng(devices=devices):
            self.meter.start(self.state.elapsed_s)
            if self.state.step == 0:
                self._save()
            while self._progress() < 1.0:
                self._one_step()
            if not self.state.is_evaluated():
                self._evaluate()
            self._save()
        self.processes.wait()
        return self._report()

    def _progress(self) -> float:
        return self.options.budget.progress(self.state.step, self.state.elapsed_s)

    def _one_step(self) -> None:
        options = self.options
        rate = options.learning_rate_schedule.rate(self._progress()) * self.state.rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        nats, num_frames, self.state.elapsed_s = self.passes.gradients(
            self.state.step, self.meter.elapsed_s()
        )
        self.state.step += 1
        self.meter.add(nats * NATS_TO_BITS, num_frames * self.model.num_codebooks)
        self._update(self.passes.weighted(nats))
        if self._is_due():
            self._evaluate()
        elif self.meter.is_save_due(options.checkpoint_every_s):
            self._save()
        if self.meter.is_line_due(options.report_every_s):
            self._say(self.meter.line(self.state.step, self._progress()))

    def _update(self, loss: float) -> None:
        """Take the step, or leave it out where the loss says that it would do harm."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            self._recover()
        elif self.state.loss_mean is not None and loss > self.options.spike_factor * self.state.loss_mean:
            self._skip(loss)
        else:
            self.optimizer.step()
            # a lower decay at the start: else the random first weights would stay in the average for long
            self._average_weights(
                min(self.options.ema_decay, (1.0 + self.state.step) / (10.0 + self.state.step))
            )
            self.state.took_step(loss)
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _average_weights(self, decay: float) -> None:
        for average, parameter in zip(self.average.parameters(), self.model.parameters(), strict=True):
            average.lerp_(parameter, 1.0 - decay)

    def _skip(self, loss: float) -> None:
        self.state.skipped_step()
        assert self.state.loss_mean is not None
        self._say(
            f"step {self.state.step}: left out, its loss of {loss * NATS_TO_BITS:.2f} bits is more than "
            f"{self.options.spike_factor:g} times the mean of {self.state.loss_mean * NATS_TO_BITS:.2f}"
        )
        if self.state.skips_in_a_row > _MAX_SKIPS_IN_A_ROW:
            raise CodecbookError(
                f"{self.state.skips_in_a_row} steps in a row had a loss above {self.options.spike_factor:g} times its "
                "mean: the weights have diverged. Train again in another folder with a lower learning_rate."
            )

    def _recover(self) -> None:
        """Go back to the best weights, and on with the next windows at half the rate."""
        self.state.recoveries += 1
        if self.state.recoveries > _MAX_RECOVERIES:
            raise CodecbookError(
                f"The loss was not finite {self.state.recoveries} times; train with a lower learning_rate than "
                f"{self.options.learning_rate:g}, or with precision='float32'."
            )
        self.state.rate_scale *= 0.5
        self.processes.wait()  # the file is there once the first process is here
        name = BEST_NAME if (self.folder / BEST_NAME).is_file() else LATEST_NAME
        self._load_weights(read_checkpoint(self.folder / name))
        self._say(
            f"step {self.state.step}: the loss is not finite; back to the weights of {name}, on at "
            f"{self.state.rate_scale:g} of the learning rate"
        )

    def _is_due(self) -> bool:
        """Say whether the run has come past the next of its evenly spaced evaluations."""

        def passed(progress: float) -> int:
            return math.floor(progress * self.options.evaluations + 1e-9)

        last = self.state.evaluations[-1].progress if self.state.evaluations else 0.0
        return passed(self._progress()) > passed(last)

    def _evaluate(self) -> None:
        processes = self.processes
        bits, num_frames = clip_bits(
            self.average, self.held_out, range(processes.rank, len(self.held_out), processes.count)
        )
        sums = processes.sum(torch.from_numpy(np.append(bits, num_frames))).numpy()
        score = score_from(sums[:-1], int(sums[-1]))
        evaluation = Evaluation(
            self.state.step, self._progress(), self.state.elapsed_s, self.meter.tokens, self.meter.mean_bits(),
            score.bits_per_token, score.bits_per_codebook,
        )  # fmt: skip
        best = self.state.best()
        is_best = best is None or score.bits_per_token < best.bits_per_token
        self.state.evaluations.append(evaluation)
        self.meter.reset_mean()
        self._save(is_best)
        if processes.rank == 0:
            self._tell(evaluation, is_best)

    def _tell(self, evaluation: Evaluation, is_best: bool) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        self._say(
            f"step {evaluation.step}, {100 * evaluation.progress:.0f} %: {evaluation.bits_per_token:.4f} bits/token "
            f"held out{' (best)' if is_best else ''}, {evaluation.train_bits_per_token:.4f} in training"
        )
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(log_line(evaluation, rate, self.meter.tokens_per_s()))
        figures = {
            "bits_per_token": evaluation.bits_per_token,
            "train_bits_per_token": evaluation.train_bits_per_token,
            "learning_rate": rate,
            "tokens_per_s": self.meter.tokens_per_s(),
            **{f"bits_codebook_{k}": bits for k, bits in enumerate(evaluation.bits_per_codebook)},
        }
        for track in self.trackers:
            track(evaluation.step, figures)
        if self.on_evaluation is not None:
            self.on_evaluation(self.average, evaluation)

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "architecture": self.model.architecture,
            "arguments": self.model.config.arguments(),
            "options": self.options.stored(),
            "decisive": self.options.decisive(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "run": self.state.stored() | {"elapsed_s": self.meter.elapsed_s()},
            "meter": self.meter.state(),
        }

    def _save(self, is_best: bool = False) -> None:
        if self.processes.rank == 0:
            latest = self.folder / LATEST_NAME
            write_checkpoint(latest, self._checkpoint())
            if is_best:
                keep_checkpoint(latest, BEST_NAME)
            every = self.options.archive_every
            if every and self.state.is_evaluated() and len(self.state.evaluations) % every == 0:
                keep_checkpoint(latest, f"step_{self.state.step:08d}.pt")
        self.meter.saved()
        self.meter.leave_out()

    def _resume(self) -> None:
        path = self.folder / LATEST_NAME
        if not path.exists():
            if (self.folder / BEST_NAME).exists():
                raise UnsupportedInput(
                    f"{self.folder} holds {BEST_NAME} and no {LATEST_NAME}, and a new run would replace it; choose "
                    f"another folder, or copy it to {LATEST_NAME} to go on from there."
                )
            return
        stored = read_checkpoint(path)
        check_continuation(stored, self.model, self.options.decisive(), path)
        self._load_weights(stored)
        self.state = RunState.from_stored(stored["run"])
        self.meter.load(stored["meter"])
        if self.processes.rank == 0:
            best = self.state.best()
            if best is not None and best.step == self.state.step:
                keep_checkpoint(path, BEST_NAME)  # the run may have ended between the two files
            truncate_log(self.folder / LOG_NAME, self.state.step)
        self._say(f"going on from step {self.state.step} of {path}")

    def _load_weights(self, stored: dict[str, Any]) -> None:
        self.model.load_state_dict(stored["model"])
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])

    def _report(self) -> TrainReport:
        best = self.state.best()
        assert best is not None
        model = averaged_model(read_checkpoint(self.folder / BEST_NAME)).to(self.processes.device)
        return TrainReport(
            model, best, tuple(self.state.evaluations), self.state.step, self.state.elapsed_s,
            self.meter.tokens_per_s(), self.state.skipped_steps, self.state.recoveries, self.folder,
        )  # fmt: skip
