"""The models behind an ``.ecdc`` stream: EnCodec in any of its wrappings, and the language model of its tokens."""

from pathlib import Path
from typing import Any

import torch

from codecbook.codecs.base import Codec
from codecbook.codecs.encodec_package import encodec
from codecbook.codecs.weights import connect_timeout, load_state, missing, read_state, seeded
from codecbook.errors import UnsupportedInput

EncodecModel = encodec.model.EncodecModel
LMModel = encodec.model.LMModel

LM_CHECKPOINTS = {
    "encodec_24khz": "encodec_lm_24khz-1608e3c0.th",
    "encodec_48khz": "encodec_lm_48khz-7add9fc3.th",
}
_NUM_LAYERS = 5
_DIM = 200
_CONTEXT_S = 3.5


def network_of(model: Any) -> EncodecModel:
    """Return the package's ``EncodecModel`` in a model: itself, or what one of our EnCodec adapters holds.

    Raises:
        UnsupportedInput: Another kind of model.
    """
    network = model.module if isinstance(model, Codec) else model
    if not isinstance(network, EncodecModel):
        raise UnsupportedInput(
            f".ecdc is EnCodec's format; received a {type(network).__name__}: give an EncodecModel of the package "
            "encodec, or codecbook.codecs.load_codec('encodec_24khz')."
        )
    return network


def build_lm(model: Any, seed: int = 0) -> LMModel:
    """Build upstream's language model for an EnCodec, with random weights: for code paths, tests and speed.

    5 layers of 200 dimensions and 8 heads, a context of 3.5 s, all codebooks in parallel (EnCodec, section 3.3).

    Args:
        model: An ``EncodecModel`` or an adapter of one.
        seed: For the weights.

    Raises:
        UnsupportedInput: Another kind of model.
    """
    network = network_of(model)
    with seeded(seed):
        lm = LMModel(
            network.quantizer.n_q,
            network.quantizer.bins,
            num_layers=_NUM_LAYERS,
            dim=_DIM,
            past_context=int(_CONTEXT_S * network.frame_rate),
        )
    return lm.eval()


def load_lm(model: Any, source: str | Path | None = None) -> LMModel:
    """Load upstream's language model for ``encodec_24khz`` or ``encodec_48khz``, in evaluation mode on the CPU.

    Args:
        model: An ``EncodecModel`` or an adapter of one.
        source: A file with its weights, or a folder that holds upstream's file; None downloads it (torch.hub's cache
            first).

    Raises:
        MissingWeights: The file is not there, or could not be fetched.
        UnsupportedInput: Another kind of model, one for which upstream has none, or weights of another shape.
        CorruptInput: The file is damaged.
    """
    network = network_of(model)
    name = f"the language model of {network.name}"
    if source is None:
        if network.name not in LM_CHECKPOINTS:
            raise UnsupportedInput(
                f"Upstream has language models for {', '.join(LM_CHECKPOINTS)}, not for {network.name!r}; give a file, "
                "or build_lm(...) with random weights."
            )
        checkpoint = LM_CHECKPOINTS[network.name]
        url = f"{encodec.model.ROOT_URL}{checkpoint}"
        try:
            with connect_timeout():
                state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True)
        except (OSError, RuntimeError) as error:
            raise missing(name, url, error, f"load_lm(model, source=...) with {checkpoint}") from error
        lm = build_lm(network)
        load_state(lm, state, Path(checkpoint))
        return lm
    path = Path(source)
    file = path / LM_CHECKPOINTS.get(network.name, "") if path.is_dir() else path
    if not file.is_file():
        raise missing(name, str(path), f"there is no file {file}", "load_lm(model, source=...) with the file")
    lm = build_lm(network)
    load_state(lm, read_state(file), file)
    return lm
