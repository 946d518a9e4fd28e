"""Recordings to streams and back: `compress`, `decompress`, and the same for files of any length.

A stream's codes are decoded exactly, or reported as damaged; so its audio is, to the bit, what the codec makes of
those codes. Where codes are lost there is silence of the right length. Around it a codec that carries a state from
frame to frame (EnCodec) sounds a little different from the undamaged recording for as long as that state lasts.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs import Codec
from codecbook.codecs.pieces import decode_pieces, encode_pieces
from codecbook.coding import stream_audio, stream_models
from codecbook.coding.stream_damage import Damage
from codecbook.coding.stream_models import LMLike, NamedLM, default_lm
from codecbook.coding.stream_parts import StreamTokens
from codecbook.coding.stream_reader import StreamReader
from codecbook.coding.stream_report import Progress, StreamReport, inspect, length_s, report_of, verify
from codecbook.coding.stream_source import StreamLike
from codecbook.coding.stream_writer import DEFAULT_SEGMENT_S, StreamWriter, new_header
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import new_file
from codecbook.tokens import Tokens

DEFAULT_CODEC = "encodec_24khz"
DEFAULT_BANDWIDTH_KBPS = 6.0
MARGIN_S = 2.0
"""Seconds decoded before and after a stretch that is asked for: a codec's state settles in them."""


@dataclass(frozen=True)
class Decoded:
    """What a stream decodes to.

    Attributes:
        clip: Audio, silent where codes are lost.
        tokens: Codes; 0 where they are lost. Of a stretch, those of the segments that cover it.
        damage: Segments that could not be decoded, where they are and why.
        notes: What is wrong with parts of the stream that are there twice, so that nothing was lost by it.
    """

    clip: Clip
    tokens: Tokens
    damage: list[Damage]
    notes: tuple[str, ...]


def compress(
    clip: Clip,
    codec: str | Codec = DEFAULT_CODEC,
    bandwidth_kbps: float | None = DEFAULT_BANDWIDTH_KBPS,
    lm: LMLike = "default",
    *,
    weights: str | Path | None = None,
    segment_s: float = DEFAULT_SEGMENT_S,
) -> bytes:
    """Encode a clip into a stream.

    Args:
        clip: Any clip; it is brought to the codec's rate and channels.
        codec: A registry name, the name of bundled weights (``"encodec_24khz_mini"``), or a codec.
        bandwidth_kbps: One of the codec's ``bandwidths_kbps``; None uses all codebooks.
        lm: ``"default"`` for the bundled exact language model of this codec (where it was trained for another number
            of codebooks, codes are stored raw, and a warning says so), the folder of one, a model, or None for raw.
        weights: As for `codecbook.codecs.load_codec`; None takes the bundled ones.
        segment_s: Seconds in a segment.

    Returns:
        The stream; the same bytes for the same arguments on the same machine (codecs compute in floats).

    Raises:
        CorruptInput: No samples, or samples that are not finite.
        UnsupportedInput: A codec, bandwidth, or language model that does not fit.
        MissingWeights: Weights that are not here.
    """
    model = codec if isinstance(codec, Codec) else stream_models.codec_by_name(codec, weights)
    if clip.num_samples == 0:
        raise CorruptInput(f"Clip {clip.name!r} holds no samples; leave it out.")
    clip = audio.convert(
        audio.clip_from_array(clip.samples, clip.sample_rate_hz, clip.name),
        model.sample_rate_hz,
        model.channels,
    )
    file = io.BytesIO()
    _encode(file, model, [clip.samples], bandwidth_kbps, lm, segment_s)
    return file.getvalue()


def compress_file(
    source: str | Path,
    target: str | Path,
    codec: str | Codec = DEFAULT_CODEC,
    bandwidth_kbps: float | None = DEFAULT_BANDWIDTH_KBPS,
    lm: LMLike = "default",
    *,
    weights: str | Path | None = None,
    segment_s: float = DEFAULT_SEGMENT_S,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> StreamReport:
    """Encode a recording of any length into a file, to the same bytes as `compress`.

    With EnCodec and the FSQ codec, memory does not grow with the recording; see `codecbook.codecs.pieces`.

    Args:
        source: Any file that `codecbook.audio.load` reads.
        target: The stream; it appears when it is complete.
        codec: See `compress`.
        bandwidth_kbps: See `compress`.
        lm: See `compress`.
        weights: See `compress`.
        segment_s: See `compress`.
        overwrite: Replace a file that exists.
        on_progress: Called now and then.

    Raises:
        CodecbookError: As `compress` and `codecbook.audio.load`, and where `target` exists.
    """
    model = codec if isinstance(codec, Codec) else stream_models.codec_by_name(codec, weights)
    with new_file(target, overwrite) as partial, partial.open("wb") as file:
        blocks = stream_audio.audio_blocks(source, model.sample_rate_hz, model.channels)
        if on_progress is not None:
            blocks = _counted(blocks, model.sample_rate_hz, _duration_s(source), on_progress)
        _encode(file, model, blocks, bandwidth_kbps, lm, segment_s)
    return replace(inspect(target), path=Path(target))


def decompress(
    data: StreamLike,
    *,
    codec: Codec | None = None,
    weights: str | Path | None = None,
    lm: LMLike = "default",
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Decoded:
    """Decode a stream, or a stretch of it.

    The tokens of a stretch are exactly those of the whole. Its audio is that of the whole, up to the rounding of
    floats, for a codec without memory; EnCodec's decoder remembers all that came before, of which the stretch is
    given `MARGIN_S` seconds.

    Args:
        data: Bytes, a path, or a binary file.
        codec: The codec, where it is loaded already; None loads the one that the stream names.
        weights: Its weights, where they are not found by the stream's label.
        lm: The language model, where it is not found by name in ``data/models``.
        start_s: Beginning of the stretch in seconds.
        end_s: Its end; None for the end of the stream.

    Raises:
        CorruptInput: No stream, no copy of its header, or none of its segments can be read.
        UnsupportedInput: A later version, weights that are not the stream's, or a stretch as
            `StreamReader.check_stretch` refuses it.
        MissingWeights: Weights that are not here.
    """
    with StreamReader(data) as reader:
        reader.check_stretch(start_s, end_s)
        model = _prepare(reader, codec, weights, lm)
        is_whole = start_s == 0 and end_s is None
        first_s = max(0.0, start_s - MARGIN_S)
        read = reader.read(first_s, None if end_s is None else end_s + MARGIN_S)
        ranges = _silent_ranges(reader, read, model)
        duration_s = length_s(reader.header)
    offset = round(read.start_s * model.sample_rate_hz)
    moved = [(a - offset, b - offset) for a, b in ranges]
    pieces = list(stream_audio.silence(_decoded(model, read.tokens), moved))
    samples = np.concatenate(pieces, axis=1)
    if not is_whole:
        first = round(start_s * model.sample_rate_hz) - offset
        end = round(min(duration_s, duration_s if end_s is None else end_s) * model.sample_rate_hz) - offset
        samples = samples[:, max(0, first) : max(0, end)]
    clip = Clip(np.ascontiguousarray(samples), model.sample_rate_hz, name=model.name)
    return Decoded(clip, read.tokens, list(read.damage), read.notes)


def decompress_file(
    source: str | Path,
    target: str | Path,
    *,
    codec: Codec | None = None,
    weights: str | Path | None = None,
    lm: LMLike = "default",
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> StreamReport:
    """Decode a stream into an audio file (wav, flac, ogg or mp3), piece by piece.

    Args:
        source: The stream.
        target: The audio; it appears when it is complete.
        codec: See `decompress`.
        weights: See `decompress`.
        lm: See `decompress`.
        overwrite: Replace a file that exists.
        on_progress: Called now and then.

    Raises:
        CodecbookError: As `decompress` and `codecbook.audio.save`.
    """
    stream_audio.check_target(target, overwrite)
    with StreamReader(source) as reader:
        model = _prepare(reader, codec, weights, lm)
        read = reader.read()
        ranges = _silent_ranges(reader, read, model)
        pieces: Iterator[np.ndarray] = stream_audio.silence(_decoded(model, read.tokens), ranges)
        if on_progress is not None:
            pieces = _counted(pieces, model.sample_rate_hz, read.tokens.duration_s, on_progress)
        count = stream_audio.write_audio(pieces, model.sample_rate_hz, model.channels, target, overwrite)
        report = report_of(reader, Path(target), read.damage)
    return replace(report, duration_s=count / model.sample_rate_hz)


def _encode(
    file: BinaryIO,
    codec: Codec,
    blocks: Iterable[np.ndarray],
    bandwidth_kbps: float | None,
    lm: LMLike,
    segment_s: float,
) -> None:
    template = _template(codec, bandwidth_kbps)
    named: NamedLM | None = stream_models.choose_lm(lm, codec, template)
    stride, frames = _codec_segments(codec)
    has_scales = frames > 0 and bool(getattr(codec.module, "normalize", False))
    header = new_header(
        template,
        model=named.model if named else None,
        lm_name=named.name if named else "",
        codec_sha256=codec.weights.sha256,
        codec_segment_stride=stride,
        segment_s=segment_s,
        codec_segment_frames=frames,
        has_scales=has_scales,
    )
    writer = StreamWriter(file, header, named.model if named else None)
    counter = _SampleCounter(blocks)
    for encoded in encode_pieces(codec, counter, bandwidth_kbps):
        codes = tuple(np.asarray(level, dtype=np.int64) for level in encoded.codes)
        rows = header.layout.to_rows(replace(header.template, codes=codes))
        writer.write(rows, encoded.segment_frames, encoded.scales)
    writer.close(counter.num_samples)


def _codec_segments(codec: Codec) -> tuple[int, int]:
    """Return stride (in samples) and frames of the codec's own segments; zeros for a codec without."""
    if codec.seams != "segments":
        return 0, 0
    length, stride = int(codec.module.segment_length), int(codec.module.segment_stride)
    return stride, -(-length // int(codec.sample_rate_hz / codec.frame_rates_hz[0]))


def _template(codec: Codec, bandwidth_kbps: float | None) -> Tokens:
    """Return what `Codec.encode` would say of a clip, without its codes."""
    count = codec.num_codebooks_at(bandwidth_kbps)
    return Tokens(
        codes=tuple(np.zeros(0, dtype=np.int64) for _ in range(count)),
        codebook_sizes=codec.codebook_sizes[:count],
        frame_rates_hz=codec.frame_rates_hz[:count],
        codec=codec.name,
        weights=str(codec.weights),
        sample_rate_hz=codec.sample_rate_hz,
        channels=codec.channels,
        bandwidth_kbps=codec.bandwidths_kbps[-1] if bandwidth_kbps is None else bandwidth_kbps,
    )


class _SampleCounter:
    """Blocks of audio, counted as they pass."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = blocks
        self.num_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.num_samples += block.shape[1]
            yield block


def _prepare(reader: StreamReader, codec: Codec | None, weights: str | Path | None, lm: LMLike) -> Codec:
    """Load what a stream needs: its language model into the reader, and its codec."""
    model = stream_models.lm_of(reader.header, lm)
    if model is not None:
        reader.use_model(model)
    loaded = stream_models.codec_of(reader.header, codec, weights)
    if not loaded.decodes:
        raise UnsupportedInput(
            f"{loaded.name} is a tokenizer without a decoder; read the stream's tokens with codecbook.coding.stream."
        )
    return loaded


def _silent_ranges(reader: StreamReader, read: StreamTokens, codec: Codec) -> list[tuple[int, int]]:
    """Return where samples stand for lost codes, of tokens that the codec has been asked about first."""
    if len(read.tokens.codes[0]):
        codec.check_tokens(read.tokens)  # a stream may name rates at which no time can be computed
    return stream_audio.silent_ranges(reader.header, read.damage, codec)


def _decoded(codec: Codec, tokens: Tokens) -> Iterator[np.ndarray]:
    if len(tokens.codes[0]) == 0:
        yield np.zeros((codec.channels, 0), dtype=np.float32)
        return
    yield from decode_pieces(codec, tokens)


def _counted(
    pieces: Iterable[np.ndarray], sample_rate_hz: int, total_s: float | None, on_progress: Progress
) -> Iterator[np.ndarray]:
    count = 0
    for piece in pieces:
        yield piece
        count += piece.shape[1]
        on_progress(count / sample_rate_hz, total_s)


def _duration_s(path: str | Path) -> float | None:
    try:
        return float(soundfile.info(str(path)).duration)
    except (RuntimeError, TypeError):  # the reader will say what is wrong with it
        return None


__all__ = [
    "Decoded", "StreamReport", "compress", "compress_file", "decompress", "decompress_file", "default_lm", "inspect",
    "verify",
]  # fmt: skip
