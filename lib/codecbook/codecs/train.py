"""Train a codec from folders of recordings: ``python -m codecbook.codecs.train --help``.

The same command continues a run that was stopped. With several processes::

    torchrun --nproc-per-node 2 -m codecbook.codecs.train --recipe encodec_24khz_mini --data speech --out run
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed

from codecbook.audio import Clip, save
from codecbook.codecs.build import num_parameters
from codecbook.codecs.model_files import LoadedModel, load_model, save_model
from codecbook.codecs.train_data import Crops, check_apart, load_recordings, parse_folder, split_files
from codecbook.codecs.train_loop import Trainer
from codecbook.codecs.train_models import trainable
from codecbook.codecs.train_recipes import RECIPES, Recipe, without_autoencoder
from codecbook.codecs.train_schedule import Budget
from codecbook.errors import CodecbookError, UnsupportedInput


def argument_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m codecbook.codecs.train", description=__doc__)
    parser.add_argument("--recipe", required=True, choices=sorted(RECIPES), help="what to train")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="DIR[=SHARE]",
        help="folders of recordings, searched recursively; SHARE is the folder's relative part of the crops",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for checkpoint, log, model and examples"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="folder of a trained model to go on with; no autoencoder phase",
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="wall time in all, resumptions included")
    budget.add_argument("--steps", type=int, help="number of steps in all (reproducible)")
    parser.add_argument(
        "--hold-out-every", type=int, default=10, metavar="N", help="keep every N-th file out"
    )
    parser.add_argument("--hold-out", nargs="*", default=[], metavar="PATTERN", help="file names to keep out")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    return parser


def _join_processes(device: str) -> tuple[int, str]:
    """Join the other processes where torchrun started several; return (rank, this process's device)."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, device
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    return torch.distributed.get_rank(), device


def _write_examples(
    module: torch.nn.Module, files: list[Path], out: Path, rate_hz: int, channels: int
) -> None:
    """Decode the first seconds of held-out recordings with all codebooks, next to the originals."""
    model = trainable(module)
    for number, path in enumerate(files[:4], start=1):
        original = load_recordings([path], rate_hz, channels)[0][:, : 6 * rate_hz].astype("float32")
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
    if options.threads:
        torch.set_num_threads(options.threads)
    # numbers below 1e-38 cost many times as much as others, and mean nothing here
    torch.set_flush_denormal(True)
    recipe = RECIPES[options.recipe]
    try:
        start_from = _load_start(options.start_from, recipe) if options.start_from else None
        if start_from:
            recipe = without_autoencoder(recipe)
        rank, device = _join_processes(options.device)
        folders = [parse_folder(text) for text in options.data]
        check_apart(folders)
        splits = [split_files(folder, options.hold_out_every, tuple(options.hold_out)) for folder in folders]
        groups = [load_recordings(kept, recipe.sample_rate_hz, recipe.channels) for kept, _ in splits]
        held_out = [path for _, held in splits for path in held]
        crops = Crops(groups, [folder.share for folder in folders], recipe.seed + 1000 * rank)
        trainer = Trainer(
            recipe,
            crops,
            Budget(options.steps, options.minutes),
            options.out,
            device,
            start_from=start_from.module if start_from else None,
        )
        module = trainer.run()
        if rank == 0:
            provenance = {
                "recipe": options.recipe,
                "started_from": start_from.sha256 if start_from else None,
                "steps": trainer.step,
                "training_minutes": round(trainer.elapsed_s / 60, 1),
                "seed": recipe.seed,
                "torch": torch.__version__,
                # names alone: where a machine keeps its recordings is of no use to others
                "data": [
                    f"{'/'.join(folder.path.resolve().parts[1:][-2:])}={folder.share:g}" for folder in folders
                ],
                "hold_out_every": options.hold_out_every,
                "hold_out": options.hold_out,
                "threads": torch.get_num_threads(),
            }
            save_model(
                options.out / "model",
                module,
                recipe.architecture,
                recipe.arguments,
                provenance,
                overwrite=True,
            )
            _write_examples(
                module, held_out, options.out / "examples", recipe.sample_rate_hz, recipe.channels
            )
            print(f"{num_parameters(module):,} parameters; model in {options.out / 'model'}")
    except CodecbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
