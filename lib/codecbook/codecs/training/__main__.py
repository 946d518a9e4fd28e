"""Train a codec from folders of recordings: ``python -m codecbook.codecs.training --help``.

The same command continues a run that was stopped. With several processes::

    torchrun --nproc-per-node 2 -m codecbook.codecs.training --recipe encodec_24khz_mini --data speech --out run
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import torch

from codecbook.audio import Clip, save
from codecbook.codecs.build import ARCHITECTURES, num_parameters
from codecbook.codecs.model_files import LoadedModel, load_model, save_model
from codecbook.codecs.training.data import Crops, Folder, check_apart, load_recordings, parse_folder, split_files
from codecbook.codecs.training.loop import CodecTrainer
from codecbook.codecs.training.models import trainable
from codecbook.codecs.training.recipes import RECIPES, Recipe, without_autoencoder
from codecbook.command_line import ArgumentParser, exit_status, num_threads
from codecbook.errors import UnsupportedInput
from codecbook.models.store import check_save
from codecbook.training.corpus_record import Record, corpus_record
from codecbook.training.processes import Processes, joined_processes
from codecbook.training.schedule import Budget


def argument_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = ArgumentParser(prog="python -m codecbook.codecs.training", description=__doc__)
    parser.add_argument("--recipe", required=True, choices=sorted(RECIPES), help="what to train")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="DIR[=SHARE]",
        help="folders of recordings, searched recursively; SHARE is the folder's relative part of the crops",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoint, log, model and examples")
    parser.add_argument(
        "--start-from", type=Path, metavar="MODEL",
        help="folder of a trained model to go on with; no autoencoder phase",
    )  # fmt: skip
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="wall time in all, resumptions included")
    budget.add_argument("--steps", type=int, help="number of steps in all (reproducible)")
    parser.add_argument(
        "--hold-out-every", type=int, default=10, metavar="N", help="keep one recording in N out (default: 10)"
    )
    parser.add_argument("--hold-out", nargs="*", default=[], metavar="PATTERN", help="file names to keep out")
    parser.add_argument(
        "--speaker", default="", metavar="REGEX",
        help="its first group, in a file's name, is the speaker, who is then on one side alone",
    )  # fmt: skip
    parser.add_argument(
        "--changed-corpus", action="store_true", help="go on with other recordings than the run in OUT has had"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")
    parser.add_argument("--threads", type=num_threads, default=0, help="torch threads; 0 leaves the default")
    return parser


def _write_examples(module: torch.nn.Module, files: list[Path], out: Path, rate_hz: int, channels: int) -> None:
    """Decode the first seconds of held-out recordings with all codebooks, next to the originals."""
    model = trainable(module)
    loaded = itertools.islice(load_recordings(files, rate_hz, channels, needs_one=False), 4)
    for number, (path, samples) in enumerate(loaded, start=1):
        original = samples[:, : 6 * rate_hz].astype("float32")
        waveform = torch.from_numpy(original)[None]
        with torch.no_grad():
            scaled = model.normalise(waveform)
            level = waveform.abs().max() / scaled.abs().max().clamp(min=1e-9)
            quantized, _ = model.quantize(model.latents(scaled), model.num_codebooks)
            decoded = (model.decode(quantized)[0, :, : original.shape[1]] * level).numpy()
        save(Clip(original, rate_hz), out / f"{number}_{path.stem}.original.wav", overwrite=True)
        save(Clip(decoded, rate_hz), out / f"{number}_{path.stem}.decoded.wav", overwrite=True)


def _load_start(folder: Path, recipe: Recipe) -> LoadedModel:
    """Load the model to go on with.

    Raises:
        UnsupportedInput: It is of another shape than the recipe's.
    """
    loaded = load_model(folder)
    asked = json.loads(json.dumps(recipe.arguments))  # as a file has it: tuples are lists
    held = loaded.config["architecture"], loaded.config["arguments"]
    if held != (recipe.architecture, asked):
        raise UnsupportedInput(
            f"{folder} holds {held[0]} {held[1]}, and the recipe trains {recipe.architecture} {asked}; choose the "
            "recipe that the model was trained with."
        )
    return loaded


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    options = argument_parser().parse_args(arguments)
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
    start_from = _load_start(options.start_from, recipe) if options.start_from else None
    if start_from:
        recipe = without_autoencoder(recipe)
    folders = [parse_folder(text) for text in options.data]
    check_apart(folders)
    splits = [
        split_files(folder, options.hold_out_every, tuple(options.hold_out), options.speaker) for folder in folders
    ]
    groups = [
        [samples for _, samples in load_recordings(kept, recipe.sample_rate_hz, recipe.channels)] for kept, _ in splits
    ]
    held_out = [path for _, held in splits for path in held]
    trainer = CodecTrainer(
        recipe,
        Crops(groups, [folder.share for folder in folders], recipe.seed + 1000 * processes.rank),
        Budget(options.steps, options.minutes),
        options.out,
        processes,
        start_from=start_from.module if start_from else None,
        record=_record(folders, splits),
        changed_corpus=options.changed_corpus,
    )
    module = trainer.run()
    if processes.rank == 0:
        provenance = {
            "recipe": options.recipe,
            "started_from": start_from.sha256 if start_from else None,
            "steps": trainer.step,
            "training_minutes": round(trainer.elapsed_s / 60, 1),
            "seed": recipe.seed,
            "torch": torch.__version__,
            # names alone: where a machine keeps its recordings is of no use to others
            "data": [f"{'/'.join(folder.path.resolve().parts[1:][-2:])}={folder.share:g}" for folder in folders],
            "hold_out_every": options.hold_out_every,
            "hold_out": options.hold_out,
            "speaker": options.speaker,
            "threads": torch.get_num_threads(),
        }
        model = options.out / "model"
        save_model(model, module, recipe.architecture, recipe.arguments, provenance, overwrite=True)
        _write_examples(module, held_out, options.out / "examples", recipe.sample_rate_hz, recipe.channels)
        print(f"{num_parameters(module):,} parameters; model in {model}")
    return 0


def _record(folders: list[Folder], splits: list[tuple[dict[Path, str], dict[Path, str]]]) -> Record:
    """Return the record of all recordings, named by their paths below the folders."""
    sides: list[list[tuple[str, str]]] = [[], []]
    for (folder, _), split in zip(folders, splits, strict=True):
        for side, files in zip(sides, split, strict=True):
            named = (f"{folder.resolve().name}/{path.relative_to(folder)}" for path in files)
            side += zip(named, files.values(), strict=True)
    return corpus_record(*sides)


if __name__ == "__main__":
    sys.exit(main())
