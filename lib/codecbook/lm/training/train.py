"""Train a language model on a corpus of tokens; the command line is ``python -m codecbook.lm train``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.models import build_lm
from codecbook.lm.token_lm import TokenLM, check_vocabulary
from codecbook.lm.training.loop import LMTrainer
from codecbook.lm.training.options import Evaluation, TrainOptions, TrainReport
from codecbook.training.corpus_record import corpus_record
from codecbook.training.log import Tracker
from codecbook.training.processes import joined_processes
from codecbook.training.schedule import Budget

__all__ = ["Budget", "Evaluation", "TrainOptions", "TrainReport", "train"]


def train(
    corpus: Corpus,
    held_out: Corpus,
    folder: str | Path,
    architecture: str = "rvq_transformer",
    arguments: dict[str, Any] | None = None,
    options: TrainOptions | None = None,
    device: str = "auto",
    on_evaluation: Callable[[TokenLM, Evaluation], None] | None = None,
    trackers: Sequence[Tracker] = (),
    say: Callable[[str], None] = print,
    changed_corpus: bool = False,
) -> TrainReport:
    """Train a model, or go on with the run that `folder` holds.

    Under `torchrun` every process calls this with the same arguments, and they share each batch.

    Args:
        corpus: Clips to train on.
        held_out: Clips to evaluate on, of the same codebooks and none of them in `corpus`.
        folder: For ``latest.pt``, ``best.pt``, ``log.jsonl`` and ``corpus.csv``; made if it does not exist.
        architecture: ``"rvq_transformer"`` or ``"tiny_gpt"``.
        arguments: Fields of its configuration other than ``codebook_sizes``, which the corpus decides.
        options: How to train; None takes the defaults.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        on_evaluation: Called with the averaged model after every evaluation, to make audio for instance.
        trackers: See `codecbook.training.log`.
        say: Takes lines of progress.
        changed_corpus: Go on knowingly with other clips than the run has had. Evaluations on other held-out clips
            then no longer count for the best one.

    Returns:
        The best model, and what the run came to.

    Raises:
        UnsupportedInput: Clips shorter than the context, differing codebooks, settings that cannot be, or a
            checkpoint in `folder` of another architecture, vocabulary, setting or corpus.
        CorruptInput: A damaged checkpoint or log, or a code outside its codebook.
        CodecbookError: Training diverged for good, or memory ran out.

    Example::

        corpus = Corpus.from_files("tokens")
        train_clips, held_out = corpus.split(held_out_every=10)
        report = train(train_clips, held_out, "run", options=TrainOptions(budget=Budget(minutes=10)))
        print(report.best.bits_per_token)
    """
    options = options or TrainOptions()
    record = corpus_record(
        zip(corpus.clips, corpus.identities, strict=True), zip(held_out.clips, held_out.identities, strict=True)
    )
    with joined_processes(device) as processes, torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = build_lm(architecture, {**(arguments or {}), "codebook_sizes": corpus.codebook_sizes})
        check_vocabulary(model, held_out.codebook_sizes, "The held-out clips")
        windows = Windows(corpus, options.context_frames, options.stride_frames)
        return LMTrainer(
            model.to(processes.device), windows, held_out, options, Path(folder), processes, record,
            changed_corpus, on_evaluation, trackers, say,
        ).run()  # fmt: skip
