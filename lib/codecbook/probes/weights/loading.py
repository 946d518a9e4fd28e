"""Networks with the weights of a ``.cbw`` file: codecs, for `codecbook.codecs.load_codec`, and language models."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codecbook.codecs.build import architecture_shapes, build_architecture
from codecbook.codecs.networks import fold_weight_norm
from codecbook.errors import UnsupportedInput
from codecbook.lm.models import ARCHITECTURES, build_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.models import store
from codecbook.models.weights import unallocated
from codecbook.probes.weights.records import AS_IT_IS, TIED, CompressedFile, Record
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.tensors import TRAINING_ONLY, effective, folded_name


def load_network(path: Path, own: type[nn.Module], name: str) -> tuple[Any, store.Weights]:
    """Return a codec's network with the weights of a ``.cbw`` file, in evaluation mode, and where they are from.

    Raises UnsupportedInput: a file of another architecture than `own`, or with other tensors than it has.
    """
    file = CompressedFile(path)
    architecture, arguments = file.source.get("architecture"), file.source.get("arguments")
    if not isinstance(architecture, str) or not isinstance(arguments, dict):
        raise UnsupportedInput(f"{path} is not of a codec that codecbook builds; compress a folder of its models.")
    _check_whole(file, architecture_shapes(architecture, arguments))  # before any of it is allocated
    module = build_architecture(architecture, arguments)
    if not isinstance(module, own):
        raise UnsupportedInput(f"{path} is of architecture {architecture}, not of {name}.")
    sha256 = _load_into(module, file, fold_weight_norm)
    return module.eval(), store.Weights("compressed", str(path), sha256)


def load_lm(path: str | Path) -> TokenLM:
    """Return a language model with the weights of a ``.cbw`` file, in evaluation mode.

    Raises UnsupportedInput: a file of another kind of model, or with other tensors than it has.
    """
    file = CompressedFile(path)
    architecture, arguments = file.source.get("architecture"), file.source.get("arguments")
    if architecture not in ARCHITECTURES or not isinstance(arguments, dict):
        raise UnsupportedInput(f"{path} is not of a language model of codecbook; compress the folder of one.")
    try:
        with unallocated():
            unbuilt = build_lm(architecture, arguments)
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes beyond 64 bits
        raise UnsupportedInput(f"{path} describes no model ({str(error).splitlines()[0]}); make it again.") from error
    _check_whole(file, {name: list(tensor.shape) for name, tensor in unbuilt.state_dict().items()})
    with torch.random.fork_rng(devices=[]):
        model = build_lm(architecture, arguments)
    _load_into(model, file, lambda _module: None)
    return model.eval()


def _check_whole(file: CompressedFile, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a file that lacks one of a model's tensors, or has it in another shape."""
    stored = {name: shape for record in file.records for name, shape in record.tensors.items()}
    for name, shape in shapes.items():
        whole = folded_name(name)
        fits = stored.get(name) == tuple(shape)
        if whole in stored:  # a magnitude has a shape of its own
            fits = fits or name.endswith(("_g", "original0")) or stored[whole] == tuple(shape)
        if not fits and not name.endswith(TRAINING_ONLY):
            raise UnsupportedInput(f"{file.path} has no tensor {name} {list(shape)} of its model; make it again.")


def _load_into(module: nn.Module, file: CompressedFile, fold: Callable[[nn.Module], object]) -> str:
    """Give a module, as its architecture builds it, the weights of a file; return their SHA-256.

    `fold` folds its norms between the file's own tensors and those that take a folded weight's place.
    """
    given: dict[str, Tensor] = {}
    folded: dict[str, Tensor] = {}
    for record, tensors in file:
        (folded if record.folded else given).update(zip(record.tensors, tensors, strict=False))
    for record in file.records:
        if record.scheme == TIED:
            first = given.get(record.names[1])
            if first is None:
                raise UnsupportedInput(f"{file.path} lacks {record.names[1]}, which another tensor equals.")
            given[record.names[0]] = first
    _copy(module, given, file.path)
    fold(module)
    _copy(module, folded, file.path)
    if folded or not all(map(_is_lossless, file.records)):
        return store.tensors_sha256(effective(module))
    return store.tensors_sha256(given)  # that of the source


def _is_lossless(record: Record) -> bool:
    return record.scheme in (AS_IT_IS, TIED) or SCHEMES[record.scheme].lossless


def _copy(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    state = module.state_dict()
    for name, tensor in tensors.items():
        if name not in state or state[name].shape != tensor.shape:
            raise UnsupportedInput(f"{path} has a tensor {name} {list(tensor.shape)}, which its model has not.")
        with torch.no_grad():
            state[name].copy_(tensor)
