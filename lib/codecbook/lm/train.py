"""Train a language model on a corpus of tokens; the command line is ``python -m codecbook.lm train``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.batches import Windows
from codecbook.lm.loop import Trainer
from codecbook.lm.models import build_lm
from codecbook.lm.options import Evaluation, TrainOptions, TrainReport
from codecbook.lm.processes import joined_processes
from codecbook.lm.schedule import Budget
from codecbook.lm.token_lm import TokenLM, check_vocabulary
from codecbook.lm.trackers import Tracker

__all__ = ["Budget", "Evaluation", "TokenCorpus", "TrainOptions", "TrainReport", "train"]


class TokenCorpus(Protocol):
    """What training wants of a corpus: `codecbook.lm.data.Corpus`, or anything with the same few things."""

    codebook_sizes: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def clip(self, index: int) -> Any:
        """Return the codes of a clip, int64 ``[T, K]``."""
        ...

    def windows(self, context_frames: int, stride_frames: int) -> Windows:
        """Return sliding windows."""
        ...


def train(
    corpus: TokenCorpus,
    held_out: TokenCorpus,
    folder: str | Path,
    architecture: str = "rvq_transformer",
    arguments: dict[str, Any] | None = None,
    options: TrainOptions | None = None,
    device: str = "auto",
    on_evaluation: Callable[[TokenLM, Evaluation], None] | None = None,
    trackers: Sequence[Tracker] = (),
    say: Callable[[str], None] = print,
) -> TrainReport:
    """Train a model, or go on with the run that `folder` holds.

    Under `torchrun` every process calls this with the same arguments, and they share each batch.

    Args:
        corpus: Clips to train on.
        held_out: Clips to evaluate on, of the same codebooks and none of them in `corpus`.
        folder: For ``latest.pt``, ``best.pt`` and ``log.jsonl``; made if it does not exist.
        architecture: ``"rvq_transformer"`` or ``"tiny_gpt"``.
        arguments: Fields of its configuration other than ``codebook_sizes``, which the corpus decides.
        options: How to train; None takes the defaults.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        on_evaluation: Called with the averaged model after every evaluation, to make audio for instance.
        trackers: See `codecbook.lm.trackers`.
        say: Takes lines of progress.

    Returns:
        The best model, and what the run came to.

    Raises:
        UnsupportedInput: An empty side, clips shorter than the context, differing codebooks, settings that cannot
            be, or a checkpoint in `folder` of another architecture, vocabulary or setting.
        CorruptInput: A damaged checkpoint, or a code outside its codebook.
        CodecbookError: Training diverged for good, or memory ran out.

    Example::

        corpus = Corpus.from_files("tokens")
        train_clips, held_out = corpus.split(held_out_every=10)
        report = train(train_clips, held_out, "run", options=TrainOptions(budget=Budget(minutes=10)))
        print(report.best.bits_per_token)
    """
    options = options or TrainOptions()
    for name, clips in (("train on", corpus), ("hold out", held_out)):
        if len(clips) == 0:
            raise UnsupportedInput(f"There is no clip to {name}: this side of the split is empty; add clips.")
    with joined_processes(device) as processes, torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = build_lm(architecture, {**(arguments or {}), "codebook_sizes": corpus.codebook_sizes})
        check_vocabulary(model, held_out.codebook_sizes, "The held-out clips")
        trainer = Trainer(
            model.to(processes.device),
            corpus.windows(options.context_frames, options.stride_frames),
            held_out,
            options,
            Path(folder),
            processes,
            on_evaluation,
            trackers,
            say,
        )
        return trainer.run()
