"""The models behind an ``.ecdc`` stream: EnCodec in any of its wrappings, and the language model of its tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from codecbook.codecs.base import Codec
from codecbook.coding.ecdc.segments import ModelShape, shape_of
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import connect_timeout, load_state, missing, parse_weights, read_state, seeded

if TYPE_CHECKING:  # else where it is used: streams of codecbook are read without it
    from encodec.model import EncodecModel, LMModel

LM_CHECKPOINTS = {"encodec_24khz": "encodec_lm_24khz-1608e3c0.th", "encodec_48khz": "encodec_lm_48khz-7add9fc3.th"}
UPSTREAM_SHAPE = {"dim": 200, "layers": 5, "heads": 8, "hidden": 800, "context_s": 3.5}
"""Of EnCodec's language models (section 3.3 and package ``encodec`` 0.1.1); all codebooks in parallel."""
_ROOT_URL = "https://dl.fbaipublicfiles.com/encodec/v0/"


def network_of(model: Any) -> "EncodecModel":
    """Return the package's ``EncodecModel`` in a model: itself, or what one of our EnCodec adapters holds.

    Raises:
        UnsupportedInput: Another kind of model.
    """
    from codecbook.codecs.encodec_package import encodec

    network = model.module if isinstance(model, Codec) else model
    if not isinstance(network, encodec.model.EncodecModel):
        raise UnsupportedInput(
            f".ecdc is EnCodec's format; received a {type(network).__name__}: give an EncodecModel of the package "
            "encodec, or codecbook.codecs.load_codec('encodec_24khz')."
        )
    return network


def upstream_lm(num_codebooks: int, codebook_size: int, frame_rate_hz: float, seed: int = 0) -> "LMModel":
    """Build upstream's language model with random weights, which cost as much time as trained ones.

    Args:
        num_codebooks: K.
        codebook_size: V.
        frame_rate_hz: Of the codec; sets how many frames the model remembers.
        seed: For the weights.
    """
    from codecbook.codecs.encodec_package import encodec

    shape = UPSTREAM_SHAPE
    with seeded(seed):
        lm = encodec.model.LMModel(
            num_codebooks, codebook_size, num_layers=int(shape["layers"]), dim=int(shape["dim"]),
            past_context=int(shape["context_s"] * frame_rate_hz),
        )  # fmt: skip
    return lm.eval()


def random_upstream_lm(model: Any, seed: int = 0) -> "LMModel":
    """Return `upstream_lm` for an ``EncodecModel``, an adapter of one, or the shape of one.

    Raises:
        UnsupportedInput: Another kind of model.
    """
    shape = _shape(model)
    return upstream_lm(shape.num_codebooks, shape.codebook_size, shape.frame_rate_hz, seed)


def load_upstream_lm(model: Any, source: str | Path | None = None) -> "LMModel":
    """Load upstream's language model for ``encodec_24khz`` or ``encodec_48khz``, in evaluation mode on the CPU.

    Args:
        model: An ``EncodecModel``, an adapter of one, or the shape of one.
        source: A file with its weights, or a folder that holds upstream's file; None downloads it (torch.hub's cache
            first).

    Raises:
        MissingWeights: The file is not there, or could not be fetched.
        UnsupportedInput: Another kind of model, one for which upstream has none, or weights of another shape.
        CorruptInput: The file is damaged.
    """
    shape = _shape(model)
    name, checkpoint = f"the language model of {shape.name}", LM_CHECKPOINTS.get(shape.name, "")
    if source is not None:
        path = Path(source)
        file = path / checkpoint if path.is_dir() else path
        if not file.is_file():
            raise missing(
                name, str(path), f"there is no file {file}", "load_upstream_lm(model, source=...) with the file"
            )
        state = read_state(file)
    elif checkpoint:
        file, url = Path(checkpoint), f"{_ROOT_URL}{checkpoint}"
        try:
            with connect_timeout():
                state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True)
        except (OSError, RuntimeError) as error:
            raise missing(name, url, error, f"load_upstream_lm(model, source=...) with {checkpoint}") from error
    else:
        raise UnsupportedInput(
            f"Upstream has language models for {', '.join(LM_CHECKPOINTS)}, not for {shape.name!r}; give a file, "
            "or random_upstream_lm(...) with random weights."
        )
    lm = random_upstream_lm(shape)
    load_state(lm, state, file)
    return lm


def lm_like(lm: Any, model: Any) -> Any:
    """Load a language model that is given by name, file or itself.

    Args:
        lm: ``"default"`` for the authors', ``"random"`` or ``"random:SEED"`` (for code paths and tests), a file or
            folder as for `load_upstream_lm`, a module, or None.
        model: As for `load_upstream_lm`.

    Raises:
        CodecbookError: As `load_upstream_lm`; of a seed, as `codecbook.codecs.load_codec`.
    """
    if not isinstance(lm, str | Path):
        return lm
    if lm == "default":
        return load_upstream_lm(model)
    if str(lm).partition(":")[0] == "random":
        return random_upstream_lm(model, parse_weights("lm", lm).seed)
    return load_upstream_lm(model, lm)


def _shape(model: Any) -> ModelShape:
    return model if isinstance(model, ModelShape) else shape_of(network_of(model))
