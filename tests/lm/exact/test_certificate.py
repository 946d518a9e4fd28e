"""The certificate holds for what is exported, and fails for arrays that are made to break each bound."""

import numpy as np
import pytest

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import reference
from codecbook.lm.exact.certificate import certificate, certificate_lines
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.spec import ExactConfig, ExactLM, array_specs


@pytest.mark.parametrize("kind", ["in_frame", "none", "single", "rotary"])
def test_integer_models_are_certified(kind: str, make_integer_model) -> None:
    bounds = certificate(make_integer_model(kind))
    assert all(bound.greatest < bound.limit for bound in bounds)
    names = " ".join(bound.name for bound in bounds)
    for step in ("logits: sum of products", "attention: weighted values", "norm: sum of squares", "embedding: sum"):
        assert step in names
    assert ("rotation" in names) == (kind == "rotary")
    assert len(certificate_lines(bounds)) == len(bounds)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layers.query_key_value.weight", -128, "weight can reach 128"),
        ("layers.gelu", -128, "gelu can reach 128"),
        ("head_gelu", -128, "gelu can reach 128"),
        ("layers.score.multiplier", 1 << 20, "score.multiplier can reach 1048576"),
        ("logits_norm.gain", -(1 << 20), "gain can reach 1048576"),
        ("layers.output.shift", 0, "shift beyond"),
        ("project.shift", 45, "shift beyond"),
        ("epsilon", 0, "epsilon below 1"),
        ("head_epsilon", 1 << 53, "head norms: sum of squares"),
        ("layers.position_bias", 1 << 30, "scores can reach"),
        ("logits.shift", 1, "logits: result"),
        ("layers.outer.shift", 1, "layers.outer: result"),
        ("norm.shift", 1, "norm: result can reach"),
        ("layers.attention_norm.shift", 1, "layers.attention_norm: result can reach"),
        ("layers.feed_forward_norm.shift", 1, "layers.feed_forward_norm: result can reach"),
        ("head_norm.shift", 1, "head_norm: result can reach"),
        ("logits_norm.shift", 1, "logits_norm: result can reach"),
    ],
)
def test_each_bound_can_fail(name: str, value: int, message: str, make_integer_model) -> None:
    model = make_integer_model("in_frame")
    arrays = dict(model.arrays)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] = value
    if name == "layers.outer.shift":  # only the greatest multiplier on a sum near 2^24 passes an int32
        arrays["layers.outer.multiplier"] = np.full_like(arrays["layers.outer.multiplier"], (1 << 20) - 1)
    with pytest.raises(UnsupportedInput, match=message):
        certificate(ExactLM(model.config, arrays))


def test_results_of_norms_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One element far above the others is 2^20 units, whatever epsilon is; its bound is met exactly."""
    config = ExactConfig((4,), dim=2, layers=1, heads=1, hidden=1, window_frames=4)
    arrays = {name: np.ones(shape, dtype=kind) for name, (kind, shape) in array_specs(config).items()}
    for name, array in arrays.items():
        if name.endswith(".shift"):
            array[:] = 20
    arrays["embedding.multiplier"][:] = (1 << 20) - 1
    arrays["embedding.weight"][:] = [127, 0]
    arrays["norm.gain"][:], arrays["norm.shift"][:] = 4095, 1
    model = ExactLM(config, arrays)
    bounds = {bound.name: bound for bound in certificate(model)}
    results = []

    def spied(values: np.ndarray, multiplier: np.ndarray, shift: int) -> np.ndarray:
        results.append(int(np.abs(values * multiplier.astype(np.int64) + (1 << shift - 1) >> shift).max()))
        return requantise(values, multiplier, shift)

    requantise = reference.requantise
    monkeypatch.setattr(reference, "requantise", spied)  # `reference.norm` calls it by this name
    reference_logits(model, np.zeros((3, 1), dtype=np.int64))
    assert bounds["norm: result"].limit == 1 << 31
    assert bounds["norm: result"].greatest - 1 == max(results) == 4095 << 19

    for gain in (4096, (1 << 20) - 1):  # the latter reaches 549,755,289,600
        arrays["norm.gain"][:] = gain
        with pytest.raises(UnsupportedInput, match=rf"norm: result can reach {(gain << 19) + 1},"):
            certificate(ExactLM(config, arrays))


def test_wide_rows_fail_where_float32_would_round() -> None:
    config = ExactConfig((2,), dim=2, layers=1, heads=1, hidden=1060, window_frames=2)
    arrays = {name: np.ones(shape, dtype=kind) for name, (kind, shape) in array_specs(config).items()}
    arrays["layers.outer.shift"][:] = 20
    certificate(ExactLM(config, arrays))
    arrays["layers.outer.weight"][0, 1] = 127  # 1060 * 127 * 127 = 17,096,740 > 2^24
    with pytest.raises(UnsupportedInput, match=r"layers\.outer: sum of products can reach 17096740"):
        certificate(ExactLM(config, arrays))


def test_wide_windows_fail() -> None:
    config = ExactConfig((2,), dim=2, layers=1, heads=1, hidden=2, window_frames=1 << 18)
    arrays = {name: np.ones(shape, dtype=kind) for name, (kind, shape) in array_specs(config).items()}
    with pytest.raises(UnsupportedInput, match="weighted values"):
        certificate(ExactLM(config, arrays))


def test_bounds_are_reached_but_not_passed(make_integer_model, draw_codes) -> None:
    """A bound that is far above what occurs would be no use, one below would be wrong."""
    model = make_integer_model("none", peaky=True)
    bounds = {bound.name: bound.greatest for bound in certificate(model)}
    greatest = np.abs(reference_logits(model, draw_codes(model, 30))).max()
    assert bounds["logits: result"] / 30 < greatest <= bounds["logits: result"]
