"""Recipes: what is trained, on what crops, through which phases. Plain constants; copy one to make another.

Progress runs from 0 to 1, by steps or by time, and a recipe divides it into phases:

* ``autoencoder``: encoder and decoder without quantisation. In small models this is what limits quality.
* ``joint``: with the quantiser, its codebooks first fitted by k-means; quantiser dropout.
* ``decoder``: codebooks fitted once more, then frozen with the encoder: the decoder learns the codes that it will
  get. Joint training lets deep codebooks sink into disuse; the refit brings them back at no loss.
"""

from dataclasses import dataclass, field, replace

from codecbook.codecs.losses import LossWeights

_MINI_LOSS = LossWeights(
    time=0.0,
    spectral=0.0,
    relative=1.0,
    log_mel=1.5,
    envelope=3.0,
    commitment=0.25,
    windows=(64, 256, 512, 1024, 2048),
)


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Attributes:
        name: ``"autoencoder"``, ``"joint"`` or ``"decoder"``.
        until: Progress at which it ends, 0 to 1.
        rate: Learning rate at its start, relative to the recipe's.
        final_rate: Learning rate at its end, likewise; a half cosine leads from one to the other.
    """

    name: str
    until: float
    rate: float
    final_rate: float


@dataclass(frozen=True)
class Recipe:
    """How to train a codec.

    Attributes:
        architecture: Name in `codecbook.codecs.build.ARCHITECTURES`.
        arguments: Its keyword arguments.
        sample_rate_hz: Sampling rate of the training audio.
        channels: Its channels.
        crop_samples: Length of a crop in samples, whole frames.
        batch_size: Crops a step (and process).
        learning_rate: Peak rate of AdamW.
        warmup_steps: Steps of linear rise to it.
        clip_norm: Largest gradient norm that is not scaled down.
        ema_decay: Decay of the running average of the parameters, which is what is exported.
        main_codebooks: Codebooks used in half of the joint steps; in the others quantiser dropout draws a number.
        phases: In order; the last ends at 1.
        loss: Weights of the loss.
        fit_seconds: Audio whose latents the codebooks are fitted to.
        adversary_weight: Weight of the MS-STFT discriminator's feedback in the decoder phase; 0 goes without.
        seed: Seed of parameters, crops and clustering.
    """

    architecture: str
    arguments: dict = field(default_factory=dict)
    sample_rate_hz: int = 24_000
    channels: int = 1
    crop_samples: int = 12_800
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup_steps: int = 100
    clip_norm: float = 3.0
    ema_decay: float = 0.998
    main_codebooks: int = 8
    phases: tuple[Phase, ...] = (
        Phase("autoencoder", 0.4, 1.0, 0.5),
        Phase("joint", 0.84, 0.6, 0.05),
        Phase("decoder", 1.0, 0.4, 0.02),
    )
    loss: LossWeights = _MINI_LOSS
    fit_seconds: float = 320.0
    adversary_weight: float = 0.0
    seed: int = 0


def without_autoencoder(recipe: Recipe) -> Recipe:
    """Return a recipe for going on with a trained codec: its autoencoder phases left out, the others spread."""
    kept = tuple(phase for phase in recipe.phases if phase.name != "autoencoder")
    skipped = (
        recipe.phases[len(recipe.phases) - len(kept) - 1].until if len(kept) < len(recipe.phases) else 0.0
    )
    phases = tuple(replace(phase, until=(phase.until - skipped) / (1.0 - skipped)) for phase in kept)
    return replace(recipe, phases=phases)


RECIPES: dict[str, Recipe] = {
    "encodec_24khz_mini": Recipe(
        "encodec",
        {"num_codebooks": 16, "hidden_dim": 128, "num_filters": 16, "bandwidth_kbps": 6.0},
    ),
    "encodec_48khz_mini": Recipe(
        "encodec_stereo",
        {"num_codebooks": 8, "hidden_dim": 128, "num_filters": 12, "bandwidth_kbps": 12.0},
        sample_rate_hz=48_000,
        channels=2,
        crop_samples=12_800,
        batch_size=6,
        fit_seconds=160.0,
    ),
    "snac_24khz_mini": Recipe(
        "snac",
        {
            "codebook_size": 1024,
            "encoder_dim": 8,
            "decoder_dim": 128,
            "codebook_dim": 16,
            "encoder_strides": (8, 5, 2, 2),
            "depthwise": False,
        },
        phases=(
            Phase("autoencoder", 0.4, 1.0, 0.3),
            Phase("joint", 0.8, 0.5, 0.1),
            Phase("decoder", 1.0, 0.4, 0.02),
        ),
        fit_seconds=400.0,
    ),
    "fsq_50hz_mini": Recipe(
        "fsq",
        {"levels": (4, 4, 4, 4, 4, 4), "num_filters": 16, "hidden_dim": 64},
        crop_samples=12_960,
        phases=(Phase("joint", 0.8, 1.0, 0.05), Phase("decoder", 1.0, 0.3, 0.02)),
    ),
}
