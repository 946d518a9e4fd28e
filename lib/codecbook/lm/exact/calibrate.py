"""How large a float model's activations get on calibration clips: what the scales of an exact model are made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.lm.data.corpus import Corpus
from codecbook.lm.layers import Block
from codecbook.lm.score import token_bits
from codecbook.lm.token_lm import TokenLM

_SHARE_ABOVE = 1e-4
"""Share of the values that a scale cuts off: the 99.99th percentile."""


@dataclass
class Peaks:
    """Percentiles of absolute values, exact, from the greatest few of them alone.

    Attributes:
        kept: The greatest values so far, float32 ``[M, G]``, descending.
        count: Values seen per group.
        greatest: The maximum of all.
    """

    kept: Tensor | None = None
    count: int = 0
    greatest: float = 0.0

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


@dataclass(frozen=True)
class Tap:
    """One place of a model to look at.

    Attributes:
        name: Key of the result.
        module: Whose input or output it is.
        of_input: Its first input instead of its output.
        groups: Number of groups of channels with a percentile each; 0 for one group per channel.
        select: From the tensor ``[..., C]`` to the values of interest.
    """

    name: str
    module: nn.Module
    of_input: bool = False
    groups: int = 1
    select: Callable[[Tensor], Tensor] = field(default=lambda values: values)


def _part(index: int) -> Callable[[Tensor], Tensor]:
    """Select queries, keys or values of the three."""
    return lambda values: values.chunk(3, dim=-1)[index]


def _pair_lengths(index: int, heads: int) -> Callable[[Tensor], Tensor]:
    """Select queries or keys, each pair that is rotated together replaced by its length, which rotation keeps."""

    def select(values: Tensor) -> Tensor:
        first, second = values.chunk(3, dim=-1)[index].unflatten(-1, (heads, -1)).chunk(2, dim=-1)
        return torch.hypot(first, second).flatten(-2)

    return select


def norm_modules(model: TokenLM) -> dict[str, nn.Module]:
    """Return the norms of a model by the names that their arrays have, ``layers.0.attention_norm`` and so on."""
    norms: dict[str, nn.Module] = {"norm": model.norm}
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        norms[f"layers.{index}.attention_norm"] = block.attention_norm
        norms[f"layers.{index}.feed_forward_norm"] = block.feed_forward_norm
    for name in ("head_norm", "logits_norm"):
        if getattr(model, "conditioned", False):
            norms[name] = getattr(model, name)
    return norms


def _taps(model: TokenLM, per_channel: bool) -> list[Tap]:
    groups = 0 if per_channel else 1
    taps = [Tap(name, module, groups=groups) for name, module in norm_modules(model).items()]
    taps += [Tap(f"{tap.name}.input", tap.module, of_input=True) for tap in taps]
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        heads, source = block.attention.heads, block.attention.query_key_value
        prefix = f"layers.{index}"
        for part, name in enumerate(("query", "key")):
            select = _part(part) if model.rotation is None else _pair_lengths(part, heads)
            taps.append(Tap(f"{prefix}.{name}", source, groups=heads, select=select))
        taps += [
            Tap(f"{prefix}.value", source, groups=0, select=_part(2)),
            Tap(f"{prefix}.mix", block.attention.output, of_input=True, groups=groups),
            Tap(f"{prefix}.gelu", block.feed_forward.output, of_input=True),
        ]
    if getattr(model, "conditioned", False):
        head = model.get_submodule("head_feed_forward.output")
        taps.append(Tap("head_gelu", head, of_input=True))
    return taps


def measure(
    model: TokenLM, clips: Sequence[np.ndarray], divisors: Mapping[str, np.ndarray] | None = None
) -> dict[str, Peaks]:
    """Run a model over clips and return how large its activations get.

    Args:
        model: The float model; it is evaluated without dropout and left as it was.
        clips: Integers ``[T, K]`` each.
        divisors: By tap, what its channels are divided by, float ``[C]``. None measures channels by themselves.

    Returns:
        By tap, `Peaks` of one group per channel (or head), or with `divisors` of the whole where smoothing applies.
    """
    peaks: dict[str, Peaks] = {}
    rows = sum(len(clip) + 1 for clip in clips) * model.num_codebooks
    handles = []
    for tap in _taps(model, per_channel=divisors is None):
        peaks[tap.name] = Peaks()
        divisor = None if divisors is None else divisors.get(tap.name)
        handles.append(tap.module.register_forward_hook(_hook(tap, peaks[tap.name], divisor, rows)))
    try:
        for clip in clips:
            token_bits(model, clip)
    finally:
        for handle in handles:
            handle.remove()
    return peaks


def _hook(tap: Tap, peaks: Peaks, divisor: np.ndarray | None, rows: int) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module
        values = tap.select(inputs[0] if tap.of_input else output).detach().float()
        values = values.reshape(-1, values.shape[-1])
        if divisor is not None:
            values = values / torch.from_numpy(divisor).to(values)
        channels = values.shape[1]
        groups = tap.groups or channels
        grouped = values.abs().reshape(len(values), groups, -1).transpose(1, 2).reshape(-1, groups)
        peaks.add(grouped, rows * channels // groups)

    return hook


def calibration_rows(clips: Corpus, num_frames: int = 4096, num_clips: int = 16) -> list[np.ndarray]:
    """Return the beginnings of clips from all over a corpus, as `codecbook.lm.exact.export_exact` takes them.

    Args:
        clips: The corpus.
        num_frames: Frames in all, fewer where the clips are short.
        num_clips: From this many clips, evenly spread.
    """
    count = min(num_clips, len(clips))
    each = -(-num_frames // max(1, count))
    rows = [clips.clip(i * len(clips) // count)[:each] for i in range(count)]
    return [part for part in rows if len(part)]
