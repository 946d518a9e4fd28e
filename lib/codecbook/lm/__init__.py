"""Language models over codec tokens: models, corpora, training, scoring, sampling."""

from typing import TYPE_CHECKING

from codecbook.lazy import lazy_names

if TYPE_CHECKING:
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

# these need torch, and codecbook.lm.exact does not
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "codecbook.lm.model_files": ("LoadedLM", "load_lm", "save_lm"),
        "codecbook.lm.models": (
            "RVQTransformer", "RVQTransformerConfig", "TinyGPT", "TinyGPTConfig", "TokenLM", "build_lm",
        ),
    },
)  # fmt: skip
