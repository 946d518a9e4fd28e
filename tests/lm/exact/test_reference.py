"""The specification: golden literals, so that two machines (and two versions) can be compared, and its laws."""

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.coding.exact.counts import cdf_exact
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact import reference
from codecbook.lm.exact.files import save_exact
from codecbook.lm.exact.reference import ReferenceEvaluator, reference_logits
from codecbook.lm.exact.spec import STREAM_MAX, ExactLM

GOLDEN = {
    ("in_frame", False): "100f30175c4d41fce15f68783a2fe339",
    ("in_frame", True): "bbcc4f72e2839a7c6681a670fcaab0dc",
    ("none", False): "00e1be2c3b5e08b275c8a4247123e334",
    ("single", True): "164210ee433af3b0ad9817548762eab8",
    ("rotary", False): "edc331ade6d16c34010df85bb48edfb9",
    ("rotary", True): "5b9b9484b2cf0c59b1e992bc34368505",
}
# of the counts that follow from the logits
GOLDEN_COUNTS = {
    "in_frame": "9e3ed0ae08ee2618bc0cac3a569905a6",
    "none": "9864abb4328e82b524ad43e42b513f3e",
    "rotary": "5709129cc98d8c0afada20344158c8b9",
}


@pytest.mark.parametrize(("kind", "peaky"), list(GOLDEN))
def test_logits_never_change(kind: str, peaky: bool, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=5, peaky=peaky)
    logits = reference_logits(model, draw_codes(model, 20))
    assert logits.dtype == np.int64
    assert hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest()[:32] == GOLDEN[kind, peaky]


@pytest.mark.parametrize("kind", list(GOLDEN_COUNTS))
def test_counts_never_change(kind: str, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=5)
    cdf = cdf_exact(reference_logits(model, draw_codes(model, 20)).transpose(0, 2, 1))
    assert hashlib.sha256(cdf.astype("<i4").tobytes()).hexdigest()[:32] == GOLDEN_COUNTS[kind]


@pytest.mark.parametrize("kind", ["in_frame", "none", "rotary"])
def test_logits_are_neither_flat_nor_saturated(kind: str, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=5)
    logits = reference_logits(model, draw_codes(model, 20))
    assert 100 < logits.std() < 20_000
    assert np.ptp(logits, axis=0).min() > 0, "logits depend on the frames before"


def test_logits_depend_on_the_past_and_on_lower_codebooks_alone(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame")
    codes = draw_codes(model, 12)
    changed = codes.copy()
    changed[7, 1] = (changed[7, 1] + 1) % 11
    before, after = reference_logits(model, codes), reference_logits(model, changed)
    np.testing.assert_array_equal(before[:7], after[:7])
    np.testing.assert_array_equal(before[7, :2], after[7, :2])
    assert (before[7, 2] != after[7, 2]).any()
    assert (before[8] != after[8]).any()


def test_frames_beyond_the_window_are_forgotten_layer_by_layer(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame")
    reach = model.config.layers * (model.config.window_frames - 1) + 1
    codes = draw_codes(model, reach + 4)
    changed = codes.copy()
    changed[0] = (changed[0] + 1) % 11
    before, after = reference_logits(model, codes), reference_logits(model, changed)
    assert (before[1] != after[1]).any()
    np.testing.assert_array_equal(before[1 + reach :], after[1 + reach :])


def test_refused_codes(make_integer_model) -> None:
    model = make_integer_model("rotary")
    with pytest.raises(CorruptInput, match="outside"):
        reference_logits(model, np.array([[11]]))
    with pytest.raises(UnsupportedInput, match="integers"):
        reference_logits(model, np.zeros((3, 2), dtype=np.int64))
    evaluator = ReferenceEvaluator(model)
    for _ in range(29):
        evaluator.push(np.array([[3]]))
    with pytest.raises(UnsupportedInput, match="30 tokens"):
        evaluator.push(np.array([[3]]))


@pytest.mark.parametrize("matmul", ["int64", "float32"])
@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", ["in_frame", "none", "single", "rotary"])
def test_clips_side_by_side_equal_each_alone(
    kind: str, peaky: bool, matmul: str, make_integer_model, draw_codes
) -> None:
    model = make_integer_model(kind, seed=3, peaky=peaky)
    clips = np.stack([draw_codes(model, 12, seed=seed) for seed in range(3)])
    expected = np.stack([reference_logits(model, clip) for clip in clips])
    evaluator = ReferenceEvaluator(model, 3, matmul)
    for _ in range(2):
        for t in range(clips.shape[1]):
            for k in range(model.num_codebooks):
                found = evaluator.logits(clips[:, t, :k])
                assert found.dtype == np.int64
                np.testing.assert_array_equal(found, expected[:, t, k])
            evaluator.push(clips[:, t])
        evaluator.start(3)
    evaluator.start()
    np.testing.assert_array_equal(evaluator.logits(clips[:1, 0, :0]), expected[:1, 0, 0])


def test_arrays_of_another_byte_order_give_the_same(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame", seed=5)
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in model.arrays.items()}
    other = ExactLM(model.config, swapped)
    assert other.sha256 == model.sha256
    codes = draw_codes(model, 6)
    np.testing.assert_array_equal(reference_logits(other, codes.astype(">i8")), reference_logits(model, codes))


def test_what_cannot_be_read_side_by_side_is_refused(make_integer_model) -> None:
    model = make_integer_model("none")
    with pytest.raises(UnsupportedInput, match="batch=0"):
        ReferenceEvaluator(model, 0)
    with pytest.raises(UnsupportedInput, match="matmul='float16'"):
        ReferenceEvaluator(model, matmul="float16")
    evaluator = ReferenceEvaluator(model, 2)
    with pytest.raises(UnsupportedInput, match="2 clips"):
        evaluator.push(np.zeros((3, 3), dtype=np.int64))
    without = ExactLM(model.config, {**model.arrays, "epsilon": np.zeros(1, dtype=np.int64)})
    with pytest.raises(UnsupportedInput, match="epsilon below 1"):
        ReferenceEvaluator(without, matmul="float32")


def test_nothing_but_numpy_is_needed(numpy_alone: Callable[..., str], tmp_path, make_integer_model) -> None:
    model = make_integer_model("in_frame", seed=5)
    save_exact(tmp_path, model)
    code = """
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.reference import reference_logits
import hashlib
import numpy as np

model = load_exact(sys.argv[1])
codes = np.random.Generator(np.random.PCG64(0)).integers(0, 11, (20, 3))
print(model.sha256, hashlib.sha256(reference_logits(model, codes).astype("<i4").tobytes()).hexdigest()[:32])
"""
    assert numpy_alone(code, str(tmp_path)).split() == [model.sha256, GOLDEN["in_frame", False]]


def test_who_imports_the_specification_waits_for_no_other_library() -> None:
    code = "import codecbook.lm.exact.reference, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numba", "pandas", "safetensors"} & set(done.stdout.split())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, (1 << 53) - 1) | st.integers(0, 94_906_265).map(lambda root: root * root))
def test_integer_square_root(value: int) -> None:
    near = [max(0, value - 1), value, min(value + 1, (1 << 53) - 1)]
    assert reference.integer_sqrt(np.array(near)).tolist() == [math.isqrt(v) for v in near]


@settings(max_examples=100, deadline=None)
@given(st.integers(-(1 << 24) + 1, (1 << 24) - 1), st.integers(-(1 << 20) + 1, (1 << 20) - 1), st.integers(1, 44))
def test_requantisation_rounds_halves_up(value: int, multiplier: int, shift: int) -> None:
    result = reference.requantise(np.array([value]), np.array([multiplier]), shift)
    assert result.tolist() == [(2 * value * multiplier + 2**shift) // 2 ** (shift + 1)]


def test_norm_follows_the_text() -> None:
    rng = np.random.default_rng(0)
    for scale in (1, 1000, STREAM_MAX):
        stream = rng.integers(-scale, scale + 1, 24)
        gain = rng.integers(-(1 << 19), 1 << 19, 24)
        root = math.isqrt(4096 + sum(x * x for x in stream.tolist()))
        expected = []
        for x, g in zip(stream.tolist(), gain.tolist(), strict=True):
            unit = (x * (2**40 // root) + 2**19) >> 20
            expected.append(min(max((unit * g + 2**27) >> 28, -127), 127))
        assert reference.norm(stream, gain, 28, 4096).tolist() == expected


def test_norm_of_nothing_is_nothing() -> None:
    zeros = np.zeros(8, dtype=np.int64)
    assert not reference.norm(zeros, np.full(8, 1 << 19), 30, 1).any()


def test_attention_shares_sum_to_nearly_one() -> None:
    rng = np.random.default_rng(1)
    for spread in (1, 500, 100_000):
        scores = rng.integers(-spread, spread, (20, 64))
        shares = reference.attention_shares(scores)
        assert shares.min() >= 0
        assert np.abs(shares.sum(axis=-1) - (1 << 16)).max() <= 32 + 2
        even = 2.0 ** (scores / 256 - scores.max(axis=-1, keepdims=True) / 256)
        # powers have 16 bits and shares too: half a unit each, of the greatest
        assert np.abs(shares / 65536 - even / even.sum(axis=-1, keepdims=True)).max() < 2e-5


def test_rotation_keeps_lengths() -> None:
    angle = np.arange(6) * 0.7
    cosine, sine = (np.rint(f(angle) * (1 << 14)).astype(np.int64) for f in (np.cos, np.sin))
    values = np.random.default_rng(2).integers(-1000, 1000, 12)
    turned = reference.rotate(values, cosine, sine)
    expected = np.hypot(values[:6], values[6:]) / 16
    assert np.abs(np.hypot(turned[:6], turned[6:]) - expected).max() < 1.0  # two roundings to whole numbers
