"""Language models over codec tokens: models, corpora, training, scoring, sampling."""

from codecbook.lm.model_files import LoadedLM, load_lm, save_lm
from codecbook.lm.models import (
    RVQTransformer,
    RVQTransformerConfig,
    TinyGPT,
    TinyGPTConfig,
    TokenLM,
    build_lm,
)

__all__ = [
    "LoadedLM", "RVQTransformer", "RVQTransformerConfig", "TinyGPT", "TinyGPTConfig", "TokenLM", "build_lm",
    "load_lm", "save_lm",
]  # fmt: skip
