"""The training loss, in nats, and the measure, in bits."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from codecbook.errors import UnsupportedInput

NATS_TO_BITS = 1.0 / math.log(2.0)


def cross_entropy_nats(logits: Tensor, codes: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of every token, with and without label smoothing.

    With ``p`` the model's probabilities and ``y`` the token, smoothing by ``s`` gives
    ``-(1 - s) log p_y - s mean(log p)``: it keeps a model from growing ever more certain, and is no measure of
    information, so whatever is reported is without it.

    Args:
        logits: float ``[..., V]``.
        codes: int64 ``[...]``.
        label_smoothing: ``s``, from 0 to below 1.

    Returns:
        (smoothed, unsmoothed), float32 (or float64 where the logits are) ``[...]``, in nats.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_total = logits.logsumexp(dim=-1)
    plain = log_total - logits.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    if not label_smoothing:
        return plain, plain.detach()
    even = log_total - logits.mean(dim=-1)
    return (1.0 - label_smoothing) * plain + label_smoothing * even, plain.detach()


def codebook_weights(kind: str | Sequence[float], num_codebooks: int, alpha: float = 1.0) -> Tensor:
    """Return the weight of each codebook in the training loss, float32 ``[K]``, of sum 1.

    Args:
        kind: ``"even"``; ``"auto"``, ``1 + alpha k / (K - 1)``, more for the deeper and noisier codebooks; or one
            number of 0 or more per codebook.
        num_codebooks: ``K``.
        alpha: Of ``"auto"``.

    Raises:
        UnsupportedInput: An unknown kind, another number of weights, or weights that are negative or all 0.
    """
    if kind == "even":
        values = [1.0] * num_codebooks
    elif kind == "auto":
        values = [1.0 + alpha * k / max(1, num_codebooks - 1) for k in range(num_codebooks)]
    elif isinstance(kind, str):
        raise UnsupportedInput(f"codebook_weights={kind!r}; choose 'even', 'auto' or one number per codebook.")
    else:
        values = [float(value) for value in kind]
    total = sum(values)
    if len(values) != num_codebooks or min(values) < 0 or not 0 < total < math.inf:
        raise UnsupportedInput(
            f"Codebook weights {values} for {num_codebooks} codebooks; give one number of 0 or more for each, not all "
            "0."
        )
    return torch.tensor(values, dtype=torch.float64).div(total).float()
