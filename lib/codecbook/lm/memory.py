"""What a training step keeps in memory, and what to lower when there is not enough."""

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from codecbook.errors import CodecbookError
from codecbook.lm.objective import cross_entropy_nats
from codecbook.lm.token_lm import TokenLM

_BYTES_PER_PARAMETER = 20  # float32 parameter, gradient, two moments, average


def activation_bytes(
    model: TokenLM,
    batch_size: int,
    num_frames: int,
    bfloat16: bool = False,
    gradient_checkpointing: bool = False,
) -> int:
    """Return the bytes that one training pass keeps for its backward pass.

    The pass is run on torch's ``meta`` device, which has shapes and no contents, and what autograd saves is added
    up: exact but for what kernels use inside, and free.

    Args:
        model: The model.
        batch_size: Windows per pass.
        num_frames: Frames per window.
        bfloat16: With activations in bfloat16.
        gradient_checkpointing: With layers recomputed; their largest is counted once.
    """
    # the meta device knows no autocast: the whole model in bfloat16 keeps very nearly the same
    shadow = copy.deepcopy(model).to("meta", torch.bfloat16 if bfloat16 else None).train()
    codes = torch.zeros(batch_size, num_frames, model.num_codebooks, dtype=torch.int64, device="meta")
    shadow.gradient_checkpointing = gradient_checkpointing
    sizes: dict[int, Tensor] = {}
    parameters = {id(parameter) for parameter in shadow.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in parameters and not (tensor._base is not None and id(tensor._base) in parameters):
            sizes[id(tensor)] = tensor  # kept alive, so that no id is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = shadow(codes)
        _ = cross_entropy_nats(logits, codes)[0].mean()
    saved = sum(tensor.numel() * tensor.element_size() for tensor in sizes.values())
    if not gradient_checkpointing:
        return saved
    whole = activation_bytes(model, batch_size, num_frames, bfloat16)
    return saved + (whole - saved) // model.config.layers


@contextlib.contextmanager
def explained_out_of_memory(
    model: TokenLM, micro_batch_size: int, context_frames: int, bfloat16: bool, gradient_checkpointing: bool
) -> Iterator[None]:
    """Turn an out-of-memory error inside the block into one that names settings and what each would save.

    Raises:
        CodecbookError: Memory ran out.
    """
    try:
        yield
        return
    except (torch.OutOfMemoryError, MemoryError) as error:
        cause: Exception = error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # the CPU allocator has no class of its own
            raise
        cause = error
    raise CodecbookError(
        _advice(model, micro_batch_size, context_frames, bfloat16, gradient_checkpointing)
    ) from cause


def _advice(
    model: TokenLM, micro_batch_size: int, context_frames: int, bfloat16: bool, gradient_checkpointing: bool
) -> str:
    def needed(batch_size: int, num_frames: int, low: bool, recomputed: bool) -> int:
        return activation_bytes(model, batch_size, num_frames, low, recomputed)

    now = needed(micro_batch_size, context_frames, bfloat16, gradient_checkpointing)
    choices = []
    if micro_batch_size > 1:
        half = needed(micro_batch_size // 2, context_frames, bfloat16, gradient_checkpointing)
        choices.append((f"micro_batch_size={micro_batch_size // 2}", now - half))
    if not gradient_checkpointing:
        choices.append(
            ("gradient_checkpointing=True", now - needed(micro_batch_size, context_frames, bfloat16, True))
        )
    if not bfloat16:
        choices.append(
            (
                "precision='bfloat16'",
                now - needed(micro_batch_size, context_frames, True, gradient_checkpointing),
            )
        )
    if context_frames > 1:
        half = needed(micro_batch_size, context_frames // 2, bfloat16, gradient_checkpointing)
        choices.append((f"context_frames={context_frames // 2} (another result)", now - half))
    parameters = sum(p.numel() for p in model.parameters()) * _BYTES_PER_PARAMETER
    options = ", ".join(f"{name} saves about {_size(saved)}" for name, saved in choices if saved > 0)
    return (
        f"Memory ran out: activations of {micro_batch_size} x {context_frames} frames take about {_size(now)}, weights "
        f"and optimizer {_size(parameters)}. Lower one of: {options}."
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
