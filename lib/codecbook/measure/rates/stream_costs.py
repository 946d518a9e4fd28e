"""Sizes of whole streams of held-out clips: what a language model saves, at each bandwidth, and what segments cost."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from codecbook.coding import inspect
from codecbook.coding.stream import encode_tokens
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.training.options import TrainOptions
from codecbook.lm.training.train import train
from codecbook.measure.coder_speed import torch_threads
from codecbook.measure.rates.coder_costs import layout_of, leading
from codecbook.measure.statistics import ratio_interval
from codecbook.training.schedule import Budget

_WINDOW_FRAMES = 64
_CALIBRATION_FRAMES = 3000
_SHAPE = {"dim": 96, "layers": 2, "heads": 4, "hidden": 384, "dropout": 0.0, "head_dim": 64, "head_hidden": 192,
          "window_frames": _WINDOW_FRAMES}  # fmt: skip


def spread_clips(clips: Corpus, domains: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return the names of up to `count` clips (0: all), from the domains in turn and from all over each.

    They are in the order of the corpus; `domains` are by clip.
    """
    if count == 0 or count >= len(clips):
        return clips.clips
    groups: dict[str, list[str]] = {}
    for name in clips.clips:
        groups.setdefault(domains.get(name, ""), []).append(name)
    chosen: set[str] = set()
    # the smallest domain first, so that what it lacks goes to the others
    for done, names in enumerate(sorted(groups.values(), key=len)):
        share = min(len(names), -(-(count - len(chosen)) // (len(groups) - done)))
        chosen |= {names[i] for i in np.linspace(0, len(names) - 1, share).round().astype(int)}
    return tuple(name for name in clips.clips if name in chosen)


def stream_sizes(
    clips: Corpus, model: ExactLM | None, lm_name: str, domains: Mapping[str, str], segment_s: float = 3600.0
) -> pd.DataFrame:
    """Encode each clip into a stream of its own and measure it.

    Without a model, codes are stored raw; `lm_name` is its name in the header. `domains` are by clip, where known.
    Clips that are no longer than a segment, of `segment_s` seconds, are one.

    Returns:
        One row per clip: ``clip``, ``domain``, ``duration_s``, ``tokens``, ``raw_bits`` (of the codes at
        ``log2 V`` bits), ``payload_bits`` (of the segments' payloads), ``stream_bits`` (of all), ``segments``.

    Raises:
        UnsupportedInput: A corpus of text, or of codebooks that the model was not made for; a length out of range.
    """
    layout = layout_of(clips)
    rows = []
    for i, name in enumerate(clips.clips):
        codes = clips.clip(i)
        # codecs with segments of their own are measured without them: corpora hold their frames end to end
        tokens = replace(layout.to_tokens(codes), segment_frames=(), scales=())
        data = encode_tokens(tokens, model, lm_name=lm_name, segment_s=segment_s)
        report = inspect(data)
        rows.append(
            {"clip": name, "domain": domains.get(name, ""), "duration_s": len(codes) / layout.frame_rate_hz,
             "tokens": codes.size, "raw_bits": float(len(codes) * np.log2(layout.codebook_sizes).sum()),
             "payload_bits": 8.0 * report.payload_bytes,
             "stream_bits": 8.0 * len(data), "segments": len(report.segments)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def end_to_end(clips: Corpus, max_rows: int) -> Corpus:
    """Return all clips of a codec's tokens, end to end and up to so many rows, as one clip."""
    layout = layout_of(clips)
    tokens = layout.to_tokens(clips.rows(max_rows))
    return Corpus.from_tokens({"all clips": tokens}, layout.order)


def gain_table(sizes: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sum sizes of `stream_sizes` up by the columns that tell groups apart, with intervals over clips.

    Returns:
        One row per group: its columns, ``clips``, ``raw_kbps``, ``payload_kbps``, ``stream_kbps`` (with all
        headers), ``gain_percent`` (what payloads are smaller than raw codes), ``gain_low``, ``gain_high``.
    """
    rows = []
    for _, group in sizes.groupby(list(by), sort=False):
        duration_ms = group["duration_s"].sum() * 1000
        raw_bits = group["raw_bits"].to_numpy()
        saved = ratio_interval(100 * (raw_bits - group["payload_bits"].to_numpy()), raw_bits)
        rows.append(
            {**group.iloc[0][list(by)], "clips": len(group),
             **{f"{part}_kbps": group[f"{part}_bits"].sum() / duration_ms for part in ("raw", "payload", "stream")},
             "gain_percent": saved.mean, "gain_low": saved.low, "gain_high": saved.high}
        )  # fmt: skip
    return pd.DataFrame(rows)


def train_exact(training: Corpus, watched: Corpus, steps: int, seed: int = 0) -> ExactLM:
    """Train a small model and convert it to integers, on one torch thread: the same steps give the same model.

    A step takes 8 windows of 128 frames. The watched clips are looked at once, at the end.
    """
    options = TrainOptions(
        budget=Budget(steps=steps), seed=seed, context_frames=2 * _WINDOW_FRAMES, stride_frames=_WINDOW_FRAMES,
        batch_size=8, learning_rate=3e-3, ema_decay=0.9, evaluations=1, report_every_s=1e9, checkpoint_every_s=1e9,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        report = train(training, watched, folder, arguments=_SHAPE, options=options, device="cpu", say=lambda _: None)
    return export_exact(report.model, [training.rows(_CALIBRATION_FRAMES)])


def bandwidth_sizes(
    codec: str, num_codebooks: Sequence[int], steps: int, clips: Corpus, domains: Mapping[str, str], seed: int = 0
) -> pd.DataFrame:
    """Train a model for each number of codebooks on the bundled tokens, and measure streams of held-out clips.

    The bundled model reads all its codebooks, so it cannot code a stream of fewer. These are all of one shape and had
    as many steps; they compare with one another, not with the bundled model.

    The clips to measure, held out or of one's own, have all codebooks, in the order ``"parallel"``.

    Returns:
        As `stream_sizes`, with the columns ``codebooks`` and ``nominal_kbps``.

    Raises:
        CodecbookError: As `codecbook.lm.data.corpora.bundled_tokens` and `codecbook.lm.training.train.train`.
    """
    parts = []
    for count in num_codebooks:
        tokens = bundled_tokens(codec, num_codebooks=count)
        held_out = leading(clips, num_codebooks=count)
        model = train_exact(tokens.train, held_out.subset(held_out.clips[:2]), steps, seed)
        sizes = stream_sizes(held_out, model, "trained here", domains)
        raw_kbps = float(np.log2(held_out.codebook_sizes).sum() * held_out.frame_rate_hz / 1000)
        parts.append(sizes.assign(codebooks=count, nominal_kbps=raw_kbps))
    return pd.concat(parts, ignore_index=True)
