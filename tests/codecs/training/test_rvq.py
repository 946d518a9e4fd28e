import numpy as np
import pytest
import torch

from codecbook.codecs.build import random_seeded
from codecbook.codecs.training.rvq import (
    cluster_sums,
    fit_codebook,
    init_codebooks,
    nearest_codes,
    rvq_quantize,
    shares_left,
)
from codecbook.errors import UnsupportedInput

# two codebooks of three words in the plane
CODEBOOKS = torch.tensor(
    [[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]]]
)  # fmt: skip


def test_two_stages_by_hand():
    latents = torch.tensor([[[5.2, 0.1], [0.1, 2.9]]])  # vectors (5.2, 0.1) and (0.1, 2.9)
    codes, quantized, residuals = rvq_quantize(latents, CODEBOOKS)
    assert codes.tolist() == [[[1, 2], [1, 2]]]
    assert quantized.tolist() == [[[5.0, 0.0], [0.0, 3.0]]]
    torch.testing.assert_close(residuals[1, 0], torch.tensor([[1.2, 0.1], [0.1, -1.1]]), rtol=0, atol=1e-6)


def test_fewer_codebooks_give_the_leading_codes():
    latents = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(0))
    codes, _, _ = rvq_quantize(latents, CODEBOOKS)
    leading, quantized, _ = rvq_quantize(latents, CODEBOOKS[:1])
    assert torch.equal(codes[:, :1], leading)
    assert torch.equal(quantized[0].T, CODEBOOKS[0][leading[0, 0]])


def test_ties_go_to_the_lower_index():
    codebook = torch.tensor([[1.0], [-1.0], [1.0]])
    assert nearest_codes(torch.tensor([[0.0], [1.0]]), codebook).tolist() == [0, 0]


def test_equals_the_package():
    model = random_seeded(
        "encodec", {"hidden_dim": 8, "num_filters": 2, "codebook_size": 32, "bandwidth_kbps": 3.0}, seed=3
    )
    codebooks = torch.stack([layer.codebook for layer in model.quantizer.vq.layers])
    latents = torch.randn(2, 8, 50, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        theirs = model.quantizer.encode(latents, model.frame_rate, None).transpose(0, 1)
        codes, quantized, _ = rvq_quantize(latents, codebooks)
        assert torch.equal(codes, theirs)
        # the package adds the words in the same order
        assert torch.equal(quantized, model.quantizer.decode(theirs.transpose(0, 1)))


def test_too_few_vectors_for_a_codebook_are_refused():
    with pytest.raises(UnsupportedInput, match="7 vectors cannot fill a codebook of 8"):
        fit_codebook(np.zeros((7, 2), np.float32), 8, seed=0)


def test_codebooks_are_fitted_reproducibly_and_each_reduces_the_residual():
    vectors = torch.randn(3000, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 2.0, 1.0, 0.5])
    codebooks = init_codebooks(vectors, num_codebooks=3, codebook_size=16, seed=5)
    assert codebooks.shape == (3, 16, 4)
    assert torch.equal(codebooks, init_codebooks(vectors, 3, 16, seed=5))
    assert not torch.equal(codebooks, init_codebooks(vectors, 3, 16, seed=6))
    latents = vectors.T[None]
    powers = [float((latents - rvq_quantize(latents, codebooks[:k])[1]).square().mean()) for k in (1, 2, 3)]
    # 4 bits for 4 dimensions leave a good third of the power, each time
    assert powers[0] < 0.5 * float(latents.square().mean())
    assert powers[2] < 0.6 * powers[1] < 0.4 * powers[0]


def test_codebooks_that_add_nothing_leave_all_that_was_left():
    latents = torch.randn(2, 4, 300, generator=torch.Generator().manual_seed(0))
    books = init_codebooks(latents.transpose(1, 2).flatten(0, 1), 3, 16, seed=0)
    left = shares_left(latents, books)
    assert 1 > left[0] > left[1] > left[2] > 0
    books[1:] = 0.0
    ignored = shares_left(latents, books)
    assert ignored == pytest.approx([left[0]] * 3, rel=1e-6)
    assert not (np.diff(ignored) < 0).all()


def test_well_separated_clusters_are_found():
    centres = torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
    vectors = centres.repeat(50, 1) + 0.01 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    found = torch.from_numpy(fit_codebook(vectors.numpy(), 16, seed=0))
    assert float(torch.cdist(centres, found).min(dim=1).values.max()) < 0.1


def test_sums_of_clusters_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    counts, sums = cluster_sums(vectors, torch.tensor([0, 0, 2]), 3)
    assert counts.tolist() == [2.0, 0.0, 1.0]
    assert sums.tolist() == [[4.0, 0.0], [0.0, 0.0], [0.0, 5.0]]
