import math

import pytest
import torch
from torch.nn import functional as F

from codecbook.errors import UnsupportedInput
from codecbook.lm.training.options import codebook_weights, cross_entropy_nats


@pytest.mark.parametrize("label_smoothing", [0.0, 0.05, 0.3])
def test_cross_entropy_equals_that_of_torch(label_smoothing: float) -> None:
    torch.manual_seed(0)
    logits, codes = torch.randn(2, 5, 3, 7, dtype=torch.float64), torch.randint(0, 7, (2, 5, 3))
    smoothed, plain = cross_entropy_nats(logits, codes, label_smoothing)
    flat = logits.flatten(0, 2), codes.flatten()
    expected = F.cross_entropy(*flat, reduction="none", label_smoothing=label_smoothing)
    torch.testing.assert_close(smoothed.flatten(), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(plain.flatten(), F.cross_entropy(*flat, reduction="none"), rtol=0, atol=1e-14)
    assert not plain.requires_grad


def test_even_logits_cost_the_logarithm_of_the_codebook_size() -> None:
    _, plain = cross_entropy_nats(torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 1, dtype=torch.int64))
    assert float(plain) == pytest.approx(math.log(8), abs=1e-6)


def test_codebook_weights() -> None:
    assert codebook_weights("even", 4, 1.0).tolist() == [0.25] * 4
    # 1 + alpha k / (K - 1) over their sum: 1, 1.5, 2 of 4.5
    torch.testing.assert_close(codebook_weights("auto", 3, 1.0), torch.tensor([1.0, 1.5, 2.0]) / 4.5)
    assert codebook_weights("auto", 1, 5.0).tolist() == [1.0]


@pytest.mark.parametrize(("kind", "alpha"), [("deep", 1.0), ("auto", -2.0), ("auto", math.nan), ("auto", math.inf)])
def test_other_weights_are_refused(kind: str, alpha: float) -> None:
    with pytest.raises(UnsupportedInput, match=r"codebook"):
        codebook_weights(kind, 2, alpha)
