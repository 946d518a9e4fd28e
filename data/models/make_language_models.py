"""Make the bundled language models: train on the bundled tokens, export to integers, measure, write the cards.

    python data/models/make_language_models.py                      # all of them, about half an hour on one core
    python data/models/make_language_models.py encodec_24khz --minutes 6

Each is a folder ``data/models/lm_<codec>_mini`` with ``config.json``, ``README.md`` and the integer form in ``exact``,
and, where the recipe keeps them, the floats that this was made from in ``model.safetensors``. The same command goes on
with an interrupted run. Errors are one line on stderr, and exit status 2.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codecbook.codecs.corpus.index import SOURCES_NAME, read_sources
from codecbook.command_line import exit_status
from codecbook.errors import UnsupportedInput
from codecbook.files import write_file
from codecbook.lm.costs import baseline_costs, lm_cost
from codecbook.lm.data.corpora import BundledTokens, bundled_tokens
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.export import export_exact, float_tensors
from codecbook.lm.exact.files import load_exact, read_config, save_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.model_files import EXACT_NAME, default_folder, load_lm, save_lm
from codecbook.lm.models import build_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import TrainOptions, TrainReport
from codecbook.lm.training.train import train
from codecbook.measure.rates.coder_costs import codebook_table, cost_table, exact_coder_cost, saving
from codecbook.models.store import CONFIG_NAME, PARAMETERS_NAME
from codecbook.models.weights import num_parameters
from codecbook.paths import data_dir
from codecbook.training.schedule import Budget

CALIBRATION_FRAMES = 4000
MODEL_NAME = "language model"
CARD = """# {name}

A language model over the tokens of `{codec}_mini`: `RVQTransformer`, {parameters} parameters, rows of {columns} x
{size} in the order "{order}", {rows_per_s} rows a second; codes of a row are conditioned on one another.
`{exact}/` holds it in integers, with which streams are coded: identity `{identity}`.
{floats}

Trained by this project's own code on `data/tokens/{file}` (SHA-256 `{file_sha256}`): {clips} clips,
{minutes_of_audio} minutes, {tokens} tokens of

{credits}

{held_out} clips ({held_out_minutes} minutes) were held out, which the codec was not trained on either;
`data/tokens/clips.csv` names them, and their speakers. Weights of the codec: SHA-256 `{codec_sha256}`.

Shape: {arguments}. Training: {options}; all else as `codecbook.lm.training.options` has it. {steps} steps in
{minutes} minutes on {threads} CPU thread(s); kept are the averaged weights of step {best_step}, the best of {looks}
looks at the held-out clips, so that the first figure below flatters by as much as looks scatter.

Reproduce:

```
python data/models/make_language_models.py {codec} --steps {steps}
```

The schedule of a run by minutes follows the clock; one by steps gives the same weights on one machine.

Measured on the held-out clips, bits per token with 95 % intervals over clips:

| model | bits/token | interval | % of raw |
|---|---|---|---|
{table}

Saved over the Kneser-Ney bigram: {gain} bits per token. By column: {per_column}. Compressors, and mixing where it
says so, see the held-out clips alone; the other models learned from the training clips.

{twins}

Limits: small, and trained for minutes on the tokens of a small codec; for experiments on coding, not for generation.

SHA-256 of the stored tensors: `{sha256}`
"""
KEPT_FLOATS = "`model.safetensors` holds the floats that the integers were made from."
MADE_FLOATS = "The floats that the integers were made from are not kept: on loading, others are made from the integers."
TWINS = """Code length of the held-out clips against the trained floats: {coded:+.4f} % coded with `{exact}/`,
{made:+.4f} % under floats made from it."""


@dataclass(frozen=True)
class LMRecipe:
    """How the language model of a codec is made."""

    codec: str  # registry name
    arguments: dict[str, Any]  # of `RVQTransformerConfig`, but for the codebook sizes
    options: dict[str, Any]  # of `TrainOptions`, but for budget and seed
    minutes: float = 6.0  # of training, on one CPU core
    keeps_floats: bool = False  # store the trained floats beside the integers; otherwise floats are made from these


# Tables of codes are most of a model (K V (dim + 2 head_dim) numbers), so widths are what keeps each at about 4 MB; the
# corpora are an hour or two, which wider models would memorise. Windows of 96 rows: 1.3 s at 75 Hz, 0.6 s at 150
# Hz, 2.6 s at 37.5 Hz, 1.9 s at 50 Hz, 3.8 s at 25 Hz.
_WIDE = (
    {"dim": 96, "layers": 3, "heads": 4, "hidden": 384, "dropout": 0.0, "head_dim": 64, "head_hidden": 192,
     "window_frames": 96},
    {"context_frames": 192, "stride_frames": 64, "batch_size": 8, "learning_rate": 3e-3},
)  # fmt: skip
_SINGLE = {
    "dim": 128, "layers": 3, "heads": 4, "hidden": 512, "dropout": 0.1, "head_dim": 96, "head_hidden": 288,
    "window_frames": 96,
}  # fmt: skip
_SINGLE_OPTIONS = {"context_frames": 192, "stride_frames": 64, "batch_size": 16, "learning_rate": 2e-3}
RECIPES: dict[str, LMRecipe] = {
    recipe.codec: recipe
    for recipe in (
        LMRecipe("encodec_24khz", *_WIDE, keeps_floats=True),  # the notebooks compare them with the integers
        LMRecipe("encodec_48khz", *_WIDE),
        LMRecipe("snac_24khz", *_WIDE),
        LMRecipe("fsq_50hz", _SINGLE, _SINGLE_OPTIONS, minutes=4.0),
        LMRecipe("units_25hz", {**_SINGLE, "dropout": 0.2}, _SINGLE_OPTIONS, minutes=4.0),
    )
}


def build(
    recipe: LMRecipe,
    out: Path,
    work: Path,
    tokens_dir: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
) -> None:
    """Train a codec's language model and write its folder.

    Args:
        recipe: How.
        out: Folder to write; what it holds is replaced.
        work: Folder of the training run, which is continued where there is one.
        tokens_dir: Folder of token corpora; None takes ``data/tokens``.
        steps: Optimizer steps, instead of minutes.
        minutes: Minutes of training; None takes the recipe's.
        seed: Of parameters, dropout and order.
    """
    tokens = bundled_tokens(recipe.codec, folder=tokens_dir)
    print(f"{recipe.codec}: {tokens.train}, held out: {tokens.held_out}", flush=True)
    if steps is None and minutes is None:
        minutes = recipe.minutes
    options = TrainOptions(budget=Budget(steps, minutes), seed=seed, **recipe.options)
    report = train(
        tokens.train, tokens.held_out, work, "rvq_transformer", recipe.arguments, options, "cpu",
        say=lambda line: print(f"{recipe.codec}: {line}", flush=True),
    )  # fmt: skip
    provenance = _provenance(recipe, tokens, report, seed)
    sha256 = save_lm(out, report.model, provenance, overwrite=True)
    model = load_lm(out).model
    exact = _write_exact(out, tokens, model, sha256)
    if not recipe.keeps_floats:
        forget_floats(out)
    card = _card(recipe, tokens, report, out, model, exact, tokens_dir)
    write_file(out / "README.md", card, overwrite=True)
    print(f"{out}: {sum(file.stat().st_size for file in out.rglob('*') if file.is_file())} bytes", flush=True)


def _provenance(recipe: LMRecipe, tokens: BundledTokens, report: TrainReport, seed: int) -> dict[str, Any]:
    return {
        "codec": recipe.codec,
        "codec_weights": tokens.entry.codec_weights,
        "codec_weights_sha256": tokens.entry.codec_weights_sha256,
        "tokens_sha256": tokens.entry.sha256,
        "order": tokens.layout.order,
        "frame_rate_hz": tokens.train.frame_rate_hz,
        "clips": len(tokens.train),
        "clips_held_out": len(tokens.held_out),
        "steps": report.best.step,
        "minutes": round(report.elapsed_s / 60, 2),
        "bits_per_token": report.best.bits_per_token,
        "seed": seed,
        "torch": torch.__version__,
    }


def forget_floats(out: Path) -> None:
    """Remove the stored floats of a model; its configuration then has the hash of the integers."""
    config = read_config(out)
    config["sha256"] = load_exact(out / EXACT_NAME).arrays_sha256
    write_file(out / CONFIG_NAME, json.dumps(config, indent=2) + "\n", overwrite=True)
    (out / PARAMETERS_NAME).unlink()


def twins_line(model: TokenLM, exact: ExactLM, held_out: Corpus) -> str:
    """Return what coding with integers costs, and what floats made from them would, against the trained floats."""
    trained = lm_cost(MODEL_NAME, model, held_out).bits_per_token
    twin = build_lm(model.architecture, model.config.arguments()).eval()
    twin.load_state_dict(float_tensors(exact))
    coded, made = exact_coder_cost(exact, held_out)[1], lm_cost(MODEL_NAME, twin, held_out)
    percents = {"coded": coded, "made": made}
    return TWINS.format(
        exact=EXACT_NAME, **{name: 100 * (cost.bits_per_token / trained - 1) for name, cost in percents.items()}
    )


def _write_exact(out: Path, tokens: BundledTokens, model: TokenLM, sha256: str) -> ExactLM:
    """Export the stored model, whose parameters are those that a reader gets."""
    rng = np.random.default_rng(0)
    clips, frames = [], 0
    for index in rng.permutation(len(tokens.train)).tolist():
        clips.append(tokens.train.clip(index))
        frames += len(clips[-1])
        if frames >= CALIBRATION_FRAMES:
            break
    exact = export_exact(model, clips)
    shutil.rmtree(out / EXACT_NAME, ignore_errors=True)
    save_exact(out / EXACT_NAME, exact, {"float_sha256": sha256, "calibration_frames": frames})
    return load_exact(out / EXACT_NAME)


def _card(
    recipe: LMRecipe,
    tokens: BundledTokens,
    report: TrainReport,
    out: Path,
    model: TokenLM,
    exact: ExactLM,
    tokens_dir: Path | None,
) -> str:
    costs = {MODEL_NAME: lm_cost(MODEL_NAME, model, tokens.held_out)}
    costs |= baseline_costs(tokens.train, tokens.held_out, ("xz -9e", "zstd -19", "brotli -11"))
    raw = costs["uniform"].bits_per_token
    table = cost_table(costs, raw)
    gain = saving(costs[MODEL_NAME], costs["bigram, kneser_ney"])
    books = codebook_table({MODEL_NAME: costs[MODEL_NAME]})
    sizes = tokens.train.codebook_sizes
    lines = "\n".join(
        f"| {row['model']} | {row['bits_per_token']:.3f} | {_interval(row)} | {row['of_raw_percent']:.1f} |"
        for row in table.to_dict("records")
    )
    per_book = ", ".join(f"{bits:.2f}" for bits in books["bits_per_token"])
    folder = tokens_dir or data_dir() / "tokens"
    return CARD.format(
        name=out.name,
        codec=recipe.codec,
        parameters=f"{num_parameters(model):,}",
        columns=len(sizes),
        size=sizes[0],
        order=tokens.layout.order,
        rows_per_s=f"{tokens.train.frame_rate_hz:.4g}",
        exact=EXACT_NAME,
        identity=exact.sha256,
        floats=KEPT_FLOATS if recipe.keeps_floats else MADE_FLOATS,
        file=tokens.entry.file,
        file_sha256=tokens.entry.sha256,
        clips=len(tokens.train),
        minutes_of_audio=f"{tokens.train.duration_s / 60:.1f}",
        tokens=f"{tokens.train.num_tokens:,}",
        credits=_credits(tokens, folder),
        held_out=len(tokens.held_out),
        held_out_minutes=f"{tokens.held_out.duration_s / 60:.1f}",
        codec_sha256=tokens.entry.codec_weights_sha256,
        arguments=", ".join(f"{key} {value}" for key, value in recipe.arguments.items()),
        options=", ".join(f"{key} {value}" for key, value in recipe.options.items()),
        steps=report.steps,
        minutes=f"{report.elapsed_s / 60:.1f}",
        threads=torch.get_num_threads(),
        best_step=report.best.step,
        looks=len(report.evaluations),
        table=lines,
        gain=gain,
        per_column=per_book,
        twins=twins_line(model, exact, tokens.held_out),
        sha256=read_config(out)["sha256"],
    )


def _credits(tokens: BundledTokens, folder: Path) -> str:
    sources = read_sources(folder / SOURCES_NAME)
    used = dict.fromkeys(row.source for row in tokens.clips)
    return "\n".join(f"- {sources[name].title}; {sources[name].licence}; {sources[name].credit}" for name in used)


def _interval(row: dict[Any, Any]) -> str:
    low, high = row["bits_per_token_low"], row["bits_per_token_high"]
    return "one stream" if np.isnan(low) else f"{low:.3f} to {high:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the models that are named and return the exit status."""
    parser = argparse.ArgumentParser(description="Make the bundled language models.")
    parser.add_argument("codecs", nargs="*", metavar="CODEC", help=f"(default: {', '.join(RECIPES)})")
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of minutes")
    parser.add_argument("--minutes", type=float, help="minutes of training (default: each recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--tokens", type=Path, help="folder of token corpora (default: data/tokens)")
    parser.add_argument("--out", type=Path, help="folder for the models' folders (default: data/models)")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/lm"), help="folder for training runs (default: runs/lm)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    return exit_status(lambda: _run(options), "the same command goes on from the last checkpoint")


def _run(options: argparse.Namespace) -> int:
    unknown = [codec for codec in options.codecs if codec not in RECIPES]
    if unknown:
        raise UnsupportedInput(
            f"There is no recipe for a language model of {unknown[0]!r}; choose one of {', '.join(RECIPES)}, or train "
            "one with python -m codecbook.lm train."
        )
    for codec in options.codecs or RECIPES:
        out = options.out / f"lm_{codec}_mini" if options.out else default_folder(codec)
        build(
            RECIPES[codec], out, options.work / codec, options.tokens, options.steps, options.minutes,
            options.seed,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
