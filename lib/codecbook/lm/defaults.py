"""The bundled language models: one per bundled codec, how each is trained, and where it lies.

``data/models/lm_<codec>_mini`` holds the model's configuration, ``exact`` inside it the model in integers, with which
streams are coded. ``data/models/make_language_models.py`` makes them and writes the card.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.lm.exact.files import EXACT_NAME as EXACT_NAME
from codecbook.lm.model_files import LoadedLM, load_lm
from codecbook.lm.training.options import TrainOptions
from codecbook.paths import data_dir
from codecbook.training.schedule import Budget


@dataclass(frozen=True)
class LMRecipe:
    """How the language model of a codec is made.

    Attributes:
        codec: Registry name.
        arguments: Of `RVQTransformerConfig`, but for the codebook sizes.
        options: Of `TrainOptions`, but for budget and seed.
        minutes: Training time on one CPU core.
        keeps_floats: Store the trained floats beside the integers; otherwise floats are made from the integers.
    """

    codec: str
    arguments: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    minutes: float = 6.0  # min
    keeps_floats: bool = False


def _arguments(dim: int, layers: int, window_frames: int, head_dim: int, dropout: float) -> dict[str, Any]:
    return {
        "dim": dim, "layers": layers, "heads": 4, "hidden": 4 * dim, "dropout": dropout, "head_dim": head_dim,
        "head_hidden": 3 * head_dim, "window_frames": window_frames,
    }  # fmt: skip


# Tables of codes are most of a model (K V (dim + 2 head_dim) numbers), so widths are what keeps each at about 4 MB; the
# corpora are an hour or two, which wider models would memorise. Windows of 96 rows: 1.3 s at 75 Hz, 0.6 s at 150
# Hz, 2.6 s at 37.5 Hz, 1.9 s at 50 Hz, 3.8 s at 25 Hz.
_WIDE = (
    _arguments(dim=96, layers=3, window_frames=96, head_dim=64, dropout=0.0),
    {"context_frames": 192, "stride_frames": 64, "batch_size": 8, "learning_rate": 3e-3},
)
_SINGLE_OPTIONS = {"context_frames": 192, "stride_frames": 64, "batch_size": 16, "learning_rate": 2e-3}
RECIPES: dict[str, LMRecipe] = {
    recipe.codec: recipe
    for recipe in (
        LMRecipe("encodec_24khz", *_WIDE, keeps_floats=True),  # the notebooks compare them with the integers
        LMRecipe("encodec_48khz", *_WIDE),
        LMRecipe("snac_24khz", *_WIDE),
        LMRecipe("fsq_50hz", _arguments(128, 3, 96, 96, dropout=0.1), _SINGLE_OPTIONS, minutes=4.0),
        LMRecipe("units_25hz", _arguments(128, 3, 96, 96, dropout=0.2), _SINGLE_OPTIONS, minutes=4.0),
    )
}


def recipe_of(codec: str) -> LMRecipe:
    """Return a codec's recipe.

    Raises:
        UnsupportedInput: There is none.
    """
    if codec not in RECIPES:
        raise UnsupportedInput(
            f"There is no recipe for a language model of {codec!r}; choose one of {', '.join(RECIPES)}, or train one "
            "with python -m codecbook.lm train."
        )
    return RECIPES[codec]


def train_options(recipe: LMRecipe, steps: int | None, minutes: float | None, seed: int) -> TrainOptions:
    """Return the options of a recipe for a budget; with neither steps nor minutes, the recipe's own minutes."""
    if steps is None and minutes is None:
        minutes = recipe.minutes
    return TrainOptions(budget=Budget(steps, minutes), seed=seed, **recipe.options)


def default_folder(codec: str) -> Path:
    """Return where a codec's bundled language model lies, or would lie."""
    return data_dir() / "models" / f"lm_{codec}_mini"


def load_default(codec: str) -> LoadedLM:
    """Load the bundled language model of a codec, as floats.

    Raises:
        MissingWeights: There is none.
        CorruptInput: Its files are damaged.
    """
    folder = default_folder(codec)
    if not folder.is_dir():
        raise MissingWeights(
            f"There is no bundled language model of {codec!r} ({folder} does not exist); make it with python "
            "data/models/make_language_models.py, or train one with python -m codecbook.lm train."
        )
    return load_lm(folder)
