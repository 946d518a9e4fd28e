"""Codecs by name."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from codecbook.codecs.base import Codec
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import WeightsRequest, parse_weights

# module and function; imported at first use, because some need seconds to import, or an optional package
_LOADERS = {
    "encodec_24khz": ("encodec", "load_encodec"),
    "encodec_48khz": ("encodec", "load_encodec"),
    "snac_24khz": ("snac", "load_snac"),
    "dac_44khz": ("dac", "load_dac"),
    "mimi": ("mimi", "load_mimi"),
    "neucodec": ("neucodec", "load_neucodec"),
    "lyra_v2": ("lyra", "load_lyra"),
    "fsq_50hz": ("fsq", "load_fsq"),
    "units_25hz": ("units", "load_units"),
}


def codec_names() -> tuple[str, ...]:
    """Return the names that `load_codec` takes."""
    return tuple(_LOADERS)


def load_codec(name: str, weights: str | Path = "bundled", device: str = "cpu") -> Codec:
    """Load a codec.

    Args:
        name: One of `codec_names`.
        weights: ``"bundled"`` (small, trained by this project's own code), ``"pretrained"`` (the authors', from the
            hub or its cache), ``"random"`` or ``"random:SEED"`` (the authors' architecture at full size; for code
            paths and tests), or a path to weights in the authors' format or in this project's.
        device: Torch device.

    Returns:
        The codec; ``codec.weights`` says where its weights are from.

    Raises:
        MissingWeights: There are no such weights here, and they could not be fetched.
        CorruptInput: Weights that are damaged.
        UnsupportedInput: An unknown name, weights of another model, or a device that is not there.

    Example:
        >>> load_codec("encodec_24khz", weights="random:0").codebook_sizes[:3]
        (1024, 1024, 1024)
    """
    if name not in _LOADERS:
        raise UnsupportedInput(f"There is no codec {name!r}; choose one of {', '.join(_LOADERS)}.")
    module, function = _LOADERS[name]
    request = parse_weights(name, weights)
    load: Callable[[str, WeightsRequest, str], Codec] = getattr(
        import_module(f"codecbook.codecs.adapters.{module}"), function
    )
    return load(name, request, device)
