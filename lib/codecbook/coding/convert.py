"""The codes of one stream in another: ``.ecdc`` to ``.cbs`` and back, or from one version of a format to another.

Codes are copied and audio is not touched, so that nothing is coded twice. What a format has no place for is lost, and
`Converted` says what that is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codecbook.codecs import Codec
from codecbook.coding import stream
from codecbook.coding.ecdc.header import MAGIC
from codecbook.coding.ecdc.read import read_ecdc_codes
from codecbook.coding.ecdc.segments import MODEL_SHAPES, shape_named
from codecbook.coding.ecdc.write import shape_of_tokens, write_ecdc_codes
from codecbook.coding.stream import models as stream_models
from codecbook.coding.stream.inner_code import HEAD_BYTES, find_inner_code
from codecbook.coding.stream.models import LMLike
from codecbook.coding.stream.reader import StreamReader
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Converted:
    """A stream that was made from another one."""

    data: bytes  # the new stream
    tokens: Tokens  # what both hold
    lost: tuple[str, ...]  # what of the old stream the new one does not say, in words


def convert(
    data: bytes,
    to: str,
    *,
    lm: LMLike = "default",
    to_lm: LMLike = None,
    acv: int = 0,
    dialect: str | None = None,
    weights: str | Path | None = None,
    **options: Any,
) -> Converted:
    """Make a stream of another one's codes.

    Args:
        data: A whole ``.cbs`` or ``.ecdc`` stream, undamaged: codes that are lost cannot be written.
        to: ``"cbs"`` or ``"ecdc"``.
        lm: The language model that it was coded with: for ``.cbs`` as for `codecbook.coding.decompress`, for ``.ecdc``
            as for `codecbook.coding.ecdc.load_upstream_lm`.
        to_lm: The one to code the new stream with, likewise; None codes raw.
        acv: Of a new ``.ecdc`` stream; see `codecbook.coding.ecdc.write_ecdc`.
        dialect: Likewise.
        weights: Which weights of the codec made the codes, where an ``.ecdc`` does not say: it only names its model,
            which None takes for the authors' (or this project's bundled one).
        options: Keyword arguments of `codecbook.coding.ecdc.read_ecdc_codes`, for an ``.ecdc`` stream.

    Raises:
        CorruptInput, MissingWeights: The stream is damaged, or models are not here.
        UnsupportedInput: Codes that the other format does not hold.
    """
    if to not in ("cbs", "ecdc"):
        raise UnsupportedInput(f"There is no format {to!r}; choose one of cbs, ecdc.")
    if to == "cbs" and (acv or dialect):
        raise UnsupportedInput(f"acv={acv} and dialect={dialect!r} are of an .ecdc stream; leave them out for a .cbs.")
    is_ecdc, kept, lost = data.startswith(MAGIC), {}, ()
    if is_ecdc:
        tokens, load_codec = _from_ecdc(data, lm, weights, **options)
    else:
        with StreamReader(data) as reader:
            header = reader.header
            reader.model = stream_models.lm_of(header, lm)
            read = reader.read()
            kept = {name: getattr(header, name) for name in ("exact_sha256", "audio_sha256", "adapt_step", "parity")}
            kept["segment_s"] = header.rows_per_segment / header.format.frame_rates_hz[0]
        if read.damage:
            raise CorruptInput(f"{read.damage[0]} A damaged stream is not converted; decode what is left of it.")
        tokens, load_codec = read.tokens, lambda: stream_models.codec_of(header, None, weights)
        if find_inner_code(data[:HEAD_BYTES], data[-HEAD_BYTES:], len(data)):
            lost = ("the inner code: wrong bytes are noticed, and no longer corrected",)
    if to == "ecdc":
        new = write_ecdc_codes(tokens, to_lm if acv else None, acv, dialect)
        return Converted(new, tokens, () if is_ecdc else (*lost, *_lost_in_ecdc(tokens, acv)))
    model, name = stream_models.choose_lm(to_lm, tokens.format, load_codec)
    shape = MODEL_SHAPES.get(tokens.codec)
    stride = (shape.stride_samples or 0) if shape and tokens.segment_frames else 0
    if model is None:
        kept["adapt_step"] = 0  # it changes a model's logits
    new = stream.encode_tokens(tokens, model, lm_name=name, codec_segment_stride=stride, **kept)
    return Converted(new, tokens, lost)


def _from_ecdc(
    data: bytes, lm: LMLike, weights: str | Path | None, **options: Any
) -> tuple[Tokens, Callable[[], Codec]]:
    """Return the codes of an ``.ecdc``, and how to load their codec."""
    read = read_ecdc_codes(data, lm, strict=True, **options)
    shape, tokens = shape_named(read.header.model_name), read.tokens
    if weights is None:
        tokens = replace(tokens, weights=tokens.weights or "pretrained")
        return tokens, lambda: stream_models.codec_by_name(shape.codec, shape.weights)
    codec = stream_models.codec_by_name(shape.codec, weights)
    tokens = replace(tokens, weights=str(codec.weights), weights_sha256=codec.weights.sha256)
    codec.check_tokens(tokens)
    return tokens, lambda: codec


def _lost_in_ecdc(tokens: Tokens, acv: int) -> tuple[str, ...]:
    lost = []
    if tokens.weights and not tokens.weights.startswith(shape_of_tokens(tokens).weights):
        lost.append(
            f"the weights ({tokens.weights}): an .ecdc stream names its model alone, and is decoded with the authors'"
        )
    if acv != 4:
        lost.append("checksums: without them most damage goes unnoticed (acv=4 has them)")
    lost.append("the index: an .ecdc stream is decoded from its beginning")
    return tuple(lost)
