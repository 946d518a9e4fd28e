"""What a language model saves at each bandwidth: one small model per number of codebooks, trained alike."""

import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from codecbook.lm.corpora import bundled_tokens
from codecbook.lm.data import Corpus
from codecbook.lm.exact import ExactLM, export_exact
from codecbook.lm.train import Budget, TrainOptions, train
from codecbook.measure.evaluators import torch_threads
from codecbook.measure.stream_costs import stream_sizes

_WINDOW_FRAMES = 64
_CALIBRATION_FRAMES = 3000
_SHAPE = {"dim": 96, "layers": 2, "heads": 4, "hidden": 384, "dropout": 0.0, "head_dim": 64, "head_hidden": 192,
          "window_frames": _WINDOW_FRAMES}  # fmt: skip


def train_exact(training: Corpus, watched: Corpus, steps: int, seed: int = 0) -> ExactLM:
    """Train a small model and convert it to integers, on one torch thread: the same steps give the same model.

    Args:
        training: What it learns from.
        watched: Clips that are looked at once, at the end.
        steps: Optimizer steps, each of 8 windows of 128 frames.
        seed: Of parameters and order.

    Raises:
        CodecbookError: As `codecbook.lm.train.train`.
    """
    options = TrainOptions(
        budget=Budget(steps=steps), seed=seed, context_frames=2 * _WINDOW_FRAMES, stride_frames=_WINDOW_FRAMES,
        batch_size=8, learning_rate=3e-3, ema_decay=0.9, evaluations=1, report_every_s=1e9, checkpoint_every_s=1e9,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        report = train(
            training, watched, folder, arguments=_SHAPE, options=options, device="cpu", say=lambda _: None
        )
    return export_exact(report.model, [training.rows(0, min(_CALIBRATION_FRAMES, training.num_rows))])


def bandwidth_sizes(
    codec: str,
    num_codebooks: Sequence[int],
    steps: int,
    clips: Sequence[str],
    domains: Mapping[str, str],
    seed: int = 0,
) -> pd.DataFrame:
    """Train a model for each number of codebooks on the bundled tokens, and measure streams of held-out clips.

    The bundled model reads all its codebooks, so it cannot code a stream of fewer. These are all of one shape and had
    as many steps; they compare with one another, not with the bundled model.

    Args:
        codec: Whose tokens.
        num_codebooks: How many leading codebooks, each a bandwidth.
        steps: Optimizer steps of each.
        clips: Held-out clips to measure.
        domains: By clip.
        seed: Of parameters and order.

    Returns:
        As `codecbook.measure.stream_costs.stream_sizes`, with the columns ``codebooks`` and ``nominal_kbps``.

    Raises:
        CodecbookError: As `codecbook.lm.corpora.bundled_tokens` and `codecbook.lm.train.train`.
    """
    parts = []
    for count in num_codebooks:
        tokens = bundled_tokens(codec, num_codebooks=count)
        held_out = tokens.held_out.subset(clips)
        model = train_exact(tokens.train, held_out.subset(held_out.clips[:2]), steps, seed)
        sizes = stream_sizes(held_out, model, "trained here", domains=domains)
        raw_kbps = float(np.log2(held_out.codebook_sizes).sum() * held_out.frame_rate_hz / 1000)
        parts.append(sizes.assign(codebooks=count, nominal_kbps=raw_kbps))
    return pd.concat(parts, ignore_index=True)
