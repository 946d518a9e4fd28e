"""Tokens without audio: steps of the language model, the hook, and what goes wrong."""

import numpy as np
import pytest
import torch

from codecbook.codecs.encodec_package import encodec
from codecbook.coding.arithmetic import encode_grid, encode_upstream
from codecbook.coding.counts import GRID_DIALECTS, GridDialect
from codecbook.coding.ecdc_lm import CodedStep, decode_tokens, encode_tokens
from codecbook.coding.ecdc_stepper import PackageStepper, as_stepper, stepper_for
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
def test_roundtrip_and_hook(lm: torch.nn.Module, codes: np.ndarray, dialect: GridDialect | None) -> None:
    wrote: list[CodedStep] = []
    read: list[CodedStep] = []
    data = encode_tokens(codes, lm, dialect, on_step=wrote.append, segment=7)
    assert encode_tokens(codes, as_stepper(lm, dialect)) == data
    decoded = decode_tokens(data + b"next", lm, K, T, dialect, on_step=read.append, segment=7)
    np.testing.assert_array_equal(decoded.codes, codes)
    assert decoded.bytes_consumed == len(data)
    cdf = np.stack([step.cdf for step in wrote])
    assert (encode_upstream if dialect is None else encode_grid)(codes, cdf) == data
    for t, (a, b) in enumerate(zip(wrote, read, strict=True)):
        assert (a.segment, a.frame, b.segment, b.frame) == (7, t, 7, t)
        assert a.logits.shape == (V, K)
        assert a.logits.dtype == (dialect.lm_dtype if dialect else "float32")
        for name in ("logits", "cdf", "cum_low", "cum_high", "codes"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.codes, codes[:, t])
        np.testing.assert_array_equal(a.cum_high, a.cdf[np.arange(K), a.codes])
        assert (a.cum_low < a.cum_high).all()


def test_upstream_steps_are_the_packages(lm: torch.nn.Module, codes: np.ndarray) -> None:
    from encodec.quantization.ac import build_stable_quantized_cdf

    stepper = PackageStepper(lm)
    stepper.start(K)
    states, offset, last = None, 0, None
    indices = torch.zeros(1, K, 1, dtype=torch.long)
    for t in range(T):
        with torch.no_grad():
            pdf, states, offset = lm(indices, states, offset)
        _, cdf = stepper.step(last)
        for k in range(K):
            row = build_stable_quantized_cdf(pdf[0, :, k, 0], 24, check=False)
            np.testing.assert_array_equal(cdf[k], row.numpy())
        last = codes[:, t].copy()
        indices = 1 + torch.from_numpy(codes[None, :, t : t + 1])


@pytest.mark.parametrize("dialect", RULES)
def test_models_of_other_forms(lm: torch.nn.Module, codes: np.ndarray, dialect: GridDialect | None) -> None:
    for wrapped in (Probabilities(lm), Logits(lm)):
        data = encode_tokens(codes, wrapped.eval(), dialect)
        np.testing.assert_array_equal(decode_tokens(data, wrapped, K, T, dialect).codes, codes)
    if dialect is None:
        assert encode_tokens(codes, Probabilities(lm).eval()) == encode_tokens(codes, lm)


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
        PackageStepper(lm, GridDialect(1 / 128, 65536, 1, "float16"))


def test_what_does_not_fit(lm: torch.nn.Module, codes: np.ndarray) -> None:
    with pytest.raises(UnsupportedInput, match="4 codebooks, the language model has 3"):
        encode_tokens(np.zeros((4, 1), dtype=np.int64), lm)
    with pytest.raises(CorruptInput, match=r"Segment 0, frame 0: Symbol 32 .* outside 0\.\.31"):
        encode_tokens(np.full((K, 1), V), lm)
    with pytest.raises(UnsupportedInput, match="float64"):
        encode_tokens(np.zeros((K, 1)), lm)
    with pytest.raises(UnsupportedInput, match="placed for upstream"):
        encode_tokens(codes, PackageStepper(lm), GRID_DIALECTS["qstep64"])
    with pytest.raises(UnsupportedInput, match="has 32 codes, the codec's codebooks have 1024"):
        stepper_for(lm, None, 1024)
    with pytest.raises(UnsupportedInput, match="torch module"):
        encode_tokens(codes, "lm")  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", RULES)
def test_damage_shows_at_the_end(lm: torch.nn.Module, codes: np.ndarray, dialect: GridDialect | None) -> None:
    data = encode_tokens(codes, lm, dialect)
    for place in range(0, len(data), 3):
        bad = bytearray(data)
        bad[place] ^= 1
        with pytest.raises(CorruptInput, match="Segment 0"):
            decode_tokens(bytes(bad), lm, K, T, dialect)
    with pytest.raises(CorruptInput, match="frame"):
        decode_tokens(data[:10], lm, K, T, dialect)
    if dialect is not None:
        bad = bytearray(data)
        bad[0] ^= 1
        wrong = decode_tokens(bytes(bad) + bytes(99), lm, K, T, dialect, verify=False)
        assert (wrong.codes != codes).any(), "nothing but the comparison notices"
