"""Networks of codecs: this project's own, saved and loaded; the authors', from the hub or a path; random ones.

This project's lie in folders of `codecbook.models.store`: tensors are stored as float16 and used as float32, which is
exact. EnCodec's running averages (``embed_avg``, ``cluster_size``), of use in training alone, are not stored.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codecbook.codecs.base import Weights
from codecbook.codecs.build import ARCHITECTURES, architecture_shapes, build_architecture
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.models import hub, store
from codecbook.models.weights import WeightsRequest, missing, model_source, seeded

_TRAINING_ONLY = (".embed_avg", ".cluster_size")


def load_network(
    name: str,
    request: WeightsRequest,
    own: type[nn.Module],
    draw: Callable[[], nn.Module],
    pretrained: Callable[[Path | None], tuple[nn.Module, str]] | None = None,
) -> tuple[Any, Weights]:
    """Return a network in evaluation mode with the weights that were asked for, and where these are from.

    A model folder of this project must hold one of class `own`. `draw` makes the full-size network with random
    weights; torch's generator is seeded before. `pretrained` loads the authors' network from a path, or fetches it
    where that is None, and says where it is from; a codec of this project alone has none. Weights that could not be
    found or fetched raise MissingWeights, damaged ones CorruptInput, those of another model UnsupportedInput.
    """
    if request.kind == "bundled":
        assert request.path is not None
        module, config = load_model(request.path)
        if not isinstance(module, own):
            raise UnsupportedInput(f"The model in {request.path} is of {config['architecture']}, not of {name}.")
        return module, Weights("bundled", model_source(request.path), config["sha256"])
    if request.kind == "compressed":
        # the room of probes is above this one; it reads what it wrote
        return import_module("codecbook.probes.weights.loading").load_network(request.path, own, name)
    if request.kind == "random":
        with seeded(request.seed), torch.no_grad():
            module, source = draw(), f"seed {request.seed}"
    elif pretrained is None:
        raise missing(
            name,
            str(request.path or "the hub"),
            "this codec is this project's own, so all of its weights are bundled",
            "a folder that codecbook.codecs.training wrote, or use weights='bundled'",
        )
    else:
        module, source = pretrained(request.path)
    return module.eval(), Weights(request.kind, source, store.tensors_sha256(module.state_dict()))


def load_from_hub(
    name: str, repository: str, load: Callable[..., Any], files: Sequence[str], needed: int, path: Path | None
) -> tuple[Any, str]:
    """Return a codec's network from a folder, or from a repository of the hub where `path` is None, and which it was.

    `load` takes a folder or the repository, and ``local_files_only``. A folder must hold the first `needed` of `files`.
    What is cached on this machine is used without a network. Raises as `load_network`.
    """
    remedy = f"a folder with {' and '.join(files)} of {repository}"
    if path is not None:
        absent = [file for file in files[:needed] if not (path / file).is_file()]
        if absent:
            raise missing(name, str(path), f"it is no folder with a {absent[0]}", remedy)
        return _read(name, repository, load, str(path), local_files_only=True), str(path)
    try:
        return load(repository, local_files_only=True), repository
    except CodecbookError:
        raise
    except Exception:  # not cached, or damaged
        hub.check_cached(repository, files)
    hub.fetch_repository(name, repository, files, remedy)
    return _read(name, repository, load, repository, local_files_only=False), repository


def _read(name: str, repository: str, load: Callable[..., Any], place: str, local_files_only: bool) -> Any:
    try:
        return load(place, local_files_only=local_files_only)
    except CodecbookError:
        raise
    except Exception as error:  # json, pickle, zip, shapes: each reader of a damaged file raises its own
        reason = " ".join(str(error).split())[:300]
        raise CorruptInput(
            f"{place} could not be read as a {name} model ({reason}); fetch {repository} again."
        ) from error


def load_transformers(
    name: str, model_class: Any, repository: str, request: WeightsRequest, draw: Callable[[], nn.Module]
) -> tuple[Any, Weights]:
    """As `load_network`, of a class of ``transformers`` with weights in a repository of the hub."""
    files = ("config.json", "model.safetensors")
    if request.kind == "bundled":
        raise UnsupportedInput(
            f"This project trains no {name} of its own, and {request.path} is a folder of its models; give a folder "
            f"with {' and '.join(files)} of {repository}."
        )

    def load(place: str, local_files_only: bool) -> Any:
        with _quiet():
            model, info = model_class.from_pretrained(
                place, local_files_only=local_files_only, output_loading_info=True
            )
        # transformers merely logs that parameters were left at random
        left_random = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
        if left_random:
            raise UnsupportedInput(
                f"The weights in {place} lack {len(left_random)} parameters of {model_class.__name__} (first: "
                f"{left_random[0]}); they are of another model."
            )
        return model.float()

    return load_network(
        name, request, model_class, draw, lambda path: load_from_hub(name, repository, load, files, 1, path)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bar and its report on keys off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@torch.no_grad()
def keep_signal_alive(module: nn.Module, run: Callable[[Tensor], Any], probe: Tensor) -> None:
    """Rescale random convolutions so that audio passes: zero bias, output of unit deviation, in forward order.

    With the packages' default initialisation the signal dies over some fifteen convolutions, and every clip
    would have the same tokens (data-dependent initialisation, Salimans and Kingma 2016, section 3). `run` sends the
    probe ``[1, C, S]`` through all of the module, which is changed in place.
    """

    def rescale(convolution: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if convolution.bias is not None:
            output = output - convolution.bias[:, None]
            convolution.bias.zero_()
        deviation = output.std()
        # what scales the weight linearly, with weight norm of either kind or without
        if hasattr(convolution, "weight_g"):
            gain = convolution.weight_g
        elif parametrize.is_parametrized(convolution, "weight"):
            gain = convolution.parametrizations.weight.original0
        else:
            gain = convolution.weight
        gain.div_(deviation)
        return output / deviation

    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv1d | nn.ConvTranspose1d)]
    with hooked(convolutions, rescale):
        run(probe)


@contextlib.contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Tensor | None]) -> Iterator[None]:
    """Call a forward hook on each of the modules inside the block."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def save_model(
    folder: str | Path, module: nn.Module, architecture: str, arguments: dict, provenance: dict, overwrite: bool = False
) -> str:
    """Write a model that `build_architecture(architecture, arguments)` built, and return the SHA-256 of its tensors.

    The provenance is whatever tells where the weights are from: data, seed, steps, measured quality.

    Raises:
        CodecbookError: The folder holds a model and `overwrite` is False, or one of another kind.
        CorruptInput: A parameter is not finite, or too large for float16.
        UnsupportedInput: The module is not what architecture and arguments build.
    """
    folder = Path(folder)
    store.refuse_existing(folder, overwrite, ARCHITECTURES)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in _stored(module.state_dict()).items()
    }
    store.check_shapes(_stored(architecture_shapes(architecture, arguments)), tensors, folder)
    return store.save_tensors(folder, tensors, architecture, arguments, provenance)


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.endswith(_TRAINING_ONLY)}


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model that `save_model` wrote, in evaluation mode, float32, on the CPU, and its ``config.json``.

    A missing file raises MissingWeights, a truncated or altered one CorruptInput; another format or architecture, or
    parameters that do not fit the configuration, UnsupportedInput.
    """
    folder = Path(folder)
    config = store.read_config(folder, "model", "python -m codecbook.codecs.training")
    tensors = store.load_tensors(folder, config)
    architecture, arguments = config["architecture"], config["arguments"]
    if not store.is_bundled(folder):
        store.check_shapes(_stored(architecture_shapes(architecture, arguments)), tensors, folder)
    module = build_architecture(architecture, arguments)
    state = module.state_dict()
    store.check_shapes({name: list(value.shape) for name, value in _stored(state).items()}, tensors, folder)
    with torch.no_grad():
        for name, value in tensors.items():
            state[name].copy_(value)
        for name, value in state.items():
            if name.endswith(".embed_avg"):
                value.copy_(state[name.removesuffix("_avg")])
            elif name.endswith(".cluster_size"):
                value.fill_(1.0)
    return module.float().eval(), config
