"""Which codec and which language model a stream is made with, and how a decoder finds the same ones again.

Models are looked for by name and recognised by the SHA-256 of their weights. Only names are taken from a stream, never
paths: a stream cannot make its reader open a file of its choice.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecbook.codecs import Codec, codec_names, load_codec
from codecbook.coding.stream.header import StreamHeader
from codecbook.coding.stream.writer import stream_order
from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.lm.exact.files import load_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.paths import data_dir
from codecbook.tokens import TokenFormat
from codecbook.tokens.tokens import same_digest

_SIMPLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
LMLike = Any
"""``"default"``, a folder, an ``ExactLM``, a `NamedLM`, or None."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedLM:
    """An exact language model and the name that streams call it by."""

    name: str  # of its folder in data/models, or of any other folder
    model: ExactLM


def default_lm(codec: Codec | str) -> NamedLM:
    """Load the bundled exact language model of a codec: ``data/models/lm_<model>``, or ``exact`` inside it.

    `codec` has bundled weights, or is the name of their folder (``"encodec_24khz_mini"``).

    Raises:
        MissingWeights: There is none.
        CorruptInput: Its files are damaged.
    """
    if isinstance(codec, str):
        return _load_bundled(f"lm_{codec}")
    if codec.weights.kind != "bundled":
        raise MissingWeights(
            f"{codec.name} ({codec.weights}) has no bundled language model; pass lm= a folder that "
            "codecbook.lm.exact.save_exact wrote, or lm=None for raw coding."
        )
    return _load_bundled(f"lm_{Path(codec.weights.source).name}")


def _load_bundled(name: str) -> NamedLM:
    folder = data_dir() / "models" / name
    if not _SIMPLE_NAME.fullmatch(name) or not folder.is_dir():
        raise MissingWeights(
            f"There is no exact language model {name!r} in {data_dir() / 'models'}; train and export one with 'python "
            "-m codecbook.lm', pass lm= the folder of one, or encode with lm=None, which codes raw."
        )
    return _load(folder)


def _load(lm: LMLike) -> NamedLM:
    if isinstance(lm, NamedLM):
        return lm
    if not isinstance(lm, str | Path):
        return NamedLM("", lm)
    folder = Path(lm)
    name = folder.parent.name if folder.name == "exact" else folder.name
    return NamedLM(name, load_exact(folder / "exact" if (folder / "exact").is_dir() else folder))


def choose_lm(lm: LMLike, known: TokenFormat, codec: Callable[[], Codec]) -> tuple[ExactLM | None, str]:
    """Load the language model that an encoder asks for, and its name; (None, "") is raw coding.

    Raw is also what becomes of ``"default"`` (see `default_lm`) where that model was trained for another number of
    codebooks than `known`, the tokens at the bandwidth that is asked for. A warning then says so.

    Raises:
        MissingWeights: There is no such model.
        UnsupportedInput: A model that was named is not one for these codebooks.
    """
    if lm is None:
        return None, ""
    is_default = isinstance(lm, str) and lm == "default"
    named = default_lm(codec()) if is_default else _load(lm)
    try:
        stream_order(known, named.model)
    except UnsupportedInput as error:
        if not is_default:
            raise
        _log.warning("%s is not used, and codes are stored raw: %s", named.name, error)
        return None, ""
    return named.model, named.name


def lm_of(header: StreamHeader, lm: LMLike = "default") -> ExactLM | None:
    """Load the language model that a stream was coded with; None for a raw stream.

    `lm` is ``"default"``, which looks for the name that the header gives in ``data/models``, a folder, or a model. One
    that is not there, or None although the stream needs one, raises MissingWeights; other weights than the stream was
    coded with UnsupportedInput.
    """
    model = None
    if header.coder == "exact" and lm is not None:
        model = (_load_bundled(header.lm_name) if isinstance(lm, str) and lm == "default" else _load(lm)).model
    check_lm(header, model)
    return model


def check_lm(header: StreamHeader, model: ExactLM | None) -> None:
    """Raise MissingWeights where a stream needs a language model and there is none, UnsupportedInput: it is another."""
    if header.coder == "raw":
        return
    wanted = f"{header.lm_name!r} (SHA-256 {header.lm_sha256[:12]}...)"
    if model is None:
        raise MissingWeights(f"This stream was coded with the language model {wanted}; pass it as lm=.")
    if not same_digest(model.sha256, header.lm_sha256) or tuple(model.codebook_sizes) != header.columns:
        raise UnsupportedInput(
            f"This stream was coded with the language model {wanted}, and the one here is of SHA-256 "
            f"{model.sha256[:12]}...; pass the right one as lm=."
        )


def codec_by_name(name: str, weights: str | Path | None = None, exact: bool = False) -> Codec:
    """Load a codec by its registry name, or by the name of its bundled weights (``"encodec_24khz_mini"``)."""
    base = name.removesuffix("_mini")
    registry_name = base if name not in codec_names() and base in codec_names() else name
    return load_codec(registry_name, "bundled" if weights is None else weights, exact=exact)


def codec_of(header: StreamHeader, codec: Codec | None = None, weights: str | Path | None = None) -> Codec:
    """Load the codec that a stream's audio was encoded with, or check the one that is loaded already.

    `weights` says where its weights are, if not where the stream's label says. Weights that are not there raise
    MissingWeights; a stream that names no codec, or other weights than its own, UnsupportedInput.
    """
    known = header.format
    if codec is None:
        if not known.codec:
            raise UnsupportedInput("The stream does not say which codec made it; pass codec=, or read its tokens.")
        # the first streams of exact codecs have the hash of their audio alone
        exact = bool(header.exact_sha256 or header.audio_sha256)
        codec = load_codec(known.codec, weights or _weights_of(known), exact=exact)
    if known.weights_sha256 and not same_digest(codec.weights.sha256, known.weights_sha256):
        raise UnsupportedInput(
            f"The stream was made with the weights {known.weights!r} of {known.codec} (SHA-256 "
            f"{known.weights_sha256[:12]}...), and those here are {str(codec.weights)!r} "
            f"({codec.weights.sha256[:12]}...); pass the right ones as weights=."
        )
    made, ours = header.exact_sha256, codec.exact_sha256
    if made and ours and not same_digest(ours, made):
        raise UnsupportedInput(
            f"The stream was made by an exact model of {known.codec} (SHA-256 {made[:12]}...), and the one here is an "
            f"exact model of another codec ({ours[:12]}...), which decodes other samples; take the version of "
            "codecbook that made the stream, or decode in floats: codec=load_codec(...) without exact."
        )
    return codec


def _weights_of(known: TokenFormat) -> str:
    """Turn what `Weights` prints (``"random: seed 3"``) into an argument of `load_codec`; never into a path."""
    kind, _, source = known.weights.partition(": ")
    seed = source.removeprefix("seed ")
    if kind == "random" and seed.isdecimal():
        return f"random:{seed}"
    if kind not in ("bundled", "pretrained"):
        raise UnsupportedInput(
            f"The stream was made with the weights {known.weights!r}, which are not found by name; pass weights=."
        )
    return kind
