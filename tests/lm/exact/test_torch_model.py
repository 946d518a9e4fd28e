"""The torch evaluator against the specification: batches, chunks, stepping, threads, settings of precision."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.torch_model import NATIVE, PORTABLE, ExactTorch, integers_of

KINDS = ("in_frame", "none", "single", "rotary")


@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_equal_the_specification(kind: str, peaky: bool, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=2, peaky=peaky)
    clips = [draw_codes(model, 30, seed=s) for s in range(8)]
    expected = np.stack([reference_logits(model, clip) for clip in clips])
    evaluator = ExactTorch(model)
    batch = torch.from_numpy(np.stack(clips))
    for chunk_frames in (256, 4):
        np.testing.assert_array_equal(evaluator.logits(batch, chunk_frames).numpy(), expected)
    np.testing.assert_array_equal(evaluator.logits(batch[:1]).numpy(), expected[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_stepping_equals_whole_clips(kind: str, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=3)
    codes = torch.from_numpy(draw_codes(model, 15))[None]
    evaluator = ExactTorch(model)
    full = evaluator.logits(codes)
    hidden, state = evaluator.begin()
    for t in range(15):
        for k in range(model.num_codebooks):
            torch.testing.assert_close(
                evaluator.head(hidden, codes[:, t : t + 1, :k]), full[:, t : t + 1, k], rtol=0, atol=0
            )
        hidden, state = evaluator.read(codes[:, t : t + 1], state)


def test_threads_and_precision_settings_change_nothing(make_float_model, draw_codes) -> None:
    source = make_float_model("in_frame")
    codes = draw_codes(source, 60)
    model = export_exact(source, [codes])
    expected = reference_logits(model, codes)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            for setting in ("highest", "high", "medium"):
                torch.set_float32_matmul_precision(setting)
                with torch.autocast("cpu", torch.bfloat16):
                    found = ExactTorch(model).logits(torch.from_numpy(codes)[None])[0]
                np.testing.assert_array_equal(found.numpy(), expected)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_specification(make_integer_model, draw_codes) -> None:
    model = make_integer_model("in_frame", seed=2)
    codes = draw_codes(model, 30)
    for setting in ("highest", "medium"):
        torch.set_float32_matmul_precision(setting)
        found = ExactTorch(model, "cuda").logits(torch.from_numpy(codes)[None])[0].cpu()
        np.testing.assert_array_equal(found.numpy(), reference_logits(model, codes))
    torch.set_float32_matmul_precision("highest")


# what moves numbers without computing
MOVES = (
    "_to_copy", "_unsafe_view", "alias", "arange", "cat", "chunk", "clone", "expand", "full", "full_like", "index",
    "permute", "reshape", "scalar_tensor", "select", "slice", "split", "split_with_sizes", "squeeze", "stack", "to",
    "transpose", "unbind", "unsqueeze", "view", "zeros_like",
)  # fmt: skip
# what computes integers, on every device that has int64
INTEGERS = ["add", "sub", "mul", "__lshift__", "__rshift__", "lt", "le", "gt", "ge", "eq", "where"]
LOGIC = ["bitwise_and", "bitwise_or", "__and__", "__or__", "any", "_local_scalar_dense"]
PRODUCTS = ["mm", "bmm", "matmul"]


class OnlyPortable(TorchDispatchMode):
    """Refuses float64 and all that is not exact on every device; counts what ran."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        dtypes = {tensor.dtype for tensor in tensors}
        assert dtypes <= {torch.int64, torch.float32, torch.bool}, f"{name} of {dtypes}"
        self.seen[name] += 1
        if name in PRODUCTS:
            assert dtypes == {torch.float32}, f"{name} of {dtypes}"
            bound = func(*(tensor.abs() for tensor in args[:2]))
            assert float(bound.max()) < 1 << 24, "a partial sum may be rounded"
        elif name in INTEGERS or name in LOGIC:
            assert torch.float32 not in dtypes, f"{name} of {dtypes}"
        else:
            assert name in MOVES, f"{name} is not known to be exact everywhere"
        for tensor in tensors:
            if tensor.dtype == torch.float32:
                assert torch.equal(tensor, tensor.round()), "a number that is no integer"
                assert not tensor.numel() or float(tensor.abs().max()) < 1 << 24
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_without_float64_and_integer_division(kind: str, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=4, peaky=True)
    codes = draw_codes(model, 12)
    batch = torch.from_numpy(codes)[None]
    evaluator = ExactTorch(model, integers=PORTABLE)
    with OnlyPortable() as mode:
        found = evaluator.logits(batch, chunk_frames=5)
        hidden, state = evaluator.begin()
        first = evaluator.head(hidden, batch[:, :1, :0])
        hidden, _ = evaluator.read(batch[:, :1], state)
        second = evaluator.head(hidden, batch[:, 1:2, :0])
    assert sum(mode.seen[name] for name in PRODUCTS) > 0
    expected = reference_logits(model, codes)
    np.testing.assert_array_equal(found[0].numpy(), expected)
    np.testing.assert_array_equal(first[0, 0].numpy(), expected[0, 0])
    np.testing.assert_array_equal(second[0, 0].numpy(), expected[1, 0])


def test_the_native_path_would_be_refused(make_integer_model, draw_codes) -> None:
    model = make_integer_model("none", seed=4)
    batch = torch.from_numpy(draw_codes(model, 3))[None]
    evaluator = ExactTorch(model, integers=NATIVE)
    with pytest.raises(AssertionError, match=r"float64|is not known"), OnlyPortable():
        evaluator.logits(batch)


def test_devices_without_float64_get_the_portable_path() -> None:
    assert integers_of(torch.device("cpu")) is integers_of(torch.device("cuda")) is NATIVE
    assert integers_of(torch.device("mps")) is integers_of(torch.device("xpu")) is PORTABLE


def test_integer_operations_agree() -> None:
    rng = np.random.default_rng(5)
    edges = [n * n + d for n in (1, 2, 3, 1 << 13, (1 << 26) - 1, 94_906_265) for d in (-1, 0, 1)]
    drawn = (2 ** rng.uniform(0, 53, 5000)).astype(np.int64)
    values = torch.from_numpy(np.concatenate([np.array([0, 1, 2, (1 << 53) - 1]), edges, drawn]))
    roots = torch.tensor([math.isqrt(value) for value in values.tolist()])
    divisors = torch.cat([torch.arange(1, 300), roots[roots > 0], (values[values > 0] >> 13) | 1])
    quotients = torch.tensor([(1 << 40) // divisor for divisor in divisors.tolist()])
    table = torch.from_numpy(rng.integers(-(1 << 52), 1 << 52, (3, 7, 5)))
    for integers in (NATIVE, PORTABLE):
        assert torch.equal(integers.root(values), roots)
        assert torch.equal(integers.reciprocal(divisors), quotients)
        for dim in (-1, -2, -3):
            assert torch.equal(integers.total(table, dim), table.sum(dim))
        assert torch.equal(integers.largest(table), table.amax(dim=-1, keepdim=True))
        assert torch.equal(integers.clamp(table, -9, 10), table.clamp(-9, 10))


def test_refused_codes(make_integer_model) -> None:
    evaluator = ExactTorch(make_integer_model("rotary"))
    with pytest.raises(UnsupportedInput, match="longer"):
        evaluator.logits(torch.zeros(1, 31, 1, dtype=torch.int64))
    with pytest.raises(UnsupportedInput, match="int64"):
        evaluator.logits(torch.zeros(1, 3, 2, dtype=torch.int64))
    with pytest.raises(CorruptInput, match="-1 to -1"):
        evaluator.logits(torch.full((1, 3, 1), -1))
    hidden, _ = evaluator.begin()
    with pytest.raises(UnsupportedInput, match="none is left"):
        evaluator.head(hidden, torch.zeros(1, 1, 1, dtype=torch.int64))
