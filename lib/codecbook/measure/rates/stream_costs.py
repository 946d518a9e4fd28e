"""Sizes of whole streams of held-out clips: what a language model saves, at each bandwidth, and what segments cost."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from codecbook.codecs.corpus.index import ClipRow
from codecbook.coding import inspect
from codecbook.coding.stream import encode_tokens
from codecbook.coding.stream.writer import DEFAULT_SEGMENT_S
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
_CALIBRATION_FRAMES = 1000
_SHAPE = {"dim": 96, "layers": 2, "heads": 4, "hidden": 384, "dropout": 0.0, "head_dim": 64, "head_hidden": 192,
          "window_frames": _WINDOW_FRAMES}  # fmt: skip


def groups_and_units(clips: Sequence[ClipRow]) -> dict[str, tuple[str, str]]:
    """Return by held-out clip its group, of which results are told apart, and its unit, which is what is resampled.

    Speech falls into voices that other clips on the training side have, and new ones; other clips go by domain. A unit
    is a speaker where a group has several, else a clip: intervals over the clips of one voice speak of that voice.
    """
    trained_on = {row.speaker for row in clips if row.split == "train"} - {""}
    groups = {}
    for row in clips:
        if row.split == "held_out":
            voice = f", {'trained-on' if row.speaker in trained_on else 'new'} voices" if row.speaker else ""
            groups.setdefault(row.domain + voice, []).append(row)
    labels = {}
    for group, rows in groups.items():
        by_speaker = len({row.speaker for row in rows}) > 1
        labels |= {row.clip: (group, row.speaker if by_speaker and row.speaker else row.clip) for row in rows}
    return labels


def spread_clips(clips: Corpus, labels: Mapping[str, tuple[str, str]], count: int) -> tuple[str, ...]:
    """Return the names of up to `count` clips (0: all), from the groups in turn and from all over each.

    They are in the order of the corpus; `labels` are those of `groups_and_units`.
    """
    if count == 0 or count >= len(clips):
        return clips.clips
    groups: dict[str, list[str]] = {}
    for name in clips.clips:
        groups.setdefault(labels.get(name, ("", ""))[0], []).append(name)
    chosen: set[str] = set()
    # the smallest group first, so that what it lacks goes to the others
    for done, names in enumerate(sorted(groups.values(), key=len)):
        share = min(len(names), -(-(count - len(chosen)) // (len(groups) - done)))
        chosen |= {names[i] for i in np.linspace(0, len(names) - 1, share).round().astype(int)}
    return tuple(name for name in clips.clips if name in chosen)


def stream_sizes(
    clips: Corpus,
    model: ExactLM | None,
    lm_name: str,
    labels: Mapping[str, tuple[str, str]],
    segment_s: float = DEFAULT_SEGMENT_S,
) -> pd.DataFrame:
    """Encode each clip into a stream of its own and measure it, and a stream of its raw codes beside it.

    Without a model both are raw; `lm_name` is its name in the header. `labels` are group and unit by clip, as
    `groups_and_units` makes them; a clip without any is its own unit. Segments have `segment_s` seconds.

    Returns:
        One row per clip: ``clip``, ``group``, ``unit``, ``duration_s``, ``tokens``, ``raw_bits`` (of the codes at
        ``log2 V`` bits), ``payload_bits`` (of the segments' payloads), ``stream_bits`` (of all), ``raw_stream_bits``
        (raw codes in the same container), ``segments``.

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
        raw = data if model is None else encode_tokens(tokens, None, segment_s=segment_s)
        report, (group, unit) = inspect(data), labels.get(name, ("", name))
        rows.append(
            {"clip": name, "group": group, "unit": unit, "duration_s": len(codes) / layout.frame_rate_hz,
             "tokens": codes.size, "raw_bits": float(len(codes) * np.log2(layout.codebook_sizes).sum()),
             "payload_bits": 8.0 * report.payload_bytes, "stream_bits": 8.0 * len(data),
             "raw_stream_bits": 8.0 * len(raw), "segments": len(report.segments)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def end_to_end(clips: Corpus, max_rows: int) -> Corpus:
    """Return all clips of a codec's tokens, end to end and up to so many rows, as one clip."""
    layout = layout_of(clips)
    tokens = layout.to_tokens(clips.rows(max_rows))
    return Corpus.from_tokens({"all clips": tokens}, layout.order)


def framing_bytes(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return ``min`` and ``max`` of what streams of `stream_sizes` hold beside payloads, by codec and segments."""
    framing = sizes.assign(framing=(sizes["stream_bits"] - sizes["payload_bits"]) / 8)
    return pd.DataFrame(framing.groupby(["codec", "segments"])["framing"].agg(["min", "max"]))


def gain_table(sizes: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sum sizes of `stream_sizes` up by the columns that tell groups apart, with intervals over units.

    Returns:
        One row per group: its columns, ``clips``, ``units``, ``raw_kbps``, ``payload_kbps``, ``raw_stream_kbps``,
        ``stream_kbps``, and with ``_low`` and ``_high`` each ``payload_gain_percent`` (what payloads are smaller than
        bare raw codes) and ``gain_percent`` (what whole streams are smaller than raw codes in the same container).
        ``pays_off_s`` is the length from which on a stream is smaller: as long as it takes to save what the container
        needs to name the model; inf where nothing is saved.
    """
    parts = ("raw", "payload", "raw_stream", "stream")
    rows = []
    for _, group in sizes.groupby(list(by), sort=False):
        of_units = pd.DataFrame(group.groupby("unit", sort=False).sum(numeric_only=True))
        bits = np.array([of_units[f"{part}_bits"] for part in parts])
        raw, payload, raw_stream, stream = bits
        duration_ms = group["duration_s"].sum() * 1000
        saved = raw.sum() - payload.sum()
        naming_bits = (stream - payload - raw_stream + raw).sum() / len(group)
        rows.append(
            {**group.iloc[0][list(by)], "clips": len(group), "units": len(raw),
             **{f"{part}_kbps": total / duration_ms for part, total in zip(parts, bits.sum(axis=1), strict=True)},
             **ratio_interval(100 * (raw - payload), raw).columns("payload_gain_percent"),
             **ratio_interval(100 * (raw_stream - stream), raw_stream).columns("gain_percent"),
             "pays_off_s": naming_bits / (saved / duration_ms * 1000) if saved > 0 else np.inf}
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
    codec: str,
    num_codebooks: Sequence[int],
    steps: int,
    clips: Corpus,
    labels: Mapping[str, tuple[str, str]],
    seed: int = 0,
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
        sizes = stream_sizes(held_out, model, "trained here", labels)
        raw_kbps = float(np.log2(held_out.codebook_sizes).sum() * held_out.frame_rate_hz / 1000)
        parts.append(sizes.assign(codebooks=count, nominal_kbps=raw_kbps))
    return pd.concat(parts, ignore_index=True)
