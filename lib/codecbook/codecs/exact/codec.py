"""Exact codecs behind the common interface: what `load_codec(name, exact=True)` returns.

Samples go in as ``floor(x 2^20 + 1/2)``, and come out as multiples of 2^-20; all in between is integers, so pieces of
any length, batches, threads and devices come to the same tokens and samples.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from codecbook.codecs.adapters.encodec import SegmentedEncodec
from codecbook.codecs.base import Codec, Encoded, Mend
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.exact import spec
from codecbook.codecs.exact.carriers import Float64, SplitFloat32
from codecbook.codecs.exact.evaluate import Evaluator
from codecbook.codecs.exact.export import export_exact
from codecbook.codecs.exact.spec import ExactNetwork, Step
from codecbook.codecs.networks import CausalCodec, ContextCodec, NetworkCodec
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens

_LEAST_LEVEL = 1  # in 2^-24
_GREATEST_SCALE = 8.0  # as no sample is greater


def to_grid(samples: np.ndarray) -> np.ndarray:
    """Return floats as integers in 2^-20, halves up; beyond what fits, 8, raise UnsupportedInput."""
    integers = np.floor(samples.astype(np.float64) * 2.0**spec.SAMPLE_UNIT + 0.5)
    peak = np.abs(integers).max(initial=0.0)
    if not peak <= spec.ACTIVATION_MAX:
        raise UnsupportedInput(
            f"A sample is {peak / 2.0**spec.SAMPLE_UNIT:g}, and exact codecs take samples up to 8, where 1 is full "
            "scale; divide the recording by its greatest sample."
        )
    return integers.astype(np.int64)


def from_grid(samples: np.ndarray) -> np.ndarray:
    """Return integers in 2^-20 as float32, which holds them."""
    return (samples * 2.0**-spec.SAMPLE_UNIT).astype(np.float32)


@dataclass(frozen=True)
class _Segments:
    """How a codec cuts audio: what is asked of a network, too."""

    segment_length: int
    segment_stride: int
    normalize: bool


class _Exact(NetworkCodec):
    """What exact codecs share. `module` is no network, so that nothing falls back to floats."""

    network: ExactNetwork

    def __init__(self, codec: NetworkCodec, network: ExactNetwork, carrier: Float64 | None = None) -> None:
        vars(self).update(vars(codec))
        self.module, self.network = None, network
        self.evaluator = Evaluator(codec.device, carrier)
        # searches need maxima, which not every device has of int64
        is_split = isinstance(self.evaluator.numbers, SplitFloat32)
        self._searcher = Evaluator("cpu", Float64(torch.device("cpu"))) if is_split else self.evaluator

    @property
    def exact_sha256(self) -> str:
        """What identifies the integers, hex."""
        return self.network.sha256

    def _run(self, steps: Sequence[Step], x: np.ndarray, states: dict[int, Any] | None = None) -> Tensor:
        """Apply steps to integers ``[B, C, T]``; ``[B, T', C']`` come out."""
        numbers = self.evaluator.numbers
        return self.evaluator.run(steps, numbers.tensor(np.ascontiguousarray(x.transpose(0, 2, 1))), states)

    def _search(self, latents: Tensor, num_codebooks: int) -> list[Tensor]:
        """Return codes ``[T_k]`` of the first of a batch."""
        numbers = self._searcher.numbers
        latents = latents.to(numbers.dtype) if numbers.device.type != "cpu" else latents.cpu().to(numbers.dtype)
        return [codes[0] for codes in self._searcher.quantize(self.network, latents, num_codebooks)]

    def _latents(self, codes: Sequence[Tensor]) -> Tensor:
        """Return float32 ``[1, D, T]`` of codes ``[1, T_k]``."""
        latents = self.evaluator.dequantize(self.network, codes)
        return latents.transpose(1, 2).to(torch.float32) * 2.0**-self.network.quantizer.unit

    def _decoded(self, latents: Tensor, states: dict[int, Any] | None = None) -> np.ndarray:
        """Return integers ``[1, C, S]`` of latents float32 ``[1, D, T]``."""
        unit = self.network.quantizer.unit
        integers = np.floor(latents.cpu().numpy().astype(np.float64) * 2.0**unit + 0.5)
        limited = np.clip(integers, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)
        out = self._run(self.network.decoder, limited, states)
        return out.transpose(1, 2).to(torch.int64).cpu().numpy()


class ExactCausal(_Exact, CausalCodec):
    """A codec that carries the state of its layers."""

    def _encoder(self, in_pieces: bool) -> Callable[[Tensor], Tensor]:
        states: dict[int, Any] | None = {} if in_pieces else None
        return lambda wave: self._run(self.network.encoder, to_grid(wave.cpu().numpy()), states)

    def _decoder(self, in_pieces: bool) -> Callable[[Tensor], Tensor]:
        states: dict[int, Any] | None = {} if in_pieces else None
        return lambda latents: torch.from_numpy(from_grid(self._decoded(latents, states)))

    def _quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        return torch.stack(self._search(latents, num_codebooks))

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self._latents(list(codes.transpose(0, 1)))


class ExactContext(_Exact, ContextCodec):
    """A codec whose pieces overlap: SNAC."""

    chunk_s = 5.0  # a quarter of what floats are given: float64 takes more memory, and any length comes to the same

    def _codes(self, wave: Tensor, num_codebooks: int) -> list[Tensor]:
        samples = to_grid(wave.cpu().numpy())
        padded = np.pad(samples, ((0, 0), (0, 0), (0, -samples.shape[2] % self.align)))
        return self._search(self._run(self.network.encoder, padded), num_codebooks)

    def _dequantize(self, codes: Tensor) -> Tensor:
        levels = cast(spec.ResidualQuantizer, self.network.quantizer).levels
        return self._latents([of[:, :: level.stride] for level, of in zip(levels, codes.transpose(0, 1), strict=False)])

    def _audio(self, latents: Tensor) -> Tensor:
        return torch.from_numpy(from_grid(self._decoded(latents)[0]))


class ExactSegmented(ExactCausal, SegmentedEncodec):
    """A codec that normalises each of its segments: EnCodec at 48 kHz."""

    def __init__(self, codec: SegmentedEncodec, network: ExactNetwork, carrier: Float64 | None = None) -> None:
        module = codec.module
        super().__init__(codec, network, carrier)
        self.module = _Segments(int(module.segment_length), int(module.segment_stride), bool(module.normalize))

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        while queue.has(1):
            x, scales = to_grid(queue.peek(self.module.segment_length)), ()
            if self.module.normalize:
                level = segment_level(x)
                x, scales = divided(x, level), (level * 2.0**-spec.LEVEL_UNIT,)
            codes = self._search(self._run(self.network.encoder, x[None]), num_codebooks)
            yield Encoded([level.cpu().numpy() for level in codes], (len(codes[0]),), scales)
            queue.drop(self.module.segment_stride)

    def _first_codes(self, waves: Tensor) -> Iterable[Tensor]:
        if waves.shape[-1] > self.module.segment_length:
            raise UnsupportedInput(f"{waves.shape[-1]} samples are more than a segment of {self.name}; cut them.")
        x = to_grid(waves.cpu().numpy())
        if self.module.normalize:
            x = np.stack([divided(wave, segment_level(wave)) for wave in x])
        return self._search(self._run(self.network.encoder, x), len(self.codebook_sizes))

    @torch.inference_mode()
    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        frames = self._checked_segments(tokens)
        segments = np.split(np.stack(tokens.codes), np.cumsum(frames)[:-1], axis=1)

        def decoded() -> Iterator[np.ndarray]:
            first = 0
            for codes, scale in zip(segments, tokens.scales or (None,) * len(frames), strict=True):
                latents = self._mended(self._dequantize(self._tensor(codes)), mend, first)
                yield multiplied(self._decoded(latents)[0], scale, self.network.output_unit)
                first += codes.shape[1]

        for wave in overlap_add(decoded(), self.module.segment_stride):
            yield from_grid(wave)


def segment_level(x: np.ndarray) -> int:
    """Return the level of samples int64 ``[C, S]`` in 2^-24, 1 or more: the root of the mean square of their mean."""
    channels, count = x.shape
    mono = x.sum(axis=0)
    squares, half = mono * mono, 24
    total = (int((squares >> half).sum()) << half) + int((squares % (1 << half)).sum())
    extra = 2 * (spec.LEVEL_UNIT - spec.SAMPLE_UNIT)
    level = max(_LEAST_LEVEL, math.isqrt((total << extra) // (count * channels * channels)))
    spare = max(0, level.bit_length() - spec.LEVEL_BITS)
    return level >> spare << spare


def divided(x: np.ndarray, level: int) -> np.ndarray:
    """Return samples over their level in 2^-14, halves up."""
    shift = spec.NORMAL_UNIT + spec.LEVEL_UNIT - spec.SAMPLE_UNIT
    quotient = ((x << (shift + 1)) + level) // (2 * level)
    return np.clip(quotient, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)


def multiplied(wave: np.ndarray, scale: float | None, unit: int) -> np.ndarray:
    """Return decoded integers of a unit as samples in 2^-20, times their segment's scale."""
    level = 1 << spec.LEVEL_UNIT
    if scale is not None:
        level = math.floor(min(scale, _GREATEST_SCALE) * 2.0**spec.LEVEL_UNIT + 0.5)
    shift = unit + spec.LEVEL_UNIT - spec.SAMPLE_UNIT
    return np.clip((wave * level + (1 << (shift - 1))) >> shift, -spec.ACTIVATION_MAX, spec.ACTIVATION_MAX)


def overlap_add(waves: Iterable[np.ndarray], stride: int) -> Iterator[np.ndarray]:
    """Join segments ``[C, S]`` that begin `stride` apart, by weights 1, 2, .. 2, 1 over their sum, halves up.

    In the order and with the ends of `codecbook.codecs.adapters.encodec.overlap_add`.
    """
    waves = iter(waves)
    wave: np.ndarray | None = next(waves)
    rise = np.arange(1, wave.shape[1] + 1)
    weight = np.minimum(rise, rise[::-1])
    total, total_weight = np.zeros((len(wave), 0), dtype=np.int64), weight[:0]
    while wave is not None:
        following, length = next(waves, None), wave.shape[1]
        room = max(0, length - total.shape[1])
        total, total_weight = np.pad(total, ((0, 0), (0, room))), np.pad(total_weight, (0, room))
        total[:, :length] += weight[:length] * wave
        total_weight[:length] += weight[:length]
        end = length if following is None else stride
        yield (2 * total[:, :end] + total_weight[:end]) // (2 * total_weight[:end])
        total, total_weight, wave = total[:, end:], total_weight[end:], following


def load(adapter: ModuleType, name: str, request: WeightsRequest, device: str) -> Codec:
    """Load a codec by its adapter, as integers; a codec that has no exact form raises UnsupportedInput."""
    if not hasattr(adapter, "wrap"):
        raise UnsupportedInput(f"{name} has no exact form; EnCodec, SNAC and fsq_50hz have one, or leave out exact.")
    module, weights = adapter.network(name, request)
    network = export_exact(module)
    codec: Any = adapter.wrap(name, module, weights, device)
    kinds = ((SegmentedEncodec, ExactSegmented), (CausalCodec, ExactCausal), (ContextCodec, ExactContext))
    exact = next(exact for kind, exact in kinds if isinstance(codec, kind))
    # what a family does beside running its network stays as it is
    made: Any = type(f"Exact{type(codec).__name__}", (exact, type(codec)), {})
    return made(codec, network)
