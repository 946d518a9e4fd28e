"""Recordings to streams and back: `compress`, `decompress`, and the same for files of any length.

A stream's codes are decoded exactly, or reported as damaged; so its audio is, to the bit, what the codec makes of
those codes. Where codes are lost there is sound or silence of the right length, as the concealment wants it
(`codecbook.coding.conceal`). After it a codec that carries a state from frame to frame (EnCodec) sounds a little
different from the undamaged recording for as long as that state lasts.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from codecbook import audio, files
from codecbook.audio import Clip
from codecbook.audio_files import AUDIO_SUFFIXES
from codecbook.codecs import Codec
from codecbook.codecs.base import SoundLike, as_clip
from codecbook.codecs.blocks import AudioBlocks, BlockQueue, counted, promised_duration_s
from codecbook.coding.conceal import check_method, concealed_pieces
from codecbook.coding.exact.adapt import DEFAULT_STEP
from codecbook.coding.stream import models as stream_models
from codecbook.coding.stream.header import Parity, StreamHeader
from codecbook.coding.stream.inner_code import add_inner_code, check_inner_parity
from codecbook.coding.stream.locate import StreamLike
from codecbook.coding.stream.models import LMLike
from codecbook.coding.stream.reader import Progress, StreamReader, StreamReport, StreamTokens, check_stretch, inspect
from codecbook.coding.stream.segment import Damage
from codecbook.coding.stream.writer import DEFAULT_SEGMENT_S, StreamWriter
from codecbook.errors import CodecbookWarning, CorruptInput, UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import Tokens
from codecbook.tokens.tokens import same_digest

DEFAULT_CODEC = "encodec_24khz"
MARGIN_S = 2.0
"""Seconds decoded before and after a stretch that is asked for: a codec's state settles in them."""


@dataclass(frozen=True)
class Decoded:
    """What a stream decodes to."""

    clip: Clip  # where codes are lost, what conceals that
    tokens: Tokens  # 0 where they are lost; of a stretch, those of the segments that cover it
    damage: list[Damage]  # segments that could not be decoded, where they are and why
    notes: tuple[str, ...]  # what is wrong with parts that are there twice, so that nothing was lost by it


def compress(
    clip: SoundLike,
    codec: str | Codec = DEFAULT_CODEC,
    bandwidth_kbps: float | str | None = "default",
    lm: LMLike = "default",
    *,
    weights: str | Path | None = None,
    segment_s: float = DEFAULT_SEGMENT_S,
    parity: Parity | None = None,
    inner_parity: int = 0,
    sample_rate_hz: int | None = None,
    exact: bool = False,
    adapt: bool = False,
) -> bytes:
    """Encode a clip into a stream; on one machine the same arguments give the same bytes (codecs compute in floats).

    With `exact` they do on every machine, from samples on (decoders of MP3, Ogg and Opus compute in floats).

    Args:
        clip: A clip, an array or tensor ``[S]`` or ``[C, S]``, or the path of a recording, at any rate.
        codec: A registry name, the name of bundled weights (``"encodec_24khz_mini"``), or a codec.
        bandwidth_kbps: One of the codec's ``bandwidths_kbps``; ``"default"`` takes its ``default_bandwidth_kbps``, None
            all codebooks.
        lm: ``"default"`` for the bundled exact language model of this codec (where it was trained for another number
            of codebooks, codes are stored raw, with a warning), the folder of one, a model, or None for raw.
        weights: As for `codecbook.codecs.load_codec`; None takes the bundled ones.
        segment_s: Seconds in a segment.
        parity: How many segments are added that restore others where these are lost; None for none.
        inner_parity: Bytes of Reed-Solomon parity in each 255, half of which may be wrong; 0 for no inner code, else
            an even number up to 128. 22 correct 1 % of wrong bytes.
        sample_rate_hz: Of an array or tensor.
        exact: Whether the codec computes in integers (`codecbook.codecs.load_codec`). The stream then names its
            integers and holds the hash of the audio that they decode to, and `sounds_as_sent` checks it.
        adapt: Whether a bias on the language model's logits learns within each segment: `codecbook.coding.exact.adapt`.
            With the bundled models it costs 0.1 to 0.5 % at 2 s, so this is off.

    Raises:
        CorruptInput: No samples, or samples that are not finite.
        UnsupportedInput: A codec, bandwidth, or language model that does not fit.
        MissingWeights: Weights that are not here.
    """
    sound = as_clip(clip, sample_rate_hz)
    if inner_parity:
        check_inner_parity(inner_parity)
    model = _codec(codec, weights, exact)
    if sound.num_samples == 0:
        raise CorruptInput(f"Clip {sound.name!r} holds no samples; leave it out.")
    sound = model.convert(audio.clip_from_array(sound.samples, sound.sample_rate_hz, sound.name))
    file = io.BytesIO()
    _encode(file, model, [sound.samples], bandwidth_kbps, lm, segment_s, parity, adapt)
    return add_inner_code(file.getvalue(), inner_parity) if inner_parity else file.getvalue()


def compress_file(
    source: str | Path,
    target: str | Path,
    codec: str | Codec = DEFAULT_CODEC,
    bandwidth_kbps: float | str | None = "default",
    lm: LMLike = "default",
    *,
    weights: str | Path | None = None,
    segment_s: float = DEFAULT_SEGMENT_S,
    parity: Parity | None = None,
    inner_parity: int = 0,
    overwrite: bool = False,
    on_progress: Progress | None = None,
    exact: bool = False,
    adapt: bool = False,
) -> StreamReport:
    """Encode a recording of any length into a file, to the same bytes as `compress`, whose other arguments it has.

    With codecs that encode piece by piece, memory does not grow with the recording; see `Codec.encode_pieces`.
    `source` is any file that `codecbook.audio.load` reads; `target` appears when it is complete, and `overwrite`
    replaces a file that exists. `on_progress` is called now and then.

    Raises:
        CodecbookError: As `compress` and `codecbook.audio.load`, where `target` exists, is `source`, or is the name of
            an audio file.
        OSError: As `codecbook.files.check_target`.
    """
    target = Path(target)
    files.refuse_same_file(source, target)
    if target.suffix.lower() in AUDIO_SUFFIXES:
        raise UnsupportedInput(f"A stream is no audio file as {target.name} is; name it {target.stem}.cbs.")
    if target.suffix.lower() == ".ecdc":
        raise UnsupportedInput(f"{target.name} is no name for our own format; end it with .cbs, and convert that.")
    files.check_target(target, overwrite)
    if inner_parity:
        check_inner_parity(inner_parity)
    model = _codec(codec, weights, exact)
    with files.new_file(target, overwrite) as partial, partial.open("wb") as file:
        blocks: Iterable[np.ndarray] = AudioBlocks(
            source, model.sample_rate_hz, model.channels, bool(model.exact_sha256)
        )
        if on_progress is not None:
            blocks = counted(blocks, model.sample_rate_hz, promised_duration_s(source), on_progress)
        _encode(file, model, blocks, bandwidth_kbps, lm, segment_s, parity, adapt)
        if inner_parity:
            file.close()
            partial.write_bytes(add_inner_code(partial.read_bytes(), inner_parity))
    return inspect(target)


def decompress(
    data: StreamLike,
    *,
    codec: Codec | None = None,
    weights: str | Path | None = None,
    lm: LMLike = "default",
    start_s: float = 0.0,
    end_s: float | None = None,
    conceal: str = "interpolate",
    salvage: bool = False,
) -> Decoded:
    """Decode a stream, or a stretch of it.

    The tokens of a stretch are exactly those of the whole. Its audio is that of the whole, up to the rounding of
    floats, for a codec without memory; EnCodec's decoder remembers everything before, of which it is given `MARGIN_S`
    seconds.

    Args:
        data: Bytes, a path, or a binary file.
        codec: The codec, where it is loaded already; None loads the one that the stream names.
        weights: Its weights, where they are not found by the stream's label.
        lm: The language model, where it is not found by name in ``data/models``.
        start_s: Beginning of the stretch in seconds.
        end_s: Its end; None for the end of the stream.
        conceal: What is heard where codes are lost: one of `codecbook.coding.conceal.CONCEALMENTS`. Those that draw
            codes take the stream's language model, else the codec's.
        salvage: Whether what is there of damaged raw codes is decoded, right or wrong; it is reported all the same.

    Raises:
        CorruptInput: No stream, no copy of its header, or none of its segments can be read.
        UnsupportedInput: A later version, weights that are not the stream's, or a stretch outside of the recording.
        MissingWeights: Weights that are not here.
    """
    with StreamReader(data) as reader:
        model, read, pieces = _decode(reader, codec, weights, lm, start_s, end_s, conceal, salvage)
        clip = Clip(np.concatenate(list(pieces), axis=1), model.sample_rate_hz, name=model.name)
    return Decoded(clip, read.tokens, list(read.damage), read.notes)


def decompress_file(
    source: str | Path,
    target: str | Path,
    *,
    codec: Codec | None = None,
    weights: str | Path | None = None,
    lm: LMLike = "default",
    start_s: float = 0.0,
    end_s: float | None = None,
    conceal: str = "interpolate",
    salvage: bool = False,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> StreamReport:
    """Decode a stream, or a stretch of it, into an audio file (wav, flac, ogg or mp3), piece by piece.

    `target` appears when it is complete; see `compress_file` and `decompress` for the other arguments. Raises
    CodecbookError: as `decompress` and `codecbook.audio.save`.
    """
    check_sound_target(target, overwrite, source)
    with StreamReader(source) as reader:
        model, read, pieces = _decode(reader, codec, weights, lm, start_s, end_s, conceal, salvage)
        if on_progress is not None:
            pieces = counted(pieces, model.sample_rate_hz, read.tokens.duration_s, on_progress)
        count = audio.save_pieces(pieces, model.sample_rate_hz, model.channels, target, overwrite)
        return replace(reader.report(read.damage), duration_s=count / model.sample_rate_hz)


def sounds_as_sent(data: StreamLike, *, weights: str | Path | None = None, lm: LMLike = "default") -> bool | None:
    """Say whether a stream decodes here to the very samples that its sender heard; None where it does not tell.

    Streams of exact codecs hold the hash of these. Raises CodecbookError: as `decompress`.
    """
    with StreamReader(data) as reader:
        if not reader.header.audio_sha256:
            return None
        model, _, pieces = _decode(reader, None, weights, lm, 0.0, None, "interpolate", False)
        return same_digest(model.sound_sha256(pieces), reader.header.audio_sha256)


def _codec(codec: str | Codec, weights: str | Path | None, exact: bool) -> Codec:
    if not isinstance(codec, Codec):
        return stream_models.codec_by_name(codec, weights, exact)
    if exact and not codec.exact_sha256:
        raise UnsupportedInput(f"This {codec.name} computes in floats; load it with exact=True, or leave out exact.")
    return codec


def check_sound_target(path: str | Path, overwrite: bool, source: str | Path) -> None:
    """Refuse before any long work what writing audio would refuse after it, and what would destroy the source."""
    audio.write_format(path)
    files.refuse_same_file(source, path)
    files.check_target(path, overwrite)


def _encode(
    file: BinaryIO,
    codec: Codec,
    blocks: Iterable[np.ndarray],
    bandwidth_kbps: float | str | None,
    lm: LMLike,
    segment_s: float,
    parity: Parity | None,
    adapt: bool,
) -> None:
    if adapt and lm is None:
        raise UnsupportedInput(
            "adapt=True changes a language model's logits, and lm=None codes raw; leave one of them out."
        )
    if not codec.decodes:
        warnings.warn(
            f"{codec.name} has no decoder: this stream's tokens can be read again (codecbook.coding.stream), and never "
            "become sound. Choose another codec to listen.",
            CodecbookWarning,
            stacklevel=3,
        )
    kbps: Any = codec.default_bandwidth_kbps if bandwidth_kbps == "default" else bandwidth_kbps
    known = codec.token_format(codec.num_codebooks_at(kbps), kbps)  # refuses other words
    model, name = stream_models.choose_lm(lm, known, lambda: codec)
    frames = stride = 0
    if codec.seams == "segments":
        length, stride = int(codec.module.segment_length), int(codec.module.segment_stride)
        frames = -(-length // int(codec.sample_rate_hz / codec.frame_rates_hz[0]))
    writer = StreamWriter(
        file, known, model, name, segment_s=segment_s, codec_segment_frames=frames, codec_segment_stride=stride,
        has_scales=frames > 0 and bool(getattr(codec.module, "normalize", False)),
        parity=parity, exact_sha256=codec.exact_sha256, adapt_step=DEFAULT_STEP if adapt and model else 0,
    )  # fmt: skip
    queue, parts = BlockQueue(blocks, codec.channels), []
    for encoded in codec.encode_pieces(queue, kbps):
        parts += [encoded] if codec.exact_sha256 else []
        rows = writer.header.layout.to_rows(known.tokens(encoded.codes))
        writer.write(rows, encoded.segment_frames, encoded.scales)
    # the hash is of what the stream's tokens decode to, so they are decoded here as well
    pieces = codec.decode_pieces(codec.joined(parts, queue.num_samples, kbps)) if parts else ()
    writer.close(queue.num_samples, codec.sound_sha256(pieces) if codec.exact_sha256 else "")


def _decode(
    reader: StreamReader,
    codec: Codec | None,
    weights: str | Path | None,
    lm: LMLike,
    start_s: float,
    end_s: float | None,
    method: str,
    salvage: bool,
) -> tuple[Codec, StreamTokens, Iterator[np.ndarray]]:
    """Load what a stream needs; return its codec, the tokens of a stretch and around it, and the stretch's audio."""
    header = reader.header
    check_method(method)
    check_stretch(header.duration_s, start_s, end_s)
    reader.model = stream_models.lm_of(header, lm)
    model = stream_models.codec_of(header, codec, weights)
    if not model.decodes:
        raise UnsupportedInput(f"{model.name} has no decoder; read the stream's tokens with codecbook.coding.stream.")
    read = reader.read(max(0.0, start_s - MARGIN_S), None if end_s is None else end_s + MARGIN_S, salvage=salvage)
    if header.format.weights_sha256:  # of which a stream keeps the beginning alone
        read = replace(read, tokens=replace(read.tokens, weights_sha256=model.weights.sha256))
    return model, read, _sound(model, header, read, start_s, end_s, method, reader.model)


def _sound(
    codec: Codec,
    header: StreamHeader,
    read: StreamTokens,
    start_s: float,
    end_s: float | None,
    method: str,
    lm: ExactLM | None,
) -> Iterator[np.ndarray]:
    """Yield the audio of a stretch of tokens, float32 ``[C, S]`` piece by piece."""
    if len(read.tokens.codes[0]) == 0:
        yield np.zeros((codec.channels, 0), dtype=np.float32)
        return
    codec.check_tokens(read.tokens)  # a stream may name rates at which no time can be computed
    lost = np.tile(read.lost, (read.tokens.num_codebooks, 1))
    rate_hz = codec.sample_rate_hz
    first, last = round(start_s * rate_hz), 1 << 62
    if start_s != 0 or end_s is not None:
        last = round((header.duration_s if end_s is None else min(header.duration_s, end_s)) * rate_hz)
    place = round(read.start_s * rate_hz)
    for piece in concealed_pieces(codec, read.tokens, lost, method, lm):
        yield piece[:, max(0, first - place) : max(0, last - place)]
        place += piece.shape[1]
