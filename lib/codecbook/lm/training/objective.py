"""The training loss, in nats, and the measure, in bits."""

import math

import torch
from torch import Tensor

from codecbook.errors import UnsupportedInput, require_one_of

NATS_TO_BITS = 1.0 / math.log(2.0)
CODEBOOK_WEIGHTS = ("even", "auto")


def cross_entropy_nats(logits: Tensor, codes: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of every token, with and without label smoothing.

    With ``p`` the model's probabilities and ``y`` the token, smoothing by ``s``, from 0 to below 1, gives
    ``-(1 - s) log p_y - s mean(log p)``: it keeps a model from growing ever more certain, and is no measure of
    information, so whatever is reported is without it.

    Logits are float ``[..., V]``, codes int64 ``[...]``. Returns (smoothed, unsmoothed), in nats, float32 (or float64
    where the logits are) ``[...]``.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_total = logits.logsumexp(dim=-1)
    plain = log_total - logits.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    if not label_smoothing:
        return plain, plain.detach()
    even = log_total - logits.mean(dim=-1)
    return (1.0 - label_smoothing) * plain + label_smoothing * even, plain.detach()


def codebook_weights(kind: str, num_codebooks: int, alpha: float) -> Tensor:
    """Return the weight of each codebook in the training loss, float32 ``[K]``, of sum 1.

    They are ``"even"``, or ``"auto"``: ``1 + alpha k / (K - 1)``, more for the deeper and noisier codebooks. Another
    kind, or an `alpha` that makes a weight negative or infinite, raises UnsupportedInput.
    """
    require_one_of("codebook_weights", kind, CODEBOOK_WEIGHTS)
    weights = torch.ones(num_codebooks, dtype=torch.float64)
    if kind == "auto":
        weights += alpha * torch.arange(num_codebooks, dtype=torch.float64) / max(1, num_codebooks - 1)
    if not (weights.min() >= 0 and weights.sum().isfinite()):
        raise UnsupportedInput(
            f"codebook_alpha={alpha} gives codebooks the weights {weights.tolist()}; choose another."
        )
    return weights.div(weights.sum()).float()
