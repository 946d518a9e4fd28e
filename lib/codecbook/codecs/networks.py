"""What codecs share whose networks run in torch: their adapter, where their weights are from, and random ones."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_weight_norm

from codecbook.codecs.base import Codec, Weights
from codecbook.codecs.model_files import load_model
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.models.store import tensors_sha256
from codecbook.models.weights import WeightsRequest, checked_device, from_hub, missing, model_source, seeded


class NetworkCodec(Codec):
    """A codec whose network runs in torch, on any of its devices.

    Args:
        name: Registry name.
        module: The network; it is moved to the device and set to evaluation mode in place.
        weights: Where its weights are from.
        device: Torch device.

    Raises:
        UnsupportedInput: No such device on this machine.

    Attributes:
        hop_length: Samples for which one frame stands.
        decode_chunk_s: Seconds of tokens that go through the decoder at once, set by codecs that decode in pieces;
            pieces of another length change the last bits of the audio.
    """

    hop_length: int
    decode_chunk_s: float

    def __init__(self, name: str, module: Any, weights: Weights, device: str = "cpu") -> None:
        self.name = name
        self.weights = weights
        self.device = checked_device(device)
        self.module = module.to(device).eval()

    def _set_codebooks(self, codebook_size: int, num_codebooks: int) -> None:
        """Give all codebooks one size and one code a frame, and offer a bandwidth for each number of them.

        The sampling rate and `hop_length` are set before.
        """
        self.codebook_sizes = (codebook_size,) * num_codebooks
        self.frame_rates_hz = (self.sample_rate_hz / self.hop_length,) * num_codebooks
        self.bandwidths_kbps = tuple(self.bitrate_kbps(k + 1) for k in range(num_codebooks))

    def _chunk(self, chunk_s: float | None, align: int) -> int:
        """Return the samples of a piece of audio, a multiple of `align`."""
        assert chunk_s is not None
        return max(align, round(chunk_s * self.sample_rate_hz) // align * align)

    def _decode_chunk(self, align: int = 1) -> int:
        """Return the frames of a piece of tokens, a multiple of `align`."""
        return max(align, round(self.decode_chunk_s * self.frame_rates_hz[-1]) // align * align)

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Return an array, which may be read-only, as a batch of one on the network's device."""
        return torch.tensor(array)[None].to(self.device)


def load_network(
    name: str,
    request: WeightsRequest,
    *,
    draw: Callable[[], nn.Module],
    own: type[nn.Module],
    fetch: Callable[[], tuple[nn.Module, str]] | None = None,
    read: Callable[[Path], nn.Module] | None = None,
) -> tuple[Any, Weights]:
    """Return a network in evaluation mode with the weights that were asked for, and where these are from.

    Args:
        name: Codec.
        request: Of `parse_weights`.
        draw: Makes the full-size network with random weights; called with torch's generator seeded.
        own: What the networks of this project's model folders have to be.
        fetch: Loads the authors' network, and says where it is from; None where there are no authors but this project.
        read: Loads it from a file or folder; likewise.

    Raises:
        MissingWeights: The weights are not here and could not be fetched.
        CorruptInput: Files that are damaged.
        UnsupportedInput: Weights of another model.
    """
    if request.kind == "bundled":
        assert request.path is not None
        loaded = load_model(request.path)
        if not isinstance(loaded.module, own):
            raise UnsupportedInput(
                f"The model in {request.path} is of architecture {loaded.config['architecture']}, not of {name}."
            )
        return loaded.module, Weights("bundled", model_source(loaded.folder), loaded.sha256)
    if request.kind == "random":
        with seeded(request.seed), torch.no_grad():
            module, source = draw(), f"seed {request.seed}"
    elif fetch is None or read is None:
        raise missing(
            name,
            str(request.path or "the hub"),
            "this codec is this project's own, so all of its weights are bundled",
            "a folder that codecbook.codecs.training wrote, or use weights='bundled'",
        )
    elif request.path is None:
        module, source = fetch()
    else:
        module, source = read(request.path), str(request.path)
    return module.eval(), Weights(request.kind, source, tensors_sha256(module.state_dict()))


def hub_sources(
    name: str, repository: str, load: Callable[..., Any], files: Sequence[str], needed: int
) -> dict[str, Callable[..., Any]]:
    """Return `fetch` and `read` for `load_network`, for networks in a repository of the hub.

    Args:
        name: Codec.
        repository: On the hub.
        load: Loads a network from the name of a repository or a folder; takes ``local_files_only``.
        files: What the repository holds, named in errors.
        needed: How many of them, from the first, a folder must hold.
    """
    remedy = f"a folder with {' and '.join(files)} of {repository}"

    def read(path: Path) -> Any:
        absent = [file for file in files[:needed] if not (path / file).is_file()]
        if absent:
            raise missing(name, str(path), f"it is no folder with a {absent[0]}", remedy)
        try:
            return load(str(path), local_files_only=True)
        except CodecbookError:
            raise
        except Exception as error:  # json, pickle, zip, shapes: each reader of a damaged file raises its own
            reason = " ".join(str(error).split())[:300]
            raise CorruptInput(
                f"{path} could not be read as a {name} model ({reason}); fetch {repository} again."
            ) from error

    return {"fetch": lambda: from_hub(name, repository, load, remedy), "read": read}


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
        return _complete(model_class, place, local_files_only)

    sources = hub_sources(name, repository, load, files, needed=1)
    return load_network(name, request, draw=draw, own=model_class, **sources)


def _complete(model_class: Any, place: str, local_files_only: bool) -> Any:
    """Load a model and make sure that no parameter was left at random, which transformers merely logs."""
    with _quiet():
        model, info = model_class.from_pretrained(place, local_files_only=local_files_only, output_loading_info=True)
    left_random = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if left_random:
        raise UnsupportedInput(
            f"The weights in {place} lack {len(left_random)} parameters of {model_class.__name__} (first: "
            f"{left_random[0]}); they are of another model."
        )
    return model.float()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bar and its report on keys off the terminal; the checks here say what matters."""
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
    would have the same tokens (data-dependent initialisation, Salimans and Kingma 2016, section 3).

    Args:
        module: Changed in place.
        run: Sends the probe through all of it.
        probe: ``[1, C, S]``.
    """

    def rescale(convolution: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if convolution.bias is not None:
            output = output - convolution.bias[:, None]
            convolution.bias.zero_()
        deviation = output.std()
        _gain(convolution).div_(deviation)
        return output / deviation

    handles = [
        part.register_forward_hook(rescale)
        for part in module.modules()
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d)
    ]
    try:
        run(probe)
    finally:
        for handle in handles:
            handle.remove()


def _gain(convolution: Any) -> Tensor:
    """Return the parameter that scales a convolution's weight linearly, weight norm of either kind or none."""
    if hasattr(convolution, "weight_g"):
        return convolution.weight_g
    if parametrize.is_parametrized(convolution, "weight"):
        return convolution.parametrizations.weight.original0
    return convolution.weight


def fold_weight_norm(module: nn.Module) -> None:
    """Compute the weights from magnitude and direction once, instead of at every call; equal to the last bit."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
        elif hasattr(part, "weight_g"):
            remove_weight_norm(part)
