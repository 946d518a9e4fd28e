"""The language models by name."""

import dataclasses
from typing import Any

from codecbook.errors import UnsupportedInput
from codecbook.lm.gpt import TinyGPT, TinyGPTConfig
from codecbook.lm.rvq_transformer import RVQTransformer, RVQTransformerConfig
from codecbook.lm.token_lm import (
    LMConfig,
    TokenLM,
    check_vocabulary,
    num_parameters,
    num_trunk_parameters,
)

__all__ = [
    "ARCHITECTURES", "LMConfig", "RVQTransformer", "RVQTransformerConfig", "TinyGPT", "TinyGPTConfig", "TokenLM",
    "build_lm", "check_vocabulary", "num_parameters", "num_trunk_parameters",
]  # fmt: skip

ARCHITECTURES: dict[str, tuple[type[LMConfig], type[TokenLM]]] = {
    TinyGPT.architecture: (TinyGPTConfig, TinyGPT),
    RVQTransformer.architecture: (RVQTransformerConfig, RVQTransformer),
}


def build_lm(architecture: str, arguments: dict[str, Any]) -> TokenLM:
    """Build a model with random parameters (torch's global generator).

    Args:
        architecture: ``"tiny_gpt"`` or ``"rvq_transformer"``.
        arguments: Fields of its configuration; ``codebook_sizes`` is needed, the others have defaults.

    Raises:
        UnsupportedInput: An unknown architecture or argument, or a shape that cannot be.
    """
    if architecture not in ARCHITECTURES:
        raise UnsupportedInput(
            f"There is no language model {architecture!r}; choose one of {', '.join(ARCHITECTURES)}."
        )
    config_type, model_type = ARCHITECTURES[architecture]
    known = {field.name for field in dataclasses.fields(config_type)}
    unknown = sorted(arguments.keys() - known)
    if unknown or "codebook_sizes" not in arguments:
        problem = f"does not know {', '.join(unknown)}" if unknown else "needs codebook_sizes"
        raise UnsupportedInput(f"{architecture} {problem}; it takes {', '.join(sorted(known))}.")
    return model_type(config_type(**arguments))
