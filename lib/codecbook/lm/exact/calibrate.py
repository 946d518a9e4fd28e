"""How large a float model's activations get on calibration clips: what the scales of an exact model are made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.lm.data.corpus import Corpus
from codecbook.lm.layers import Attention, FeedForward
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM

_SHARE_ABOVE = 1e-4
"""Share of the values that a scale cuts off: the 99.99th percentile."""


@dataclass
class Peaks:
    """Percentiles of absolute values, exact, from the greatest few of them alone."""

    kept: Tensor | None = None  # the greatest values so far, float32 [M, G], descending
    count: int = 0  # values seen per group
    greatest: float = 0.0  # of all

    def add(self, values: Tensor, expected: int) -> None:
        """Take absolute values ``[N, G]``, of `expected` in all."""
        self.count += len(values)
        self.greatest = max(self.greatest, float(values.max()))
        keep = int(expected * _SHARE_ABOVE) + 1
        pool = values if self.kept is None else torch.cat((self.kept, values))
        self.kept = pool.topk(min(keep, len(pool)), dim=0).values

    def percentile(self) -> np.ndarray:
        """Return the 99.99th percentile of each group, float64 ``[G]``."""
        assert self.kept is not None, "nothing was added"
        return self.kept[min(int(self.count * _SHARE_ABOVE), len(self.kept) - 1)].cpu().double().numpy()


def measure(
    model: TokenLM, clips: Sequence[np.ndarray], divisors: Mapping[str, np.ndarray] | None = None
) -> dict[str, Peaks]:
    """Run a float model, without dropout, over clips, integers ``[T, K]`` each, and return how large activations get.

    `divisors` are by activation what its channels are divided by, float ``[C]``. The `Peaks` of each activation
    (``"layers.0.mix"``) have one group per channel or head, or with `divisors` one in all where smoothing applies;
    those of the norms' inputs (``"norm.input"``) are there too.
    """
    peaks: dict[str, Peaks] = {}
    rows = sum(len(clip) + 1 for clip in clips) * model.num_codebooks
    handles = []

    def watch(
        name: str, module: nn.Module, of_input: bool = False, groups: int = 1, select: Callable = lambda values: values
    ) -> None:
        """Measure what a module puts out or takes in, in groups of channels; in 0 groups every channel is one."""
        peaks[name] = Peaks()

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            del module
            values = select((inputs[0] if of_input else output).detach().float())
            values = values.reshape(-1, values.shape[-1])
            if divisors and name in divisors:
                values = values / torch.from_numpy(divisors[name]).to(values)
            channels = values.shape[1]
            count = groups or channels
            grouped = values.abs().reshape(len(values), count, -1).transpose(1, 2).reshape(-1, count)
            peaks[name].add(grouped, rows * channels // count)

        handles.append(module.register_forward_hook(hook))

    smoothed = 0 if divisors is None else 1
    for path, module in model.named_modules():
        name = path.replace("blocks", "layers")
        if isinstance(module, nn.RMSNorm):
            watch(name, module, groups=smoothed)
            watch(f"{name}.input", module, of_input=True)
        elif isinstance(module, FeedForward):
            watch(name.replace("feed_forward", "gelu"), module.output, of_input=True)
        elif isinstance(module, Attention):
            prefix, heads = name.removesuffix("attention"), module.heads
            for index, (part, groups) in enumerate((("query", heads), ("key", heads), ("value", 0))):
                select = partial(_part, index=index, rotated_heads=0 if model.rotation is None else groups)
                watch(prefix + part, module.query_key_value, groups=groups, select=select)
            watch(f"{prefix}mix", module.output, of_input=True, groups=smoothed)
    try:
        for clip in clips:
            token_bits(model, clip)
    finally:
        for handle in handles:
            handle.remove()
    return peaks


def _part(values: Tensor, index: int, rotated_heads: int) -> Tensor:
    """Return queries, keys or values; where they are rotated, the length of each pair, which rotation keeps."""
    chosen = values.chunk(3, dim=-1)[index]
    if not rotated_heads:
        return chosen
    first, second = chosen.unflatten(-1, (rotated_heads, -1)).chunk(2, dim=-1)
    return torch.hypot(first, second).flatten(-2)


def calibration_rows(clips: Corpus, num_frames: int) -> list[np.ndarray]:
    """Return the beginnings of 16 clips from all over a corpus, `num_frames` in all or fewer where clips are short."""
    count = min(16, len(clips))
    each = -(-num_frames // max(1, count))
    rows = [clips.clip(i * len(clips) // count)[:each] for i in range(count)]
    return [part for part in rows if len(part)]
