"""Export: what it costs in rate, that it is a function of its input, and what it refuses."""

import numpy as np
import pytest
import torch

from codecbook.coding.exact.counts import cdf_exact
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.export import export_exact, float_tensors
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig, TinyGPT, TinyGPTConfig
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import cross_entropy_nats

KINDS = ("in_frame", "none", "single", "rotary")


def source_codes(num_frames: int, num_codebooks: int, seed: int) -> np.ndarray:
    """Draw frames that follow from the frame before and from each other, with noise: something to learn."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((num_frames, num_codebooks), dtype=np.int64)
    for t in range(1, num_frames):
        for k in range(num_codebooks):
            origin = codes[t, k - 1] * 3 if k else codes[t - 1, 0] * 5 + 1
            codes[t, k] = (origin + rng.integers(0, 3)) % 16 if rng.random() < 0.9 else rng.integers(0, 16)
    return codes


@pytest.fixture(scope="module")
def trained() -> dict[str, TokenLM]:
    """Train a model of each kind for about a second."""
    models: dict[str, TokenLM] = {}
    for kind in ("in_frame", "rotary"):
        torch.manual_seed(0)
        if kind == "rotary":
            model: TokenLM = TinyGPT(TinyGPTConfig((16,), dim=64, layers=2, heads=4, hidden=128, context=64))
        else:
            model = RVQTransformer(
                RVQTransformerConfig(
                    (16,) * 3, dim=64, layers=2, heads=4, hidden=128, dropout=0.0, window_frames=16, head_dim=32,
                    head_hidden=64,
                )
            )  # fmt: skip
        optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
        codes = source_codes(40 * 256, model.num_codebooks, seed=1).reshape(256, 40, -1)
        for step in range(80):
            batch = torch.from_numpy(codes[step * 16 % 256 : step * 16 % 256 + 16])
            loss, _ = cross_entropy_nats(model(batch), batch)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
        models[kind] = model.eval()
    return models


def exact_bits(model: ExactLM, codes: np.ndarray) -> np.ndarray:
    """Return the information of each token ``[T, K]`` under the model's counts."""
    cdf = cdf_exact(kernel_logits(model, codes).transpose(0, 2, 1))
    widths = np.diff(cdf, axis=-1, prepend=0)
    return 20 - np.log2(np.take_along_axis(widths, codes[:, :, None], axis=2)[..., 0])


@pytest.mark.parametrize("kind", ["in_frame", "rotary"])
def test_integers_cost_next_to_nothing(kind: str, trained) -> None:
    model = trained[kind]
    calibration = [source_codes(60, model.num_codebooks, seed) for seed in range(2, 12)]
    exact = export_exact(model, calibration)
    clips = [source_codes(60, model.num_codebooks, seed) for seed in range(20, 40)]
    floating = np.mean([token_bits(model, clip) for clip in clips])
    integer = np.mean([exact_bits(exact, clip) for clip in clips])
    assert floating < 3.2, "the model has learned something: 4 bits are a code's size"
    # a hundred times smaller models than in use, with as many bits: 0.3 % instead of 0.02 %
    assert abs(integer / floating - 1) < 0.003


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_near_the_float_model(kind: str, make_float_model, draw_codes) -> None:
    source = make_float_model(kind)
    codes = draw_codes(source, 40)
    exact = export_exact(source, [codes])
    with torch.inference_mode():
        floating = source(torch.from_numpy(codes)[None])[0].numpy() / np.log(2) * 256
    error = reference_logits(exact, codes) - floating
    assert error.std() < 0.12 * floating.std(), "random weights, spread over all of their range, round worst"


def test_export_is_reproducible_and_certified(make_float_model, draw_codes) -> None:
    source = make_float_model("in_frame")
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    codes = draw_codes(source, 50)
    first, second = export_exact(source, [codes]), export_exact(source, [codes])
    assert first.sha256 == second.sha256
    assert certificate(first)
    assert all(torch.equal(state[name], tensor) for name, tensor in source.state_dict().items())
    assert not source.training


def test_rows_that_would_pass_the_limit_get_a_coarser_scale(make_float_model, draw_codes) -> None:
    source = RVQTransformer(
        RVQTransformerConfig((5,), dim=4, layers=1, heads=1, hidden=1200, window_frames=4, dropout=0.0)
    ).eval()
    # 1200 equal weights would be 1200 * 127 * 127 > 2^24
    torch.nn.init.constant_(source.get_submodule("blocks.0.feed_forward.output").weight, 0.5)
    exact = export_exact(source, [draw_codes(source, 30)])
    greatest = {bound.name: bound.greatest for bound in certificate(exact)}["layers.outer: sum of products"]
    assert 0.97 * 2**24 < greatest < 2**24


def test_silent_and_dead_parts_are_exported(make_float_model, draw_codes) -> None:
    source = make_float_model("in_frame")
    for parameter in source.parameters():
        parameter.data.zero_()
    codes = draw_codes(source, 10)
    assert not reference_logits(export_exact(source, [codes]), codes).any()


@pytest.mark.parametrize("kind", ["in_frame", "none", "single"])
def test_floats_made_from_integers_are_the_same_model_with_rounded_weights(
    kind: str, make_float_model, draw_codes
) -> None:
    source = make_float_model(kind)
    codes = draw_codes(source, 40)
    exact = export_exact(source, [codes])
    twin = RVQTransformer(source.config).eval()
    twin.load_state_dict(float_tensors(exact))
    again = export_exact(twin, [codes])
    with torch.inference_mode():
        wanted, made = (model(torch.from_numpy(codes)[None])[0].numpy() for model in (source, twin))
    assert (made - wanted).std() < 0.03 * wanted.std(), "a quarter of what activations' rounding adds"
    for name in ("layers.position_bias", "layers.gelu"):
        assert np.abs(exact.arrays[name] - again.arrays[name].astype(int)).max() <= 1, name


def test_refused_input(make_float_model, draw_codes) -> None:
    source = make_float_model("none")
    codes = draw_codes(source, 10)
    with pytest.raises(UnsupportedInput, match="no calibration clips"):
        export_exact(source, [])
    with pytest.raises(UnsupportedInput, match="not integers"):
        export_exact(source, [codes[:, :2]])
    rotary = make_float_model("rotary")
    with pytest.raises(UnsupportedInput, match="keep its floats"):
        float_tensors(export_exact(rotary, [draw_codes(rotary, 10)]))
    with pytest.raises(UnsupportedInput, match="no exact form"):
        export_exact(_Other(source.config, 1), [codes])
    with pytest.raises(UnsupportedInput, match="take turns"):
        export_exact(TinyGPT(TinyGPTConfig((11,), places=(0, 1), dim=16, layers=1, heads=2)), [codes[:, :1]])


class _Other(RVQTransformer.__bases__[0]):  # a TokenLM of a third kind
    architecture = "other"

    def embed(self, codes):
        pytest.fail("a model without an exact form was evaluated")

    heads = head = masks = embed
