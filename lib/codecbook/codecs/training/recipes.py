"""Recipes: what is trained, on what crops, through which phases. Plain constants; copy one to make another.

Progress runs from 0 to 1, by steps or by time, and a recipe divides it into phases:

* ``autoencoder``: encoder and decoder without quantisation. In small models this is what limits quality.
* ``joint``: with the quantiser, its codebooks first fitted by k-means; quantiser dropout.
* ``decoder``: codebooks fitted once more, then frozen with the encoder: the decoder learns the codes that it will
  get. Joint training lets deep codebooks sink into disuse; the refit brings them back at no loss.
"""

from dataclasses import dataclass, field, replace

from codecbook.codecs.training.losses import LossWeights
from codecbook.training.schedule import half_cosine


@dataclass(frozen=True)
class Phase:
    """A part of the training; a half cosine leads from its first learning rate to its last."""

    name: str  # "autoencoder", "joint" or "decoder"
    until: float  # progress at which it ends, 0 to 1
    rate: float  # learning rate at its start, relative to the recipe's
    final_rate: float  # at its end, likewise


@dataclass(frozen=True)
class Recipe:
    """How to train a codec."""

    architecture: str  # name in `codecbook.codecs.build.ARCHITECTURES`
    arguments: dict = field(default_factory=dict)  # its keyword arguments
    sample_rate_hz: int = 24_000
    channels: int = 1
    crop_samples: int = 12_800  # whole frames
    batch_size: int = 8  # crops a step (and process)
    learning_rate: float = 5e-4  # peak, of AdamW
    warmup_steps: int = 100  # of linear rise to it
    clip_norm: float = 3.0  # largest gradient norm that is not scaled down
    ema_decay: float = 0.998  # of the running average of the parameters, which is what is exported
    main_codebooks: int = 8  # used in half of the joint steps; in the others quantiser dropout draws a number
    phases: tuple[Phase, ...] = (  # in order; the last ends at 1
        Phase("autoencoder", 0.4, 1.0, 0.5),
        Phase("joint", 0.84, 0.6, 0.05),
        Phase("decoder", 1.0, 0.4, 0.02),
    )
    loss: LossWeights = field(default_factory=LossWeights)
    refits: bool = True  # whether a phase begins by fitting codebooks
    fit_seconds: float = 320.0  # of audio whose latents the codebooks are fitted to
    seed: int = 0  # of parameters, crops and clustering


def without_autoencoder(recipe: Recipe) -> Recipe:
    """Return a recipe for going on with a trained codec: its autoencoder phases left out, the others spread."""
    kept = tuple(phase for phase in recipe.phases if phase.name != "autoencoder")
    skipped = recipe.phases[len(recipe.phases) - len(kept) - 1].until if len(kept) < len(recipe.phases) else 0.0
    phases = tuple(replace(phase, until=(phase.until - skipped) / (1.0 - skipped)) for phase in kept)
    return replace(recipe, phases=phases)


def decoder_alone(recipe: Recipe) -> Recipe:
    """Return a recipe for going on with a trained codec's decoder: encoder and codebooks, and so all codes, stay."""
    return replace(recipe, phases=(Phase("decoder", 1.0, 0.4, 0.02),), refits=False)


def phase_at(phases: tuple[Phase, ...], progress: float, earliest: int) -> int:
    """Return the index of the phase at a progress of the run, 0 to 1.

    No phase before the `earliest` is chosen: a run whose budget is raised has less behind it than before, and stays.
    """
    later = (i for i, phase in enumerate(phases) if i >= earliest and progress < phase.until)
    return next(later, len(phases) - 1)


def learning_rate(recipe: Recipe, index: int, progress: float, step: int) -> float:
    """Return the rate in a phase: a half cosine through it, and a linear rise at the very start of the run."""
    phase, start = recipe.phases[index], recipe.phases[index - 1].until if index else 0.0
    through = min(1.0, max(0.0, (progress - start) / (phase.until - start)))
    shape = half_cosine(phase.rate, phase.final_rate, through)
    return recipe.learning_rate * shape * min(1.0, (step + 1) / max(1, recipe.warmup_steps))


RECIPES: dict[str, Recipe] = {
    "encodec_24khz_mini": Recipe(
        "encodec", {"num_codebooks": 16, "hidden_dim": 128, "num_filters": 16, "bandwidth_kbps": 6.0},
    ),
    "encodec_48khz_mini": Recipe(
        "encodec_stereo", {"num_codebooks": 8, "hidden_dim": 128, "num_filters": 12, "bandwidth_kbps": 12.0},
        # crops of 384 ms and more, which the envelope loss wants; quiet cells count down to -80 dB
        sample_rate_hz=48_000, channels=2, crop_samples=19_200, batch_size=6, loss=LossWeights(floor=1e-4),
        fit_seconds=160.0,
    ),
    "snac_24khz_mini": Recipe(
        "snac", {
            "codebook_size": 1024, "encoder_dim": 8, "decoder_dim": 128, "codebook_dim": 16,
            "encoder_strides": (8, 5, 2, 2), "depthwise": False,
        },
        phases=(Phase("autoencoder", 0.4, 1.0, 0.3), Phase("joint", 0.8, 0.5, 0.1), Phase("decoder", 1.0, 0.4, 0.02)),
        fit_seconds=400.0,
    ),
    "fsq_50hz_mini": Recipe(
        "fsq", {"levels": (4, 4, 4, 4, 4, 4), "num_filters": 16, "hidden_dim": 64}, crop_samples=12_960,
        phases=(Phase("joint", 0.8, 1.0, 0.05), Phase("decoder", 1.0, 0.3, 0.02)),
    ),
}  # fmt: skip
