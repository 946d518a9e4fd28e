"""Train a codec from folders of recordings: ``python -m codecbook.codecs.training --help``.

The same command continues a run that was stopped. With several processes::

    torchrun --nproc-per-node 2 -m codecbook.codecs.training --recipe encodec_24khz_mini --data speech --out run
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from codecbook.audio import Clip, save
from codecbook.codecs.build import ARCHITECTURES
from codecbook.codecs.loading import load_model, save_model
from codecbook.codecs.training.data import Crops, check_apart, load_recordings, parse_folder, split_files
from codecbook.codecs.training.loop import CodecTrainer
from codecbook.codecs.training.models import trainable
from codecbook.codecs.training.recipes import RECIPES, Recipe, decoder_alone, without_autoencoder
from codecbook.command_line import ArgumentParser, exit_status, num_threads
from codecbook.errors import UnsupportedInput
from codecbook.models.store import check_save
from codecbook.models.weights import num_parameters
from codecbook.training.corpus_record import Record, corpus_record
from codecbook.training.processes import Processes, joined_processes
from codecbook.training.schedule import Budget


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.codecs.training", description=__doc__)
    add = parser.add_argument
    add("--recipe", required=True, choices=sorted(RECIPES), help="what to train")
    searched = "folders of recordings, searched to the bottom; SHARE is the folder's relative part of the crops"
    add("--data", required=True, nargs="+", metavar="DIR[=SHARE]", help=searched)
    add("--out", required=True, type=Path, help="folder for checkpoint, log, model and examples")
    add("--start-from", type=Path, metavar="MODEL", help="a trained model to go on with; no autoencoder phase")
    add("--decoder-alone", action="store_true", help="train the decoder of that model, and leave all codes as they are")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="wall time in all, resumptions included")
    budget.add_argument("--steps", type=int, help="number of steps in all (reproducible)")
    add("--hold-out-every", type=int, default=10, metavar="N", help="keep one recording in N out (default: 10)")
    add("--hold-out", nargs="*", default=[], metavar="PATTERN", help="file names to keep out")
    alone = "its first group, in a file's name, is the speaker, who is then on one side alone"
    add("--speaker", default="", metavar="REGEX", help=alone)
    add("--changed-corpus", action="store_true", help="go on with other recordings than the run in OUT has had")
    add("--device", default="cpu", help="cpu, cuda, mps")
    add("--threads", type=num_threads, default=0, help="torch threads; 0 leaves the default")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _run(options), "the same command goes on from the last checkpoint", options)


def _run(options: argparse.Namespace) -> int:
    check_save(options.out / "model", ARCHITECTURES)
    if options.threads:
        torch.set_num_threads(options.threads)
    # numbers below 1e-38 cost many times as much as others, and mean nothing here
    torch.set_flush_denormal(True)
    with joined_processes(options.device) as processes:
        return _train(options, processes)


def _train(options: argparse.Namespace, processes: Processes) -> int:
    recipe = RECIPES[options.recipe]
    start_from = start_sha256 = None
    if options.start_from:
        start_from, start_sha256 = _load_start(options.start_from, recipe)
        recipe = (decoder_alone if options.decoder_alone else without_autoencoder)(recipe)
    elif options.decoder_alone:
        raise UnsupportedInput("--decoder-alone trains the decoder of a model; name the model with --start-from.")
    rate_hz, channels = recipe.sample_rate_hz, recipe.channels
    folders, shares = zip(*map(parse_folder, options.data), strict=True)
    check_apart(folders)
    splits = [split_files(path, options.hold_out_every, tuple(options.hold_out), options.speaker) for path in folders]
    groups = [[samples for _, samples in load_recordings(kept, rate_hz, channels)] for kept, _ in splits]
    crops = Crops(groups, shares, recipe.seed + 1000 * processes.rank)
    trainer = CodecTrainer(
        recipe, crops, Budget(options.steps, options.minutes), options.out, processes,
        start_from=start_from, record=_record(folders, splits), changed_corpus=options.changed_corpus,
    )  # fmt: skip
    module = trainer.run()
    if processes.rank != 0:
        return 0
    # names alone: where a machine keeps its recordings is of no use to others
    names = ["/".join(path.resolve().parts[1:][-2:]) for path in folders]
    provenance = {
        "recipe": options.recipe, "started_from": start_sha256, "steps": trainer.step,
        "training_minutes": round(trainer.elapsed_s / 60, 1), "seed": recipe.seed, "torch": torch.__version__,
        "data": [f"{name}={share:g}" for name, share in zip(names, shares, strict=True)],
        "hold_out_every": options.hold_out_every, "hold_out": options.hold_out, "speaker": options.speaker,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    folder = options.out / "model"
    save_model(folder, module, recipe.architecture, recipe.arguments, provenance, overwrite=True)
    held_out = load_recordings([path for _, held in splits for path in held], rate_hz, channels, needs_one=False)
    for number, (path, samples) in enumerate(itertools.islice(held_out, 4), start=1):
        original = samples[:, : 6 * rate_hz].astype("float32")
        for kind, wave in {"original": original, "decoded": _through(module, original)}.items():
            example = options.out / "examples" / f"{number}_{path.stem}.{kind}.wav"
            save(Clip(wave, rate_hz), example, overwrite=True)
    print(f"{num_parameters(module):,} parameters; model in {folder}")
    return 0


def _load_start(folder: Path, recipe: Recipe) -> tuple[torch.nn.Module, str]:
    """Load the model to go on with, and its SHA-256; refuse one of another shape than the recipe's."""
    module, config = load_model(folder)
    asked = json.loads(json.dumps(recipe.arguments))  # as a file has it: tuples are lists
    held = config["architecture"], config["arguments"]
    if held != (recipe.architecture, asked):
        raise UnsupportedInput(f"{folder} holds {held[0]} {held[1]}, not {recipe.architecture} {asked}; take that.")
    return module, config["sha256"]


def _record(folders: Sequence[Path], splits: Sequence[tuple[dict[Path, str], dict[Path, str]]]) -> Record:
    """Return the record of all recordings, named by their paths below the folders."""
    sides: tuple[list, list] = ([], [])
    for folder, split in zip(folders, splits, strict=True):
        for side, files in zip(sides, split, strict=True):
            side += [(f"{folder.resolve().name}/{path.relative_to(folder)}", sha256) for path, sha256 in files.items()]
    return corpus_record(*sides)


@torch.no_grad()
def _through(module: torch.nn.Module, original: np.ndarray) -> np.ndarray:
    """Send float32 ``[C, S]`` through a codec with all its codebooks; return it at the level that it had."""
    model, waveform = trainable(module), torch.from_numpy(original)[None]
    scaled = model.normalise(waveform)
    level = waveform.abs().max() / scaled.abs().max().clamp(min=1e-9)
    quantized, _ = model.quantize(model.latents(scaled), model.num_codebooks)
    return (model.decode(quantized)[0, :, : original.shape[1]] * level).numpy()


if __name__ == "__main__":
    sys.exit(main())
