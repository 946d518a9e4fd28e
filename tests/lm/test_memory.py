import pytest
import torch

from codecbook.errors import CodecbookError
from codecbook.lm.memory import activation_bytes, explained_out_of_memory
from codecbook.lm.models import TokenLM, build_lm


def small() -> TokenLM:
    return build_lm("rvq_transformer", {"codebook_sizes": [64] * 4, "dim": 32, "heads": 2, "hidden": 64})


def test_activations_are_counted_without_memory() -> None:
    model = small()
    whole = activation_bytes(model, 8, 32)
    logits = 8 * 32 * 4 * 64 * 4
    assert whole > logits, "the logits alone are kept"
    # the position bias and other things of one window do not grow with the batch
    assert whole / 2 == pytest.approx(activation_bytes(model, 4, 32), rel=0.05)
    assert activation_bytes(model, 8, 32, gradient_checkpointing=True) < whole
    assert activation_bytes(model, 8, 32, bfloat16=True) < whole
    assert activation_bytes(model, 10**6, 32) > 10**5 * logits / 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_running_out_of_memory_names_settings_and_savings(error: Exception) -> None:
    with (
        pytest.raises(CodecbookError, match=r"micro_batch_size=4 saves about \d") as raised,
        explained_out_of_memory(small(), 8, 32, bfloat16=False, gradient_checkpointing=False),
    ):
        raise error
    for setting in ("gradient_checkpointing=True", "precision='bfloat16'", "context_frames=16"):
        assert f"{setting}" in str(raised.value)
    assert raised.value.__cause__ is error


def test_settings_in_use_are_not_advised() -> None:
    with (
        pytest.raises(CodecbookError) as raised,
        explained_out_of_memory(small(), 1, 32, bfloat16=True, gradient_checkpointing=True),
    ):
        raise MemoryError
    assert "micro_batch_size=" not in str(raised.value)
    assert "gradient_checkpointing" not in str(raised.value)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained_out_of_memory(small(), 1, 4, False, False):
        raise RuntimeError("shapes cannot be multiplied")
