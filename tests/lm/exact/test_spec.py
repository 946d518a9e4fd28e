"""`ExactLM`: what it refuses, and its identity; the table of powers."""

import hashlib
from decimal import ROUND_FLOOR, Decimal, localcontext

import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.spec import ExactConfig, ExactLM, exp2_table

KINDS = ("in_frame", "none", "single", "rotary")
GOLDEN_SHA256 = "a993809d40fa7c913d7858116d343f345157668d4c5a56959d8a94aacdecb66a"


def test_identity_never_changes(make_integer_model) -> None:
    assert make_integer_model("in_frame", seed=5).sha256 == GOLDEN_SHA256


@pytest.mark.parametrize("kind", KINDS)
def test_identity_changes_with_any_array(kind: str, make_integer_model) -> None:
    model = make_integer_model(kind)
    seen = {model.sha256}
    for name, array in model.arrays.items():
        for place in (0, array.size - 1):
            changed = array.copy()
            changed.flat[place] ^= 1
            seen.add(ExactLM(model.config, {**model.arrays, name: changed}).sha256)
    distinct = sum(1 if array.size == 1 else 2 for array in model.arrays.values())
    assert len(seen) == 1 + distinct


def test_identity_changes_with_the_configuration() -> None:
    # nothing but the rule of positions differs: one of them has no bias, the other no tables
    sizes = (3,)
    shapes = [ExactConfig(sizes, 8, 1, heads, 8, 4) for heads in (1, 2)]
    assert len({str(shape) for shape in shapes}) == 2


def test_equal_models_have_equal_identities(make_integer_model) -> None:
    model = make_integer_model("in_frame")
    again = ExactLM(model.config, {name: np.asfortranarray(model.arrays[name]) for name in reversed(model.arrays)})
    assert again.sha256 == model.sha256
    assert all(array.flags.c_contiguous and not array.flags.writeable for array in again.arrays.values())
    assert again.codebook_sizes == (11, 11, 11)


def test_arrays_that_do_not_fit_are_refused(make_integer_model) -> None:
    model = make_integer_model("in_frame")
    arrays = dict(model.arrays)
    with pytest.raises(CorruptInput, match=r"'epsilon' of the model is none"):
        ExactLM(model.config, {name: array for name, array in arrays.items() if name != "epsilon"})
    with pytest.raises(CorruptInput, match="not none as configured"):
        ExactLM(model.config, arrays | {"more": np.zeros(1)})
    with pytest.raises(CorruptInput, match=r"int64 .* not int8"):
        ExactLM(model.config, arrays | {"embedding.weight": arrays["embedding.weight"].astype(np.int64)})
    with pytest.raises(CorruptInput, match=r"norm\.gain"):
        ExactLM(model.config, arrays | {"norm.gain": arrays["norm.gain"][:-1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook_sizes": (3, 4)}, "not equal"),
        ({"codebook_sizes": ()}, "not equal"),
        ({"heads": 3}, "even width"),
        ({"layers": 0}, "layers=0"),
        ({"conditioned": True}, "head_dim=0"),
    ],
)
def test_shapes_that_cannot_be_are_refused(change: dict, message: str) -> None:
    shape = {"codebook_sizes": (3,), "dim": 8, "layers": 1, "heads": 2, "hidden": 8, "window_frames": 4}
    with pytest.raises(UnsupportedInput, match=message):
        ExactConfig(**(shape | change))


def test_exp2_table_is_the_rounded_power_of_two() -> None:
    table = exp2_table().tolist()
    assert (len(table), table[0], table[256], table[-1]) == (4096, 1 << 16, 1 << 15, 0)
    with localcontext() as context:
        context.prec = 40
        for d, entry in enumerate(table[:-1]):
            power = Decimal(2) ** (Decimal(4096 - d) / 256)
            assert entry == int((power + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def test_exp2_table_never_changes() -> None:
    digest = hashlib.sha256(exp2_table().astype("<u4").tobytes()).hexdigest()
    assert digest == "8fc0f2b0e33313540646cbc9b94b37edfccb5ffb59cc0f69ee2808d6ac00b4d2"
