"""Figures of the same questions that were measured elsewhere, to be shown beside this project's, never among them."""

import pandas as pd

_UPSTREAM_MODEL = "upstream's model, torch 2.13 on CPUs, against one thread, float32, AVX-512"
_SECONDS = "8 segments of 1 s, the same model"
_FIVE_WAYS = "2 threads, another instruction set, oneDNN off, batch 8 or a full pass"
# coder of this project that comes closest ("" for none), setting, quantity, unit, low, high, source
_PUBLISHED: tuple[tuple[str, str, str, str, float, float, str], ...] = (
    ("grid128", f"grid 1/128; {_FIVE_WAYS}", "rounded logits that differ", "per million", 7, 15, _UPSTREAM_MODEL),
    ("grid128", f"grid 1/128, logits as wide as a trained model's; {_FIVE_WAYS}", "rounded logits that differ",
     "per million", 34, 58, _UPSTREAM_MODEL),
    ("grid128", "grid 1/128, random weights (deviation 2.8); Arm64 against x86-64", "rounded logits that differ",
     "per million", 214, 247, _UPSTREAM_MODEL),
    ("upstream", "float32 softmax", "segments that decode wrongly", "share", 8 / 8, 8 / 8, _SECONDS),
    ("grid128", "grid 1/128, float32", "segments that decode wrongly", "share", 6 / 8, 8 / 8, _SECONDS),
    ("grid64", "grid 1/64, float32", "segments that decode wrongly", "share", 3 / 8, 5 / 8, _SECONDS),
    ("", "grid 1/4, float32", "segments that decode wrongly", "share", 1 / 8, 4 / 8, _SECONDS),
    ("", "grid 2.1, float32", "segments that decode wrongly", "share", 0, 1 / 8, _SECONDS),
    ("", "grid 1/4", "rate above float logits", "percent", 0.3, 0.3, _UPSTREAM_MODEL),
    ("", "grid 2.1", "rate above float logits", "percent", 5.8, 9.4, _UPSTREAM_MODEL),
    ("float64", "float64, one instruction set", "largest difference of a logit", "nats", 0, 4e-16, _UPSTREAM_MODEL),
    ("float64", "float64, across instruction sets (its sinusoids are float32)", "largest difference of a logit",
     "nats", 0, 9e-12, _UPSTREAM_MODEL),
    ("", "float32 sinusoid table across instruction sets", "entries that differ", "share", 554 / 30_000, 554 / 30_000,
     "upstream's model"),
    ("", "random bytes to an acv=4 decoder", "symbols decoded without an error", "share", 600 / 600, 600 / 600,
     "encodec's pull request 95"),
    ("exact", "JPEG AI's decoder in integers, w16a16, before fine-tuning", "rate (BD)", "percent", 0.5, 0.5,
     "Koyuncu et al."),
    ("exact", "JPEG AI's decoder in integers, w8a16, before fine-tuning", "rate (BD)", "percent", 7.9, 7.9,
     "Koyuncu et al."),
)  # fmt: skip


def published_table() -> pd.DataFrame:
    """Return figures that others measured, or that were measured before this project.

    Returns:
        Columns ``coder`` (the one of this project that comes closest; empty for none), ``setting``, ``quantity``,
        ``unit``, ``low`` and ``high`` (equal for a single figure; the low end of a bound is 0), ``source``.
    """
    columns = pd.Index(["coder", "setting", "quantity", "unit", "low", "high", "source"])
    return pd.DataFrame(list(_PUBLISHED), columns=columns).astype({"low": float, "high": float})
