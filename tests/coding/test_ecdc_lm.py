"""Tokens without audio: steps of the language model, and what goes wrong."""

import numpy as np
import pytest
import torch

from codecbook.codecs.encodec_package import encodec
from codecbook.coding.arithmetic import encode_grid, encode_upstream
from codecbook.coding.counts import GRID_DIALECTS, GridDialect
from codecbook.coding.ecdc.lm import PackageStepper, decode_steps, encode_steps, placed_lm
from codecbook.coding.ecdc.segments import MODEL_SHAPES
from codecbook.errors import CorruptInput, UnsupportedInput

V, K, T = 32, 3, 12
RULES = [None, *GRID_DIALECTS.values()]


class Probabilities(torch.nn.Module):
    """A model that can only be called, as the format's legacy path has it."""

    def __init__(self, lm: torch.nn.Module) -> None:
        super().__init__()
        self.inner = lm

    def forward(self, indices, states=None, offset=0):
        return self.inner(indices, states, offset)


class Logits(Probabilities):
    """A model that gives logits itself."""

    def forward_logits(self, indices, states=None, offset=0):
        pdf, states, offset = self.inner(indices, states, offset)
        return pdf.log() + 1, states, offset


@pytest.fixture(scope="module")
def lm() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return encodec.model.LMModel(K, V, dim=16, num_layers=2, num_heads=2, past_context=5).eval()


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, size=(K, T))


@pytest.mark.parametrize("dialect", RULES)
def test_roundtrip(lm: torch.nn.Module, codes: np.ndarray, dialect: GridDialect | None) -> None:
    stepper = PackageStepper(lm, dialect)
    data = encode_steps(codes, stepper)
    for _ in range(2):  # a stepper begins anew
        decoded, taken = decode_steps(data + b"next", stepper, K, T)
        np.testing.assert_array_equal(decoded, codes)
        assert taken == len(data)
    stepper.start(K)
    cdf = np.stack([stepper.step(codes[:, t - 1].copy() if t else None) for t in range(T)])
    assert (encode_upstream if dialect is None else encode_grid)(codes, cdf) == data


def test_upstream_steps_are_the_packages(lm: torch.nn.Module, codes: np.ndarray) -> None:
    from encodec.quantization.ac import build_stable_quantized_cdf

    stepper = PackageStepper(lm)
    stepper.start(K)
    states, offset, last = None, 0, None
    indices = torch.zeros(1, K, 1, dtype=torch.long)
    for t in range(T):
        with torch.no_grad():
            pdf, states, offset = lm(indices, states, offset)
        cdf = stepper.step(last)
        for k in range(K):
            row = build_stable_quantized_cdf(pdf[0, :, k, 0], 24, check=False)
            np.testing.assert_array_equal(cdf[k], row.numpy())
        last = codes[:, t].copy()
        indices = 1 + torch.from_numpy(codes[None, :, t : t + 1])


@pytest.mark.parametrize("dialect", RULES)
def test_models_of_other_forms(lm: torch.nn.Module, codes: np.ndarray, dialect: GridDialect | None) -> None:
    for wrapped in (Probabilities(lm), Logits(lm)):
        stepper = PackageStepper(wrapped.eval(), dialect)
        data = encode_steps(codes, stepper)
        np.testing.assert_array_equal(decode_steps(data, stepper, K, T)[0], codes)
    if dialect is None:
        wrapped = PackageStepper(Probabilities(lm).eval())
        assert encode_steps(codes, wrapped) == encode_steps(codes, PackageStepper(lm))


def test_placement_leaves_the_model_alone(lm: torch.nn.Module) -> None:
    assert PackageStepper(lm).lm is lm
    placed = PackageStepper(lm, GRID_DIALECTS["qstep64"])
    assert placed.lm is not lm
    assert next(placed.lm.parameters()).dtype == torch.float64
    assert next(lm.parameters()).dtype == torch.float32
    lm.train()
    assert not PackageStepper(lm).lm.training
    assert lm.training
    lm.eval()
    enabled = torch.backends.mkldnn.enabled
    placed.start(K)
    placed.step()
    assert torch.backends.mkldnn.enabled == enabled
    with pytest.raises(UnsupportedInput, match="cannot be used here"):
        PackageStepper(lm, device="cuda:99")
    with pytest.raises(UnsupportedInput, match="lm_dtype='float16'"):
        GridDialect(lm_dtype="float16")


def test_what_does_not_fit(lm: torch.nn.Module) -> None:
    with pytest.raises(UnsupportedInput, match="4 codebooks for a language model of 3"):
        encode_steps(np.zeros((4, 1), dtype=np.int64), PackageStepper(lm))
    with pytest.raises(CorruptInput, match=r"Segment 0, frame 0: Symbol 32 .* outside 0\.\.31"):
        encode_steps(np.full((K, 1), V), PackageStepper(lm))
    with pytest.raises(UnsupportedInput, match="has 32 codes, codebooks 1024"):
        placed_lm(lm, None, MODEL_SHAPES["encodec_24khz"])


@pytest.mark.parametrize("dialect", RULES)
def test_damage_shows_at_the_end(lm: torch.nn.Module, codes: np.ndarray, dialect: GridDialect | None) -> None:
    stepper = PackageStepper(lm, dialect)
    data = encode_steps(codes, stepper)
    for place in range(0, len(data), 3):
        bad = bytearray(data)
        bad[place] ^= 1
        with pytest.raises(CorruptInput, match="Segment 0"):
            decode_steps(bytes(bad), stepper, K, T)
    with pytest.raises(CorruptInput, match="frame"):
        decode_steps(data[:10], stepper, K, T)
    if dialect is not None:
        bad = bytearray(data)
        bad[0] ^= 1
        wrong, _ = decode_steps(bytes(bad) + bytes(99), stepper, K, T, verify=False)
        assert (wrong != codes).any(), "nothing but the comparison notices"
