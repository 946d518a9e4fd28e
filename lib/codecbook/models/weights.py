"""Where weights come from: names of kinds, files of tensors, and what to say if none came."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from codecbook import paths
from codecbook.errors import CodecbookError, CorruptInput, MissingWeights, UnsupportedInput
from codecbook.models.store import is_bundled

COMPRESSED_SUFFIX = ".cbw"  # of what codecbook.probes.weights writes
_RANDOM = re.compile(r"random(?::([0-9]{1,19}))?")
# codecs of this project alone have no weights of other authors; TensorFlow Lite files cannot be drawn at random
_LACKING = {"fsq_50hz": "pretrained", "units_25hz": "pretrained", "lyra_v2": "random:SEED"}


@dataclass(frozen=True)
class WeightsRequest:
    """What a caller asked for."""

    kind: str  # "bundled", "pretrained", "random" or "compressed"
    seed: int = 0  # of random weights
    path: Path | None = None  # of bundled or pretrained weights; None where they are to be fetched, or drawn


def parse_weights(name: str, weights: str | Path) -> WeightsRequest:
    """Understand the `weights` argument of `codecbook.codecs.load_codec`.

    A folder that this project's training wrote, whose configuration names a format, counts as bundled wherever it
    lies; any other path as pretrained. A path that does not exist, or bundled weights that are not there, raise
    MissingWeights; an empty string, or a seed that is no number below 2^63, UnsupportedInput.
    """
    text = str(weights)
    if (match := _RANDOM.fullmatch(text)) and int(match[1] or 0) < 1 << 63:
        return WeightsRequest("random", seed=int(match[1] or 0))
    if text.startswith("random:") or not text:
        raise UnsupportedInput(f"weights={text[:80]!r} has no seed; use random:0, or another number below 2^63.")
    if text == "pretrained":
        return WeightsRequest("pretrained")
    if text == "bundled":
        return WeightsRequest("bundled", path=_bundled_folder(name))
    path = Path(text).expanduser()
    if not path.exists():
        raise MissingWeights(f"No weights are at {path}; give a path, or one of bundled, pretrained, random:SEED.")
    if path.suffix == COMPRESSED_SUFFIX:
        return WeightsRequest("compressed", path=path)
    config = path / "config.json"
    is_own = config.is_file() and '"format": 1' in config.read_text(encoding="utf-8", errors="replace")
    return WeightsRequest("bundled" if is_own else "pretrained", path=path)


def weight_kinds(name: str) -> tuple[str, ...]:
    """Return which values of `weights` a codec takes on this machine, beside a path.

    Pretrained weights are named where they exist at all; whether they can be fetched shows when they are.
    """
    kinds = [kind for kind in ("pretrained", "random:SEED") if kind != _LACKING.get(name)]
    with contextlib.suppress(CodecbookError):  # installed without its data; who asks for bundled weights is told
        if (paths.data_dir() / "models" / f"{name}_mini").is_dir():
            kinds.insert(0, "bundled")
    return tuple(kinds)


def _bundled_folder(name: str) -> Path:
    folder = paths.data_dir() / "models" / f"{name}_mini"
    if not folder.is_dir():
        others = {"pretrained": "weights='pretrained', ", "random:SEED": "weights='random:0' (for tests), "}
        known = "".join(others[kind] for kind in weight_kinds(name))
        raise MissingWeights(f"{name} has no bundled weights (no {folder}); load it with {known}or a path.")
    return folder


def model_source(folder: Path) -> str:
    """Return how to name a model folder in tables: by name where it is one of this checkout's own, else by path."""
    return folder.name if is_bundled(folder) else str(folder)


def missing(
    name: str, source: str, error: Exception | str, remedy: str, first: str = "Connect to the internet"
) -> MissingWeights:
    """Make the error that says what was tried, why it failed, and what to do.

    That is what `first` says; `remedy` is which local path would do instead.
    """
    reason = " ".join(str(error).split())
    reason = reason if len(reason) <= 200 else f"{reason[:200]}..."
    return MissingWeights(
        f"The pretrained weights of {name} could not be fetched from {source} ({reason}). {first}, or "
        f"pass weights= a local path: {remedy}."
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict (``.th``, ``.pt``, ``.bin``, ``.safetensors``) without running code from it."""
    import safetensors.torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, EOF, safetensors: each reader of a damaged file raises its own
        raise CorruptInput(f"{path} could not be read as weights ({error}); fetch the file again.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CorruptInput(f"{path} holds no state dict of tensors; give the file of weights itself.")
    return state


def load_state(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Copy a state dict into a module; `UnsupportedInput` if it is of another architecture."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedInput(f"The weights in {source} are of another model ({reason}); check the path.") from error


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator as seeded, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def unallocated() -> Iterator[None]:
    """Build modules without memory: their shapes are real, and nothing is drawn, for which torch imports a compiler."""
    with torch.device("meta"), _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def num_parameters(module: nn.Module) -> int:
    """Return the number of trained parameters, shared ones once; codebooks that are buffers do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


def checked_device(device: str) -> str:
    """Return a torch device; `UnsupportedInput` if it is not really there."""
    try:
        torch.zeros(1, device=device).item()  # some take tensors and give no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UnsupportedInput(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); choose cpu."
        ) from error
    return device
