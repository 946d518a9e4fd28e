"""Command line: ``python -m codecbook.lm train | pack | inspect | export``.

    python -m codecbook.lm train tokens --out run --minutes 30 --save model
    python -m codecbook.lm inspect run          a run, a checkpoint, a model, or tokens
    python -m codecbook.lm export model tokens --out exact_model

The same command continues a run that was stopped. With several processes::

    torchrun --nproc-per-node 2 -m codecbook.lm train tokens --out run --steps 5000

Many hours of tokens are packed once, and then opened at once by every process::

    python -m codecbook.lm pack tokens --out packed
    python -m codecbook.lm train packed --out run --steps 5000

Errors are one line on stderr, and exit status 2.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from codecbook.command_line import ArgumentParser, exit_status, num_threads
from codecbook.files import check_folder
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.sources import SUFFIXES
from codecbook.lm.exact.calibrate import calibration_rows
from codecbook.lm.exact.certificate import certificate, certificate_lines
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import ARCHITECTURE, save_exact
from codecbook.lm.inspect import checkpoint_lines, model_lines
from codecbook.lm.model_files import load_lm, save_lm
from codecbook.lm.models import ARCHITECTURES, CONDITIONINGS, RVQTransformerConfig, TinyGPTConfig
from codecbook.lm.token_lm import check_vocabulary
from codecbook.lm.training.options import CODEBOOK_WEIGHTS, PRECISIONS, TrainOptions, TrainReport
from codecbook.lm.training.progress import BEST_NAME, LATEST_NAME
from codecbook.lm.training.train import train
from codecbook.models.store import CONFIG_NAME, check_save, refuse_existing
from codecbook.tokens.layout import ORDERS
from codecbook.training.log import tensorboard_tracker, wandb_tracker
from codecbook.training.schedule import SCHEDULES, Budget

_CHOICES = {
    "conditioning": CONDITIONINGS, "schedule": SCHEDULES, "precision": PRECISIONS, "codebook_weights": CODEBOOK_WEIGHTS,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    when_interrupted = "the same command goes on from the last checkpoint"
    return exit_status(lambda: options.command(options), when_interrupted, options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.lm", description="Language models on codec tokens.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands.add_parser("train", help="train a model, or continue a run"))
    packing = commands.add_parser("pack", help="put tokens into one folder that training opens at once")
    packing.add_argument("tokens", nargs="+", type=Path, help="as for train")
    packing.add_argument("--out", type=Path, required=True, help="folder to train on")
    packing.add_argument("--order", choices=ORDERS, default="parallel", help="of tokens (default: parallel)")
    packing.add_argument("--codebooks", type=int, help="how many leading codebooks (default: all)")
    packing.set_defaults(command=_pack)
    inspecting = commands.add_parser("inspect", help="say what a checkpoint, a model or token files hold")
    text = f"a checkpoint, a run's folder for its {LATEST_NAME}, a model's folder, or tokens"
    inspecting.add_argument("source", type=Path, help=text)
    inspecting.add_argument("--order", choices=ORDERS, default="parallel", help="of tokens (default: parallel)")
    inspecting.add_argument("--bark", action="store_true", help="NPZ files are Bark's prompts")
    inspecting.set_defaults(command=_inspect)
    _add_export(commands.add_parser("export", help="convert a model to integers, for streams"))
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tokens", nargs="+", type=Path, help="NPQ, Parquet or NPZ files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log.jsonl and corpus.csv")
    parser.add_argument("--save", type=Path, help="folder for the finished model (safetensors, config.json)")
    parser.add_argument("--steps", type=int, help="number of optimizer steps (reproducible)")
    parser.add_argument("--minutes", type=float, help="in all, resumptions included (default: 10 without --steps)")
    data = parser.add_argument_group("data")
    data.add_argument("--order", choices=ORDERS, help="(default: parallel; flat for tiny_gpt)")
    data.add_argument("--codebooks", type=int, help="how many leading codebooks (default: all)")
    data.add_argument("--bark", action="store_true", help="NPZ files are Bark's prompts: 8 x 1024 at 75 frames/s")
    data.add_argument("--held-out-every", type=int, default=10, metavar="N", help="(default: 10)")
    data.add_argument("--split-by", default="clip", help="clip, or a regular expression whose first group is a label")
    data.add_argument("--changed-corpus", action="store_true", help="go on with other clips than those of OUT")
    model = parser.add_argument_group("model (defaults: codecbook.lm.models)")
    model.add_argument("--architecture", choices=tuple(ARCHITECTURES), default="rvq_transformer")
    _add_fields(model, TinyGPTConfig, RVQTransformerConfig)
    _add_fields(parser.add_argument_group("training (defaults: codecbook.lm.training.options)"), TrainOptions)
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    machine.add_argument("--threads", type=num_threads, default=0, help="torch threads; 0 leaves the default")
    machine.add_argument("--tensorboard", action="store_true", help="write event files to OUT/tensorboard")
    machine.add_argument("--wandb", metavar="PROJECT", help="send figures to Weights & Biases")
    parser.set_defaults(command=_train)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder of a trained model")
    parser.add_argument("tokens", nargs="+", type=Path, help="as for train: tokens to calibrate with")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exact model")
    parser.add_argument("--order", choices=ORDERS, help="(default: as the model was trained)")
    parser.add_argument("--codebooks", type=int, help="how many leading codebooks (default: the model's)")
    parser.add_argument("--bark", action="store_true", help="NPZ files are Bark's prompts")
    parser.add_argument("--frames", type=int, default=4096, help="how many to calibrate with (default: 4096)")
    parser.add_argument("--overwrite", action="store_true", help="replace a model in OUT")
    parser.set_defaults(command=_export)


def _add_fields(group: argparse._ArgumentGroup, *configurations: type) -> None:
    """Add an option for each number, switch or choice among the fields of dataclasses; None where it is not given."""
    fields = {field.name: field.type for each in configurations for field in dataclasses.fields(each)}
    for name, kind in fields.items():
        option = f"--{name.replace('_', '-')}"
        if name in _CHOICES:
            group.add_argument(option, choices=_CHOICES[name])
        elif kind is bool:
            group.add_argument(option, action="store_true", default=None)
        elif kind in (int, int | None, float):
            number = float if kind is float else int
            group.add_argument(option, type=number, metavar=number.__name__.upper())


def _given(options: argparse.Namespace, *configurations: type) -> dict[str, Any]:
    """Return the fields of dataclasses that the command line gave."""
    names = [field.name for configuration in configurations for field in dataclasses.fields(configuration)]
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def _train(options: argparse.Namespace) -> int:
    check_folder(options.out)
    if options.save is not None:
        check_save(options.save, ARCHITECTURES)
    if options.threads:
        torch.set_num_threads(options.threads)
    minutes = 10.0 if options.steps is None and options.minutes is None else options.minutes
    train_options = TrainOptions(budget=Budget(options.steps, minutes), **_given(options, TrainOptions))
    arguments = _given(options, TinyGPTConfig, RVQTransformerConfig)
    order = options.order or ("flat" if options.architecture == "tiny_gpt" else "parallel")
    corpus = Corpus.from_files(options.tokens, order, options.codebooks, options.bark)
    clips, held_out = corpus.split(options.held_out_every, options.split_by)
    is_first = os.environ.get("RANK", "0") == "0"
    trackers = [tensorboard_tracker(options.out / "tensorboard")] if options.tensorboard and is_first else []
    if options.wandb and is_first:
        trackers.append(wandb_tracker(options.wandb, options.out))
    if is_first:
        print(f"train: {clips}\nheld out: {held_out}", flush=True)
    report = train(
        clips, held_out, options.out, options.architecture, arguments, train_options, options.device,
        trackers=trackers, say=lambda line: print(line, flush=True), changed_corpus=options.changed_corpus,
    )  # fmt: skip
    if is_first:
        _finish(options, report, corpus)
    return 0


def _finish(options: argparse.Namespace, report: TrainReport, corpus: Corpus) -> None:
    print(
        f"{report.steps} steps, {report.elapsed_s:.0f} s, {report.tokens_per_s:.0f} tokens/s; best "
        f"{report.best.bits_per_token:.4f} bits/token at step {report.best.step}, last "
        f"{report.evaluations[-1].bits_per_token:.4f}"
    )
    if options.save is None:
        return
    assert corpus.layout is not None
    known = corpus.layout.format
    provenance = {
        "codec": known.codec, "codec_weights": known.weights, "order": corpus.layout.order,
        "frame_rate_hz": corpus.frame_rate_hz, "clips": len(corpus), "held_out_every": options.held_out_every,
        "steps": report.best.step, "minutes": round(report.elapsed_s / 60, 2),
        "bits_per_token": report.best.bits_per_token, "seed": options.seed or 0,
    }  # fmt: skip
    sha256 = save_lm(options.save, report.model, provenance, overwrite=True)
    print(f"{options.save}: {sha256}")


def _pack(options: argparse.Namespace) -> int:
    check_folder(options.out)
    corpus = Corpus.from_files(options.tokens, options.order, options.codebooks)
    corpus.pack(options.out)
    print(f"{options.out}: {corpus}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    source: Path = options.source
    is_run = any((source / name).exists() for name in (LATEST_NAME, BEST_NAME))
    if source.is_dir() and not is_run and (source / CONFIG_NAME).exists():
        lines = model_lines(source)
    elif source.suffix in SUFFIXES or (source.is_dir() and not is_run):
        corpus = Corpus.from_files(source, options.order, bark=options.bark)
        assert corpus.layout is not None
        known = corpus.layout.format
        lines = [repr(corpus)] + ([f"{known.codec}: {known.weights or 'weights unknown'}"] if known.codec else [])
    else:
        lines = checkpoint_lines(source)
    print("\n".join(lines))
    return 0


def _export(options: argparse.Namespace) -> int:
    check_folder(options.out)
    refuse_existing(options.out, options.overwrite, [ARCHITECTURE])
    loaded = load_lm(options.model)
    known = loaded.config["provenance"]
    order = options.order or known.get("order") or "parallel"
    num_codebooks = options.codebooks or (loaded.model.num_codebooks if order == "parallel" else None)
    corpus = Corpus.from_files(options.tokens, order, num_codebooks, options.bark)
    check_vocabulary(loaded.model, corpus.codebook_sizes)
    exact = export_exact(loaded.model, calibration_rows(corpus, options.frames))
    provenance = {**known, "float_sha256": loaded.sha256, "calibration_frames": options.frames}
    sha256 = save_exact(options.out, exact, provenance, options.overwrite)
    print("\n".join(certificate_lines(certificate(exact))))
    print(f"{options.out}: {sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
