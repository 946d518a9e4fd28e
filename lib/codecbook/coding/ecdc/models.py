"""The models behind an ``.ecdc`` stream: EnCodec in any of its wrappings, and the language model of its tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from codecbook.codecs.base import Codec
from codecbook.coding.counts import GridDialect
from codecbook.coding.ecdc.lm import PackageStepper
from codecbook.coding.ecdc.segments import ModelShape, shape_of
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import connect_timeout, load_state, missing, parse_weights, read_state, seeded

if TYPE_CHECKING:  # else where it is used: streams of codecbook are read without it
    from encodec.model import EncodecModel, LMModel

LM_CHECKPOINTS = {"encodec_24khz": "encodec_lm_24khz-1608e3c0.th", "encodec_48khz": "encodec_lm_48khz-7add9fc3.th"}
UPSTREAM_SHAPE = {"dim": 200, "layers": 5, "heads": 8, "hidden": 800, "context_s": 3.5}
"""Of EnCodec's language models (section 3.3 and package ``encodec`` 0.1.1); all codebooks in parallel."""
LMSource = nn.Module | str | Path | None
"""A language model: itself, what `load_upstream_lm` takes as `source`, or None."""
_ROOT_URL = "https://dl.fbaipublicfiles.com/encodec/v0/"


def network_of(model: Any) -> "EncodecModel":
    """Return the package's ``EncodecModel`` in a model: itself, or what one of our adapters holds; refuse others."""
    from codecbook.codecs.encodec_package import encodec

    network = model.module if isinstance(model, Codec) else model
    if not isinstance(network, encodec.model.EncodecModel):
        raise UnsupportedInput(f".ecdc is EnCodec's format; received a {type(network).__name__}: give an EncodecModel.")
    return network


def upstream_lm(num_codebooks: int, codebook_size: int, frame_rate_hz: float, seed: int = 0) -> "LMModel":
    """Build upstream's language model with random weights, which cost as much time as trained ones.

    The codec's frame rate sets how many frames the model remembers.
    """
    from codecbook.codecs.encodec_package import encodec

    shape = UPSTREAM_SHAPE
    with seeded(seed):
        lm = encodec.model.LMModel(
            num_codebooks, codebook_size, num_layers=int(shape["layers"]), dim=int(shape["dim"]),
            past_context=int(shape["context_s"] * frame_rate_hz),
        )  # fmt: skip
    return lm.eval()


def load_upstream_lm(model: Any, source: str | Path = "default") -> "LMModel":
    """Load upstream's language model for ``encodec_24khz`` or ``encodec_48khz``, in evaluation mode on the CPU.

    The model is an ``EncodecModel``, an adapter of one, or the shape of one. `source` is ``"default"`` for the authors'
    weights, downloaded where they are not in torch.hub's cache; a file with weights, or a folder that holds upstream's
    file; ``"random"`` or ``"random:SEED"`` (for code paths and tests).

    Raises:
        MissingWeights: The file is not there, or could not be fetched.
        UnsupportedInput: A model for which upstream has none, weights of another shape, or a seed that is no number.
        CorruptInput: The file is damaged.
    """
    shape = model if isinstance(model, ModelShape) else shape_of(network_of(model))
    name, checkpoint = f"the language model of {shape.name}", LM_CHECKPOINTS.get(shape.name, "")
    seed, state, file = 0, None, Path(checkpoint)
    if str(source).partition(":")[0] == "random":
        seed = parse_weights("lm", source).seed
    elif source != "default":
        path = Path(source)
        file = path / checkpoint if path.is_dir() else path
        if not file.is_file():
            raise missing(
                name, str(path), f"there is no file {file}", "load_upstream_lm(model, source=...) with the file"
            )
        state = read_state(file)
    elif checkpoint:
        url = f"{_ROOT_URL}{checkpoint}"
        try:
            with connect_timeout():
                state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True)
        except (OSError, RuntimeError) as error:
            raise missing(name, url, error, f"load_upstream_lm(model, source=...) with {checkpoint}") from error
    else:
        raise UnsupportedInput(
            f"There is no language model of upstream's for {shape.name!r}; give a file, or 'random:0'."
        )
    lm = upstream_lm(shape.num_codebooks, shape.codebook_size, shape.frame_rate_hz, seed)
    if state is not None:
        load_state(lm, state, file)
    return lm


def placed_lm(lm: LMSource, dialect: GridDialect | None, shape: ModelShape, device: str = "cpu") -> PackageStepper:
    """Load a language model that is given by name or file, and place it for streams of a model of this shape."""
    if isinstance(lm, str | Path):
        lm = load_upstream_lm(shape, lm)
    if not isinstance(lm, nn.Module):
        raise UnsupportedInput(f"A language model must be a torch module; received {type(lm).__name__}.")
    size = getattr(lm, "card", shape.codebook_size)
    if size != shape.codebook_size:
        raise UnsupportedInput(
            f"A language model of {size} codes does not fit codebooks of {shape.codebook_size}; use the codec's own."
        )
    return PackageStepper(lm, dialect, device)
