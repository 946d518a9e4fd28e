"""Small models of all kinds: exact ones of integers drawn by a generator, and float ones."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from codecbook.lm.exact.spec import ExactConfig, ExactLM, array_specs
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig, TinyGPT, TinyGPTConfig
from codecbook.lm.token_lm import TokenLM

# what the result of each matrix shall be like: activations, the middle of a GELU table, streams, logits
_TARGETS = {
    "embedding": 1 << 15, "frame_embedding": 1 << 15, "layers.query_key_value": 60, "layers.score": 400,
    "layers.mix": 50, "layers.output": 1 << 14, "layers.inner": 900, "layers.outer": 1 << 14, "project": 1 << 16,
    "head_inner": 900, "head_outer": 1 << 14, "logits": 900,
}  # fmt: skip


def config_of(kind: str) -> ExactConfig:
    sizes = (11,) if kind in ("single", "rotary") else (11,) * 3
    if kind == "in_frame":
        return ExactConfig(sizes, 24, 2, 2, 40, 6, conditioned=True, head_dim=20, head_hidden=28)
    return ExactConfig(sizes, 24, 2, 2, 40, 30 if kind == "rotary" else 6, rotary=kind == "rotary")


def integer_arrays(config: ExactConfig, seed: int, peaky: bool = False) -> dict[str, np.ndarray]:
    """Draw a model without a single float, so that it is the same on every machine."""
    rng = np.random.Generator(np.random.PCG64(seed))
    arrays: dict[str, np.ndarray] = {}
    for name, (kind, shape) in array_specs(config).items():
        base, _, part = name.rpartition(".")
        if part == "weight":
            array = rng.integers(-127, 128, shape)
            if peaky:  # one input far above the others, and rows of zeros
                array = array // 16
                array[..., 1] = 127
                array[..., ::5, :] = 0
        elif part in ("multiplier", "gain"):
            array = rng.integers(1 << 18, 1 << 19, shape)
            array = np.where(rng.integers(0, 4, shape) == 0, -array, array) if part == "gain" else array
        elif part == "shift":
            array = np.full(shape, _shift_for(base, config))
        elif part.endswith("epsilon"):
            array = np.full(shape, 4096)
        elif part.endswith("gelu"):
            array = np.clip((np.arange(4096) - 1800) // 16, -9, 127) + rng.integers(0, 2, shape)
            array = np.minimum(array, 127)
        elif part == "position_bias":
            array = rng.integers(-900, 900, shape) * (8 if peaky else 1)
        else:  # rotation
            array = rng.integers(-(1 << 14), (1 << 14) + 1, shape)
        arrays[name] = array.astype(kind)
    return arrays


def _shift_for(base: str, config: ExactConfig) -> int:
    """Return the shift that brings multipliers near 2^18.5 to about the target; only its rough size matters."""
    if base.endswith("norm"):
        return 26
    inputs = {"layers.outer": config.hidden, "head_outer": config.head_hidden, "layers.mix": 0, "embedding": 0}
    width = inputs.get(base, config.dim)
    typical = {"layers.mix": 60 << 16, "embedding": 73, "frame_embedding": 73}.get(base, 73 * 50 * max(1, width // 5))
    finer = 4 if config.rotary and base == "layers.query_key_value" else 0
    return (
        min(44, max(1, 18 + (typical // _TARGETS[base]).bit_length() - finer))
        if typical >= _TARGETS[base]
        else (max(1, 19 - (_TARGETS[base] // typical).bit_length()))
    )


@pytest.fixture(scope="session")
def make_integer_model() -> Callable[..., ExactLM]:
    def make(kind: str, seed: int = 0, peaky: bool = False) -> ExactLM:
        config = config_of(kind)
        return ExactLM(config, integer_arrays(config, seed, peaky))

    return make


@pytest.fixture(scope="session")
def make_float_model() -> Callable[..., TokenLM]:
    def make(kind: str) -> TokenLM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            if kind == "rotary":
                model: TokenLM = TinyGPT(TinyGPTConfig((11,), dim=32, layers=2, heads=4, hidden=64, context=40))
            else:
                sizes = (11,) if kind == "single" else (11,) * 3
                config = RVQTransformerConfig(
                    sizes, dim=32, layers=2, heads=4, hidden=48, window_frames=8, head_dim=16, head_hidden=24,
                    conditioning="none" if kind == "none" else "in_frame",
                )  # fmt: skip
                model = RVQTransformer(config)
                torch.nn.init.normal_(model.position_bias.weight)
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.data.mul_(5.0)
                else:
                    parameter.data.uniform_(0.5, 2.0)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def draw_codes() -> Callable[..., np.ndarray]:
    def draw(model: ExactLM | TokenLM, num_frames: int, seed: int = 0) -> np.ndarray:
        rng = np.random.Generator(np.random.PCG64(seed))
        return rng.integers(0, model.codebook_sizes[0], (num_frames, len(model.codebook_sizes)))

    return draw
