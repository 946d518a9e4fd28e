"""Load codecs that the package ``transformers`` implements: from the hub, its cache, a folder, or a seed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from codecbook.codecs.base import Weights
from codecbook.codecs.model_files import tensors_sha256
from codecbook.codecs.weights import WeightsRequest, from_hub, missing, seeded
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput

_FILES = "config.json and model.safetensors"


def load_transformers(
    name: str, model_class: Any, repository: str, request: WeightsRequest, draw: Callable[[], Any]
) -> tuple[Any, Weights]:
    """Return a model with the weights that were asked for, in evaluation mode and float32.

    Args:
        name: Codec.
        model_class: With ``from_pretrained``.
        repository: On the hub.
        request: Of `parse_weights`.
        draw: Makes the full-size model with random weights; called with torch's generator seeded.

    Raises:
        MissingWeights: The weights are not here and could not be fetched.
        CorruptInput: Files that are damaged.
        UnsupportedInput: Weights of another model.
    """
    if request.kind == "bundled":
        raise UnsupportedInput(
            f"This project trains no {name} of its own, and {request.path} is a folder of its models; give a folder "
            f"with {_FILES} of {repository}."
        )
    if request.kind == "random":
        with seeded(request.seed):
            model, source = draw().eval(), f"seed {request.seed}"
    elif request.path is None:
        remedy = f"a folder with {_FILES} of {repository}"
        model, source = from_hub(
            name,
            repository,
            lambda place, local_files_only: _complete(model_class, place, local_files_only),
            remedy,
        )
    else:
        model, source = _from_folder(name, model_class, repository, request.path), str(request.path)
    return model, Weights(request.kind, source, tensors_sha256(model.state_dict()))


def _from_folder(name: str, model_class: Any, repository: str, path: Path) -> Any:
    if not (path / "config.json").is_file():
        raise missing(
            name, str(path), "it is no folder with a config.json", f"a folder with {_FILES} of {repository}"
        )
    try:
        return _complete(model_class, str(path), local_files_only=True)
    except CodecbookError:
        raise
    except Exception as error:  # json, safetensors, shapes: each reader of a damaged file raises its own
        reason = " ".join(str(error).split())[:300]
        raise CorruptInput(
            f"{path} could not be read as a {name} model ({reason}); fetch {repository} again."
        ) from error


def _complete(model_class: Any, place: str, local_files_only: bool) -> Any:
    """Load a model and make sure that no parameter was left at random, which transformers merely logs."""
    with _quiet():
        model, info = model_class.from_pretrained(
            place, local_files_only=local_files_only, output_loading_info=True
        )
    left_random = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if left_random:
        raise UnsupportedInput(
            f"The weights in {place} lack {len(left_random)} parameters of {model_class.__name__} (first: "
            f"{left_random[0]}); they are of another model."
        )
    return model.float().eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bar and its report on keys off the terminal; the checks here say what matters."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
