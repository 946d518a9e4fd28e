"""Counts against the package encodec, the golden files, and the rules spelt out in plain Python."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.coding.arithmetic import GridDecoder, GridEncoder
from codecbook.coding.counts import (
    GRID_DIALECTS,
    TOTAL,
    cdf_grid,
    cdf_grid_unclamped,
    cdf_upstream,
    cdf_upstream_from_pdf,
)
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.paths import extra_dir

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coding" / "coding.npz"
DIALECTS = pytest.mark.parametrize("name", list(GRID_DIALECTS))


def given_golden(name: str) -> Path:
    extra = extra_dir()
    if extra is None:
        pytest.skip("CODECBOOK_EXTRA is not set, so its golden files are not compared")
    return extra / "golden" / name


def package_cdf(pdf: torch.Tensor) -> np.ndarray:
    from encodec.quantization.ac import build_stable_quantized_cdf

    return build_stable_quantized_cdf(pdf, 24, check=False).cpu().numpy()


def grid_row_in_plain_python(logits: np.ndarray, place: range, dialect: str, with_clamp: bool = True) -> list[int]:
    """Return one CDF row by the rule's text, number by number, the nudge included."""
    d = GRID_DIALECTS[dialect]
    as_dtype = np.dtype(d.lm_dtype).type
    y = [float(as_dtype(as_dtype(as_dtype(z) / as_dtype(d.tau)) / as_dtype(d.qstep))) for z in logits]
    value = [math.floor(step + 0.5 - 2**-40) * d.qstep for step in y]
    weight = [float(np.exp(np.float64(v - max(value)))) for v in value]
    total = 0.0
    for w in weight:
        total += w
    counts = []
    for index, w in zip(place, weight, strict=True):
        x = w / total * d.fp_scale
        fraction = x - math.floor(x)
        if fraction <= 2**-40 or fraction >= 1 - 2**-40:
            x += 2**-60 if index % 2 else -(2**-60)
        counts.append(math.floor(max(x, 0.0) if with_clamp else x))
    if sum(counts) <= 0:
        counts = [1] * len(counts)
    V, alloc = len(counts), TOTAL - d.min_range * len(counts)
    widths = [alloc * c // sum(counts) for c in counts]

    def key(v: int) -> int:
        return (alloc * counts[v] - sum(counts) * widths[v]) * (V + 1) - v

    for v in sorted(range(V), key=key, reverse=True)[: alloc - sum(widths)]:
        widths[v] += 1
    return np.cumsum(np.array(widths) + d.min_range).tolist()


def test_given_golden_upstream() -> None:
    with np.load(given_golden("upstream") / "cdf.npz") as golden:
        np.testing.assert_array_equal(cdf_upstream(golden["logits"]), golden["cdf"])


@DIALECTS
def test_given_golden_grid(name: str) -> None:
    folder = given_golden(f"pr95_{name}")
    with np.load(folder / "cdf.npz") as golden:
        cdf = GRID_DIALECTS[name].cdf(golden["logits"])
        np.testing.assert_array_equal(cdf, golden["cdf"])
    assert cdf.dtype == np.int64
    written = json.loads((folder / "info.json").read_text())["dialect"]
    assert (written["qstep"], written["fp_scale"], written["min_range"], written["lm_dtype"]) == (
        GRID_DIALECTS[name].qstep,
        GRID_DIALECTS[name].fp_scale,
        GRID_DIALECTS[name].min_range,
        f"torch.{GRID_DIALECTS[name].lm_dtype}",
    )


def test_own_golden_upstream() -> None:
    # from probabilities: the softmax before them rounds as the machine does
    with np.load(GOLDEN) as golden:
        np.testing.assert_array_equal(cdf_upstream_from_pdf(golden["pdf"]), golden["upstream_cdf"])


@DIALECTS
def test_own_golden_grid(name: str) -> None:
    with np.load(GOLDEN) as golden:
        np.testing.assert_array_equal(GRID_DIALECTS[name].cdf(golden["logits"]), golden[f"{name}_cdf"])


@pytest.mark.parametrize(("V", "K"), [(1, 1), (2, 8), (3, 1), (256, 4), (1024, 8), (1024, 32), (65536, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_upstream_equals_the_package(V: int, K: int, dtype: type) -> None:
    rng = np.random.default_rng(V + K)
    logits = (rng.normal(size=(3, V, K)) * [[[0.1]], [[4]], [[40]]]).astype(dtype)
    expected = np.empty((3, K, V), dtype=np.int64)
    for t in range(3):
        # as LMModel.forward lays its logits out: codes last in memory, codebooks last but one in the axes
        heads = torch.stack([torch.from_numpy(logits[t, :, k])[None, None] for k in range(K)], dim=1)
        pdf = torch.softmax(heads.permute(0, 3, 1, 2), dim=1)
        for k in range(K):
            expected[t, k] = package_cdf(pdf[0, :, k, 0])
    cdf = cdf_upstream(torch.from_numpy(logits))
    np.testing.assert_array_equal(cdf, expected)
    pdf = np.concatenate([torch.softmax(frame[None], dim=1).numpy() for frame in torch.from_numpy(logits)])
    np.testing.assert_array_equal(cdf_upstream_from_pdf(pdf), expected)
    assert np.diff(cdf, axis=2, prepend=0).min() >= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("K", [1, 8])
def test_a_tensor_on_a_gpu_is_computed_there(K: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(K).normal(0, 4, size=(5, 1024, K)).astype(np.float32)).cuda()
    pdf = torch.cat([torch.softmax(frame[None], dim=1) for frame in logits])
    expected = np.stack([[package_cdf(frame[:, k]) for k in range(K)] for frame in pdf])
    np.testing.assert_array_equal(cdf_upstream(logits), expected)
    np.testing.assert_array_equal(cdf_upstream_from_pdf(pdf), expected)


def test_a_product_with_the_reciprocal_is_no_division() -> None:
    # why equal probabilities are coded otherwise by CUDA, whose kernel divides by a number in this way
    pdf = np.random.default_rng(0).dirichlet(np.full(1024, 0.1), size=200).astype(np.float32)
    assert (np.floor(pdf / np.float32(1e-8)) != np.floor(pdf * np.float32(1e8))).any()


def test_upstream_may_end_above_its_total() -> None:
    rng = np.random.default_rng(5)
    last = cdf_upstream(rng.normal(0, 3, size=(2000, 3, 1)).astype(np.float32))[..., -1]
    assert last.min() < TOTAL < last.max() <= TOTAL + 16


def test_upstream_ignores_impossible_codes_and_refuses_columns_without_a_distribution() -> None:
    logits = np.zeros((70, 5, 2), dtype=np.float32)
    logits[66, 3, 1] = -np.inf
    assert np.diff(cdf_upstream(logits)[66, 1], prepend=0)[3] == 2
    for bad in (np.nan, np.inf):
        logits[66, 3, 1] = bad
        with pytest.raises(CorruptInput, match="Frame 66, codebook 1"):
            cdf_upstream(logits)
    logits[66, :, 1] = -np.inf
    with pytest.raises(CorruptInput, match="nan"):
        cdf_upstream(logits)
    with pytest.raises(CorruptInput, match=r"probability -0\.5"):
        cdf_upstream_from_pdf(np.array([0.5, -0.5, 1.0]))


@DIALECTS
@pytest.mark.parametrize(("V", "scale"), [(1, 1.0), (2, 0.3), (2, 30.0), (7, 3.0), (64, 10.0), (300, 1.0)])
def test_grid_equals_plain_python(name: str, V: int, scale: float) -> None:
    K = 3
    logits = (np.random.default_rng(V).normal(0, scale, size=(2, V, K))).astype(np.float32)
    logits[1] = np.round(logits[1] * 256) / 256  # exact halves of the grid
    cdf = GRID_DIALECTS[name].cdf(logits)
    for t in range(2):
        for k in range(K):
            place = range(k, V * K, K)
            assert cdf[t, k].tolist() == grid_row_in_plain_python(logits[t, :, k], place, name)


@DIALECTS
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_grid_rows_are_complete_and_leave_no_code_out(name: str, data: st.DataObject) -> None:
    V = data.draw(st.sampled_from([1, 2, 5, 64]))
    column = data.draw(st.lists(st.floats(width=32), min_size=V, max_size=V))
    dialect = GRID_DIALECTS[name]
    cdf = dialect.cdf(np.array(column, dtype=np.float32))
    assert cdf[-1] == TOTAL
    assert np.diff(cdf, prepend=0).min() >= dialect.min_range


@DIALECTS
def test_grid_with_65536_codes(name: str) -> None:
    dialect = GRID_DIALECTS[name]
    logits = np.random.default_rng(0).normal(0, 0.01, size=65536).astype(np.float32)
    uniform = np.arange(1, 65537) * 256
    # no code reaches a count of 1 with fp 8192, so that all become equal
    assert np.array_equal(dialect.cdf(logits), uniform) == (name == "qstep64")
    assert np.diff(dialect.cdf(logits), prepend=0).min() >= dialect.min_range


@DIALECTS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_grid_makes_a_column_without_a_distribution_uniform(name: str, bad: float) -> None:
    logits = np.random.default_rng(1).normal(size=(2, 8, 3)).astype(np.float32)
    expected = GRID_DIALECTS[name].cdf(logits)
    logits[1, 4, 2] = bad
    cdf = GRID_DIALECTS[name].cdf(logits)
    expected[1, 2] = np.arange(1, 9) * (TOTAL // 8)
    np.testing.assert_array_equal(cdf, expected)


@DIALECTS
def test_grid_column_alone_equals_column_in_matrix(name: str) -> None:
    logits = np.random.default_rng(2).normal(0, 20, size=(3, 48, 4)).astype(np.float32)
    logits[0, :, 1] = 0.3
    logits[1, :, 2], logits[1, 7, 2] = -np.inf, 1.0
    dialect = GRID_DIALECTS[name]
    cdf = dialect.cdf(logits)
    for t in range(3):
        for k in range(4):
            np.testing.assert_array_equal(dialect.cdf(logits[t, :, k]), cdf[t, k])


def test_grid_rounds_halves_down_and_divides_by_tau() -> None:
    halves = np.array([1 / 256, 0.0, 3 / 256, 1 / 128], dtype=np.float32)
    on_grid = np.array([0.0, 0.0, 1 / 128, 1 / 128], dtype=np.float32)
    np.testing.assert_array_equal(cdf_grid(halves), cdf_grid(on_grid))
    np.testing.assert_array_equal(cdf_grid(4 * on_grid, tau=4.0), cdf_grid(on_grid))


def test_grid_dtype_decides_what_lies_on_a_half() -> None:
    logits = np.array([1 / 256 + 1e-12, 0.0])
    narrow, wide = (cdf_grid(logits, lm_dtype=dtype) for dtype in ("float32", "float64"))
    assert narrow.tolist() == [TOTAL // 2, TOTAL]
    assert wide[0] > narrow[0]


def test_blocks_of_frames_do_not_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(3).normal(0, 4, size=(9, 16, 8)).astype(np.float32)
    rules = [cdf_upstream, cdf_grid, cdf_grid_unclamped]
    whole = [rule(logits) for rule in rules]
    monkeypatch.setattr("codecbook.coding.counts._LOGITS_AT_ONCE", 300)
    for rule, expected in zip(rules, whole, strict=True):
        np.testing.assert_array_equal(rule(logits), expected)


@pytest.mark.parametrize("K", [1, 2, 3])
def test_unclamped_follows_the_old_text(K: int) -> None:
    logits = np.random.default_rng(K).normal(0, 40, size=(1, 24, K)).astype(np.float32)
    cdf = cdf_grid_unclamped(logits)
    for k in range(K):
        place = range(k, 24 * K, K)
        row = grid_row_in_plain_python(logits[0, :, k], place, "qstep128", with_clamp=False)
        assert cdf[0, k].tolist() == row


def test_unclamped_cdf_falls_and_decodes_wrongly_without_an_error() -> None:
    logits = np.random.default_rng(4).normal(size=64).astype(np.float32)
    logits[20:26] = -200
    faulty = cdf_grid_unclamped(logits)
    assert (np.diff(faulty) < 0).any()
    assert (np.diff(cdf_grid(logits)) > 0).all()
    decoded = {}
    for symbol in np.flatnonzero(np.diff(faulty, prepend=0) > 0).tolist():
        encoder = GridEncoder(check=False)
        encoder.push(symbol, faulty)
        decoded[symbol] = GridDecoder(encoder.finish(), check=False).pull(faulty)
    wrong = {symbol for symbol in decoded if decoded[symbol] != symbol}
    assert wrong
    assert wrong < set(range(19, 27))
    with pytest.raises(UnsupportedInput, match="width below 1"):
        GridEncoder().push(9, faulty)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qstep": 0.0}, "qstep=0.0"),
        ({"tau": math.inf}, "tau=inf"),
        ({"fp_scale": 0}, "fp_scale=0"),
        ({"min_range": 0}, "min_range=0"),
        ({"min_range": TOTAL}, "does not fit"),
        ({"lm_dtype": "float16"}, "float16"),
    ],
)
def test_grid_refuses_parameters(arguments: dict, message: str) -> None:
    with pytest.raises(UnsupportedInput, match=message):
        cdf_grid(np.zeros(4, dtype=np.float32), **arguments)


@pytest.mark.parametrize("rule", [cdf_upstream, cdf_upstream_from_pdf, cdf_grid, cdf_grid_unclamped])
@pytest.mark.parametrize(
    "logits",
    [
        np.zeros((2, 3)),
        np.zeros((2, 0, 3)),
        np.zeros(0),
        np.zeros(4, dtype=np.int32),
        torch.zeros(4, dtype=torch.bfloat16),
        torch.zeros(4, dtype=torch.float16),
    ],
    ids=["two axes", "no codes", "empty", "int32", "bfloat16", "float16"],
)
def test_float_rules_refuse_other_arrays(rule, logits) -> None:
    with pytest.raises(UnsupportedInput):
        rule(logits)


def test_no_frames_give_no_rows() -> None:
    for rule in (cdf_upstream, cdf_grid, cdf_grid_unclamped):
        assert rule(np.zeros((0, 5, 2), dtype=np.float32)).shape == (0, 2, 5)
