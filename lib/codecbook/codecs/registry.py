"""Codecs by name."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from codecbook.codecs.base import Codec
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import parse_weights

# modules of `codecbook.codecs.adapters`, each with a function `load`; imported at first use, because some need seconds
# for it, or an optional package
_ADAPTERS = {
    "encodec_24khz": "encodec",
    "encodec_48khz": "encodec",
    "snac_24khz": "snac",
    "dac_44khz": "dac",
    "mimi": "mimi",
    "neucodec": "neucodec",
    "lyra_v2": "lyra",
    "fsq_50hz": "fsq",
    "units_25hz": "units",
}

# what the authors' weights are to download, about, in 10^6 bytes: by the files' own sizes, or 4 bytes a parameter
DOWNLOAD_MB = {
    "encodec_24khz": 93,
    "encodec_48khz": 76,
    "snac_24khz": 79,
    "dac_44khz": 306,
    "mimi": 385,
    "neucodec": 2520,
}


def codec_names() -> tuple[str, ...]:
    """Return the names that `load_codec` takes."""
    return tuple(_ADAPTERS)


def load_codec(name: str, weights: str | Path = "bundled", device: str = "cpu", exact: bool = False) -> Codec:
    """Load a codec of `codec_names`; ``codec.weights`` says where its weights are from.

    Args:
        name: One of `codec_names`.
        weights: ``"bundled"`` (small, trained by this project's own code), ``"pretrained"`` (the authors', from the
            hub or its cache), ``"random"`` or ``"random:SEED"`` (the authors' architecture at full size; for code
            paths and tests), or a path to weights in the authors' format or in this project's.
        device: Torch device.
        exact: Whether to compute in integers: tokens and samples are then the same on every machine
            (``docs/exact-codec.md``), of EnCodec, SNAC and ``fsq_50hz``. Making them of the weights takes seconds.

    Raises:
        MissingWeights: There are no such weights here, and they could not be fetched.
        CorruptInput: Weights that are damaged.
        UnsupportedInput: An unknown name, weights of another model, or a device that is not there; with `exact` a
            codec that has no exact form, or weights for which none can be certified.

    Example:
        >>> load_codec("encodec_24khz", weights="random:0").codebook_sizes[:3]
        (1024, 1024, 1024)
    """
    request = parse_weights(known(name), weights)
    module = adapter(name)
    if exact:
        return import_module("codecbook.codecs.exact.codec").load(module, name, request, device)
    return module.load(name, request, device)


def adapter(name: str) -> ModuleType:
    """Return the module of `codecbook.codecs.adapters` for a codec; an unknown name raises UnsupportedInput."""
    return import_module(f"codecbook.codecs.adapters.{_ADAPTERS[known(name)]}")


def known(name: str) -> str:
    """Return the name of a codec; an unknown one raises UnsupportedInput."""
    if name not in _ADAPTERS:
        raise UnsupportedInput(f"There is no codec {name!r}; choose one of {', '.join(_ADAPTERS)}.")
    return name
