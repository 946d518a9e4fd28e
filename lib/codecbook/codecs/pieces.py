"""Encode while audio comes, and decode audio piece by piece: in memory that does not grow with the clip.

What comes out is, to the bit, what `Codec.encode` and `Codec.decode` make of all at once: pieces are cut at the same
places, and states are carried over in the same way. EnCodec and the FSQ codec do both piece by piece, SNAC and DAC
decode so; the others go through at once, as some of them depend on the whole clip anyway.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codecbook.codecs.base import Codec, Encoded
from codecbook.codecs.chunks import chunk_bounds, run_with_context
from codecbook.codecs.streaming import CausalStream
from codecbook.errors import UnsupportedInput
from codecbook.tokens.tokens import Tokens


def decode_pieces(codec: Codec, tokens: Tokens) -> Iterator[np.ndarray]:
    """Decode tokens piece by piece.

    Args:
        codec: Any codec.
        tokens: Of this codec.

    Yields:
        float32 ``[C, S]`` that together are ``codec.decode(tokens).samples``.

    Raises:
        CodecbookError: As `Codec.decode`.
    """
    decode = _piecewise_decoder(codec)
    if decode is None:
        yield codec.decode(tokens).samples
        return
    codec.check_tokens(tokens)
    done, length = 0, tokens.num_samples
    for piece in decode(codec, tokens):
        if length is not None:
            piece = piece[:, : max(0, length - done)]
        done += piece.shape[1]
        yield np.ascontiguousarray(piece, dtype=np.float32)
    if length is not None and done < length:  # some networks end up to a frame early
        yield np.zeros((codec.channels, length - done), dtype=np.float32)


def encode_pieces(
    codec: Codec, blocks: Iterable[np.ndarray], bandwidth_kbps: float | None = None
) -> Iterator[Encoded]:
    """Encode audio as it comes.

    Args:
        codec: Any codec.
        blocks: float32 ``[C, S]`` at the codec's rate, of any lengths.
        bandwidth_kbps: As in `Codec.encode`.

    Yields:
        Codes that together are those of `Codec.encode`; for a codec with segments of its own, whole segments.

    Raises:
        UnsupportedInput: A bandwidth that the codec does not offer, or blocks of other channels.
    """
    count = codec.num_codebooks_at(bandwidth_kbps)
    queue = _Queue(codec, blocks)
    if _is_causal(codec):
        yield from _encode_causal(codec, queue, count)
    elif _is_segmented(codec):
        yield from _encode_segmented(codec, queue, count)
    else:
        yield codec._encode_samples(queue.rest(), count, codec.chunk_s)


def _is_causal(codec: Codec) -> bool:
    return codec.seams == "state" and codec.name in ("encodec_24khz", "fsq_50hz")


def _is_segmented(codec: Codec) -> bool:
    return codec.seams == "segments" and codec.module.segment is not None


def _piecewise_decoder(codec: Codec) -> Callable[[Any, Tokens], Iterator[np.ndarray]] | None:
    if not codec.decodes:
        return None
    if _is_causal(codec):
        return _decode_causal
    if _is_segmented(codec):
        return _decode_segmented
    return {"snac_24khz": _decode_snac, "dac_44khz": _decode_dac}.get(codec.name)


class _Queue:
    """Blocks of audio, to be taken in other lengths."""

    def __init__(self, codec: Codec, blocks: Iterable[np.ndarray]) -> None:
        self._channels = codec.channels
        self._blocks = iter(blocks)
        self._held = np.zeros((codec.channels, 0), dtype=np.float32)

    def has(self, count: int) -> bool:
        """Read on until `count` samples are held; say whether there are so many."""
        parts = [self._held]
        held = self._held.shape[1]
        while held < count and (block := next(self._blocks, None)) is not None:
            if block.ndim != 2 or block.shape[0] != self._channels:
                raise UnsupportedInput(
                    f"A block of shape {list(block.shape)} came where [{self._channels}, S] is expected; convert the "
                    "audio first."
                )
            parts.append(block)
            held += block.shape[1]
        self._held = np.concatenate(parts, axis=1)
        return held >= count

    def peek(self, count: int) -> np.ndarray:
        return self._held[:, :count]

    def drop(self, count: int) -> None:
        self._held = self._held[:, count:]

    def rest(self) -> np.ndarray:
        self.has(1 << 62)
        return np.ascontiguousarray(self._held)


def _encode_causal(codec: Any, queue: _Queue, count: int) -> Iterator[Encoded]:
    # of two pieces, the first is as long as all but the last are
    chunk = round(codec.chunk_s * codec.sample_rate_hz)
    chunk = chunk_bounds(2 * chunk, chunk, codec.hop_length)[0][1]
    stream, num_pieces = CausalStream(codec.module.encoder.model), 0
    while True:
        # the last piece is as long as what is left, which is less than two: see `chunk_bounds`
        is_last = not queue.has(2 * chunk)
        piece = queue.rest() if is_last else queue.peek(chunk)
        with torch.inference_mode():
            wave = torch.from_numpy(np.ascontiguousarray(piece))[None].to(codec.device)
            latents = codec.module.encoder(wave) if is_last and not num_pieces else stream.push(wave)
            codes = _quantized(codec, latents, count)
        yield Encoded(list(codes))
        if is_last:
            return
        queue.drop(chunk)
        num_pieces += 1


def _quantized(codec: Any, latents: Tensor, count: int) -> np.ndarray:
    """Return the codes ``[K, T]`` of latents ``[1, D, T]``."""
    if codec.name == "fsq_50hz":
        return codec.module.quantizer(latents.transpose(1, 2))[1][0].long().cpu().numpy()[None]
    return codec.quantize(latents, count)[0]


def _encode_segmented(codec: Any, queue: _Queue, count: int) -> Iterator[Encoded]:
    length, stride = codec.module.segment_length, codec.module.segment_stride
    while queue.has(1):
        queue.has(length)
        piece = torch.from_numpy(np.ascontiguousarray(queue.peek(length)))[None]
        with torch.inference_mode():
            encoded = codec.encode_segments(piece, count)
        # of a piece longer than the stride, the adapter begins a second segment, which comes with the next piece
        first = encoded.segment_frames[0]
        codes = [level[:first] for level in encoded.codes]
        yield Encoded(codes, (first,), encoded.scales[:1])
        queue.drop(stride)


def _decode_causal(codec: Any, tokens: Tokens) -> Iterator[np.ndarray]:
    bounds = chunk_bounds(len(tokens.codes[0]), round(codec.decode_chunk_s * codec.frame_rates_hz[0]))
    stream = CausalStream(codec.module.decoder.model)
    for start, end in bounds:
        with torch.inference_mode():
            codes = np.stack([level[start:end] for level in tokens.codes])  # [K, T] of the piece
            latents = _latents(codec, torch.from_numpy(codes).to(codec.device))
            wave = codec.module.decoder(latents) if len(bounds) == 1 else stream.push(latents)
            piece = wave[0].cpu().numpy()
        yield piece


def _latents(codec: Any, codes: Tensor) -> Tensor:
    if codec.name == "fsq_50hz":
        return codec.module.quantizer.indices_to_codes(codes).transpose(1, 2)
    return codec.module.quantizer.decode(codes[:, None])


def _decode_segmented(codec: Any, tokens: Tokens) -> Iterator[np.ndarray]:
    """Overlap and add as the package does, each sample as soon as no further segment reaches it."""
    frames = codec.checked_segments(tokens)
    scales = tokens.scales or (None,) * len(frames)
    codes = torch.from_numpy(np.stack(tokens.codes))[:, None]  # [K, 1, T]
    stride = codec.module.segment_stride
    weight = held = held_weight = None
    for number, (segment, scale) in enumerate(zip(codes.split(frames, dim=-1), scales, strict=True)):
        with torch.inference_mode():
            gain = None if scale is None else torch.tensor([scale], device=codec.device)
            wave = codec.module._decode_frame((segment.transpose(0, 1).to(codec.device), gain))[0]
            if weight is None or held is None or held_weight is None:
                t = torch.linspace(0, 1, wave.shape[-1] + 2, device=wave.device, dtype=wave.dtype)[1:-1]
                weight = 0.5 - (t - 0.5).abs()
                held, held_weight = wave.new_zeros(len(wave), 0), wave.new_zeros(0)
            length = max(wave.shape[-1], held.shape[-1])
            total, total_weight = wave.new_zeros(len(wave), length), wave.new_zeros(length)
            total[:, : held.shape[-1]] += held
            total_weight[: held.shape[-1]] += held_weight
            total[:, : wave.shape[-1]] += weight[: wave.shape[-1]] * wave
            total_weight[: wave.shape[-1]] += weight[: wave.shape[-1]]
            is_last = number == len(frames) - 1
            end = wave.shape[-1] if is_last else stride
            piece = (total[:, :end] / total_weight[:end]).cpu().numpy()
            held, held_weight = total[:, end:], total_weight[end:]
        yield piece


def _decode_snac(codec: Any, tokens: Tokens) -> Iterator[np.ndarray]:
    codec.check_levels(tokens)
    with torch.inference_mode():
        latents = codec.latents(tokens)
    frames_align = codec.align // codec.hop_length
    chunk = round(codec.decode_chunk_s * codec.frame_rates_hz[-1])
    yield from _with_context(
        codec,
        lambda piece: codec.module.decoder(piece.to(codec.device)).cpu(),
        latents,
        chunk_bounds(latents.shape[-1], chunk, frames_align),
    )


def _decode_dac(codec: Any, tokens: Tokens) -> Iterator[np.ndarray]:
    codes = torch.from_numpy(np.stack(tokens.codes))[None]  # [1, K, T]
    yield from _with_context(
        codec,
        lambda piece: codec.module.decode(audio_codes=piece.to(codec.device)).audio_values[:, None].cpu(),
        codes,
        chunk_bounds(codes.shape[-1], round(codec.decode_chunk_s * codec.frame_rates_hz[0])),
    )


def _with_context(
    codec: Any, run: Callable[[Tensor], Tensor], signal: Tensor, bounds: list[tuple[int, int]]
) -> Iterator[np.ndarray]:
    context, hop = codec.context // codec.hop_length, codec.hop_length
    for bound in bounds:
        with torch.inference_mode():
            (wave,) = run_with_context(run, signal, [bound], context, [(1, hop)])
            piece = wave[0].numpy()
        yield piece
