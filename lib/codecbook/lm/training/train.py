"""Train a language model on a corpus of tokens; the command line is ``python -m codecbook.lm train``.

A run of a number of steps is a function of its seed: stopped at any moment and continued, it ends with the same
weights, bit for bit, on one machine with one number of threads. Nothing random is carried from step to step: the
windows of a step, and the dropout of each of its windows' passes, are drawn from (seed, step, pass). The same makes
several processes repeat the run of one, up to the rounding of sums.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.baselines.ngrams import check_corpora
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.models import build_lm
from codecbook.lm.score import clip_bits
from codecbook.lm.token_lm import TokenLM, check_vocabulary
from codecbook.lm.training import progress
from codecbook.lm.training.options import NATS_TO_BITS, Evaluation, TrainOptions, TrainReport
from codecbook.lm.training.passes import Passes
from codecbook.training.checkpoint import keep_checkpoint, move_average, write_checkpoint
from codecbook.training.corpus_record import Record, continued, corpus_record, write_record
from codecbook.training.log import RunLog, Tracker
from codecbook.training.processes import Processes, joined_processes

_MAX_RECOVERIES = 8
_MAX_SKIPS_IN_A_ROW = 50


def train(
    corpus: Corpus,
    held_out: Corpus,
    folder: str | Path,
    architecture: str = "rvq_transformer",
    arguments: dict[str, Any] | None = None,
    options: TrainOptions | None = None,
    device: str = "auto",
    trackers: Sequence[Tracker] = (),
    say: Callable[[str], None] = print,
    changed_corpus: bool = False,
) -> TrainReport:
    """Train a model, or continue the run that `folder` holds.

    Under `torchrun` every process calls this with the same arguments, and they share each batch.

    Args:
        corpus: Clips to train on.
        held_out: Clips to evaluate on, of the same codebooks, none of them in `corpus`.
        folder: For ``latest.pt``, ``best.pt``, ``log.jsonl`` and ``corpus.csv``; made if it does not exist.
        architecture: ``"rvq_transformer"`` or ``"tiny_gpt"``.
        arguments: Fields of its configuration other than ``codebook_sizes``, which the corpus decides.
        options: None takes the defaults.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        trackers: See `codecbook.training.log`.
        say: Takes lines of progress.
        changed_corpus: Continue although the clips have changed; evaluations on other held-out clips then no longer
            count for the best one.

    Raises:
        UnsupportedInput: Clips shorter than the context, differing codebooks, impossible settings, or a checkpoint of
            another architecture, vocabulary, setting or corpus.
        CorruptInput: A damaged checkpoint or log, or a code outside its codebook.
        CodecbookError: Training diverged for good, or memory ran out.
    """
    options = options or TrainOptions()
    record = corpus_record(
        zip(corpus.clips, corpus.identities, strict=True), zip(held_out.clips, held_out.identities, strict=True)
    )
    # the caller's random numbers are not touched
    with (
        joined_processes(device) as processes,
        torch.random.fork_rng([processes.device] if processes.device.type == "cuda" else []),
    ):
        torch.manual_seed(options.seed)
        model = build_lm(architecture, {**(arguments or {}), "codebook_sizes": corpus.codebook_sizes})
        check_vocabulary(model, held_out.codebook_sizes, "The held-out clips")
        check_corpora(None, held_out)
        windows = Windows(corpus, options.context_frames, options.stride_frames)
        log = RunLog(Path(folder), processes.rank == 0, say)
        run = _Run(model.to(processes.device), held_out, options, Path(folder), processes, record, trackers, log)
        run.resume(changed_corpus)
        return run.finish(windows)


def parameter_groups(model: TokenLM, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices and embeddings decay; gains of norms and position biases do not."""
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
    for name, parameter in model.named_parameters():
        is_free = parameter.ndim < 2 or name.startswith("position_bias")
        groups[is_free]["params"].append(parameter)
    return groups


@dataclass(eq=False)
class _Run:
    """One training run, in one of its processes."""

    model: TokenLM
    held_out: Corpus
    options: TrainOptions
    folder: Path
    processes: Processes
    record: Record | None
    trackers: Sequence[Tracker]
    log: RunLog

    def __post_init__(self) -> None:
        self.is_first = self.processes.rank == 0
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.options.weight_decay), lr=self.options.learning_rate,
            betas=self.options.betas, fused=self.processes.device.type in ("cpu", "cuda"),
        )  # fmt: skip
        self.state, self.meter = progress.RunState(), progress.Meter()

    def resume(self, changed_corpus: bool) -> None:
        """Go on from the checkpoint in the folder, if there is one."""
        path = self.folder / progress.LATEST_NAME
        if not path.exists():
            if (self.folder / progress.BEST_NAME).exists():
                raise UnsupportedInput(
                    f"{self.folder} holds {progress.BEST_NAME} and no {progress.LATEST_NAME}, and a new run would "
                    "replace it; choose another folder, or copy it to that name to go on from there."
                )
            return
        stored = progress.read_checkpoint(path)
        progress.check_continuation(stored, self.model, self.options.decisive(), path)
        self.record, changes, holds_out_others = continued(stored.get("corpus"), self.record, changed_corpus, path)
        self._load_weights(stored)
        self.state, self.meter = progress.RunState.from_stored(stored["run"]), progress.Meter(**stored["meter"])
        if holds_out_others:
            self.state.comparable_from = len(self.state.evaluations)
        self.log.truncate(self.state.step)
        best = self.state.best()
        if self.is_first and best is not None and best.step == self.state.step:
            keep_checkpoint(path, progress.BEST_NAME)  # the run may have ended between the two files
        self.log.say(f"going on from step {self.state.step} of {path}{f'; {changes}' if changes else ''}")

    def _load_weights(self, stored: dict[str, Any]) -> None:
        self.model.load_state_dict(stored["model"])
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])

    def finish(self, windows: Windows) -> TrainReport:
        """Train to the end of the budget."""
        self.passes = Passes(self.model, windows, self.options, self.processes)
        self.meter.start(self.state.elapsed_s)
        if self.is_first and self.record is not None:
            write_record(self.folder, self.record)
        if self.state.step == 0:
            self._save()
        while self._progress() < 1.0:
            self._one_step()
        if not self.state.is_evaluated():
            self._evaluate()
        self._save()
        self.processes.wait()
        best = self.state.best()
        assert best is not None
        model = progress.averaged_model(progress.read_checkpoint(self.folder / progress.BEST_NAME)).to(
            self.processes.device
        )
        return TrainReport(
            model, best, tuple(self.state.evaluations), self.state.step, self.state.elapsed_s,
            self.meter.tokens_per_s(),
        )  # fmt: skip

    def _progress(self) -> float:
        return self.options.budget.progress(self.state.step, self.state.elapsed_s)

    def _one_step(self) -> None:
        options = self.options
        rate = options.learning_rate_schedule.rate(self._progress()) * self.state.rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        nats, num_frames, self.state.elapsed_s = self.passes.gradients(self.state.step, self.meter.elapsed_s())
        self.state.step += 1
        self.meter.add(float((nats * NATS_TO_BITS).mean()), num_frames * self.model.num_codebooks)
        self._update(self.passes.weighted(nats))
        last = self.state.evaluations[-1].progress if self.state.evaluations else 0.0
        now, before = (math.floor(p * options.evaluations + 1e-9) for p in (self._progress(), last))
        if now > before:  # past the next of the evenly spaced evaluations
            self._evaluate()
        elif self.meter.is_save_due(options.checkpoint_every_s):
            self._save()
        if self.meter.is_line_due(options.report_every_s):
            self.log.say(self.meter.line(self.state.step, self._progress()))

    def _update(self, loss: float) -> None:
        """Take the step, or leave it out where the loss says that it would do harm."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            self._recover()
        elif self.state.loss_mean is not None and loss > self.options.spike_factor * self.state.loss_mean:
            self._skip(loss, self.state.loss_mean)
        else:
            self.optimizer.step()
            move_average(self.average.parameters(), self.model.parameters(), self.state.step, self.options.ema_decay)
            self.state.took_step(loss)
        self.optimizer.zero_grad(set_to_none=True)

    def _skip(self, loss: float, mean: float) -> None:
        self.state.skipped_steps += 1
        self.state.skips_in_a_row += 1
        self.log.say(
            f"step {self.state.step}: left out, its loss of {loss * NATS_TO_BITS:.2f} bits is more than "
            f"{self.options.spike_factor:g} times the mean of {mean * NATS_TO_BITS:.2f}"
        )
        if self.state.skips_in_a_row > _MAX_SKIPS_IN_A_ROW:
            raise CodecbookError(f"{self.state.skips_in_a_row} steps in a row lost far too much; lower learning_rate.")

    def _recover(self) -> None:
        """Go back to the best weights, and on with the next windows at half the rate."""
        self.state.recoveries += 1
        if self.state.recoveries > _MAX_RECOVERIES:
            raise CodecbookError(f"The loss was not finite {self.state.recoveries} times; lower learning_rate.")
        self.state.rate_scale *= 0.5
        self.processes.wait()  # the file is there once the first process is here
        name = progress.BEST_NAME if (self.folder / progress.BEST_NAME).is_file() else progress.LATEST_NAME
        self._load_weights(progress.read_checkpoint(self.folder / name))
        self.log.say(
            f"step {self.state.step}: the loss is not finite; back to the weights of {name}, on at "
            f"{self.state.rate_scale:g} of the learning rate"
        )

    def _evaluate(self) -> None:
        mine = range(self.processes.rank, len(self.held_out), self.processes.count)
        bits = self.processes.sum(torch.from_numpy(clip_bits(self.average, self.held_out, mine).sum(axis=0)))
        per_codebook = (bits / self.held_out.num_rows).numpy()
        evaluation = Evaluation(
            self.state.step, self._progress(), self.state.elapsed_s, self.meter.tokens, self.meter.mean_bits(),
            float(per_codebook.mean()), tuple(per_codebook.tolist()),
        )  # fmt: skip
        best = self.state.best()
        is_best = best is None or evaluation.bits_per_token < best.bits_per_token
        self.state.evaluations.append(evaluation)
        self.meter.reset_mean()
        self._save(is_best)
        if self.is_first:
            self._report(evaluation, is_best)

    def _report(self, evaluation: Evaluation, is_best: bool) -> None:
        self.log.say(
            f"step {evaluation.step}, {100 * evaluation.progress:.0f} %: {evaluation.bits_per_token:.4f} bits/token "
            f"held out{' (best)' if is_best else ''}, {evaluation.train_bits_per_token:.4f} in training"
        )
        speed = {"learning_rate": self.optimizer.param_groups[0]["lr"], "tokens_per_s": self.meter.tokens_per_s()}
        self.log.write({**asdict(evaluation), **speed})
        figures = {name: getattr(evaluation, name) for name in ("bits_per_token", "train_bits_per_token")} | speed
        figures |= {f"bits_codebook_{k}": bits for k, bits in enumerate(evaluation.bits_per_codebook)}
        for track in self.trackers:
            track(evaluation.step, figures)

    def _save(self, is_best: bool = False) -> None:
        if self.is_first:
            state = {
                "format": progress.FORMAT, "architecture": self.model.architecture,
                "arguments": self.model.config.arguments(), "options": self.options.stored(),
                "decisive": self.options.decisive(), "model": self.model.state_dict(),
                "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
                "run": asdict(self.state) | {"elapsed_s": self.meter.elapsed_s()}, "meter": asdict(self.meter),
                "corpus": self.record,
            }  # fmt: skip
            latest = self.folder / progress.LATEST_NAME
            write_checkpoint(latest, state)
            if is_best:
                keep_checkpoint(latest, progress.BEST_NAME)
            every = self.options.archive_every
            if every and self.state.is_evaluated() and len(self.state.evaluations) % every == 0:
                keep_checkpoint(latest, f"step_{self.state.step:08d}.pt")
        self.meter.saved()
