"""The codec itself in a cell: which tokens its encoder makes of recordings, and which samples its decoder.

A language model that agrees everywhere makes the tokens that were sent come out. Which tokens are sent is another
matter: an encoder of floats compares them, so the same recording may become other tokens on another machine, in another
batch, or in pieces. That breaks no stream; it matters where tokens are compared, counted or cached. An exact codec's
are the same everywhere.

Cells that step read pieces of `PIECE_FRAMES`, as a live encoder must, where the network carries its state; full passes
read whole recordings. In a batch recordings have silence after them, as beside longer ones.
"""

import io
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from codecbook.codecs.exact.reference import ReferenceNetwork
from codecbook.codecs.exact.spec import ExactNetwork, network_from
from codecbook.errors import CorruptInput
from codecbook.lm.exact.files import read_arrays
from codecbook.models import store
from codecbook.probes.determinism.case import AUDIO_NAME, CODEC_FOLDER, Case
from codecbook.probes.determinism.cells import NO_TORCH, Cell, torch_of
from codecbook.probes.determinism.compare import CODECS, CodecResult

PIECE_FRAMES = 15
"""Frames of a piece, and of the silence in a batch."""


class CodecSteps(Protocol):
    """A codec's network in one kind of numbers."""

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Return tokens int64 ``[B, K, T]`` of recordings ``[B, C, S]``."""
        ...

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return samples ``[B, C, S]`` of tokens."""
        ...


class FloatCodec:
    """An ``EncodecModel`` in torch, whole or in pieces of so many frames (0: whole), each of `hop` samples."""

    def __init__(self, network: Any, piece: int, hop: int, autocast: bool = False) -> None:
        import torch

        first = next(network.parameters())
        self._network, self._piece, self._hop, self._torch = network, piece, hop, torch
        self._place = {"device": first.device, "dtype": first.dtype}
        self._precision = lambda: torch.autocast(first.device.type, torch.bfloat16, enabled=autocast)

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        network, x = self._network, self._torch.from_numpy(audio).to(**self._place)
        with self._torch.inference_mode(), self._precision():
            encoder = self._way(network.encoder)
            parts = x.split(self._piece * self._hop or x.shape[2], dim=2)
            codes = [network.quantizer.encode(encoder(part), network.frame_rate) for part in parts]
            return self._torch.cat(codes, dim=2).transpose(0, 1).cpu().numpy()

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        codes = self._torch.from_numpy(tokens).to(self._place["device"]).transpose(0, 1)
        with self._torch.inference_mode(), self._precision():
            decoder = self._way(self._network.decoder)
            parts = codes.split(self._piece or codes.shape[2], dim=2)
            waves = [decoder(self._network.quantizer.decode(part).to(self._place["dtype"])) for part in parts]
            return self._torch.cat(waves, dim=2).to(self._place["dtype"]).cpu().numpy()

    def _way(self, network: Any) -> Callable[[Any], Any]:
        from codecbook.codecs.networks import CausalStream

        return CausalStream(network.model).push if self._piece else network


class OnnxCodec:
    """The same as ONNX graphs for so many samples, made anew for other shapes."""

    def __init__(self, network: Any, cell: Cell) -> None:
        self._network, self._cell = network.requires_grad_(False), cell  # a graph holds constants alone

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        network = self._network
        codes = self._run(lambda x: network.quantizer.encode(network.encoder(x), network.frame_rate), audio)
        return codes.transpose(1, 0, 2)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        network = self._network
        return self._run(lambda x: network.decoder(network.quantizer.decode(x)), tokens.transpose(1, 0, 2))

    def _run(self, function: Callable[[Any], Any], values: np.ndarray) -> np.ndarray:
        import torch

        from codecbook.probes.determinism.onnx_steps import session

        class Whole(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                return function(x)

        given = np.ascontiguousarray(values)
        file: Any = io.BytesIO()  # which the exporter takes, whatever its types say
        with warnings.catch_warnings():  # of the exporter that needs no further package, and of shapes that are fixed
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Whole(), (torch.from_numpy(given),), file, dynamo=False, input_names=["x"], output_names=["y"]
            )
        run = session(file.getvalue(), self._cell.threads, self._cell.graph_optimisation)
        return run.run(["y"], {"x": given})[0]


class ExactCodec:
    """Integers in torch, whole or in pieces of so many frames; samples are multiples of 2^-20."""

    def __init__(self, network: ExactNetwork, piece: int, hop: int, device: str = "cpu") -> None:
        from codecbook.codecs.exact.carriers import SplitFloat32
        from codecbook.codecs.exact.evaluate import Evaluator

        self._network, self._piece, self._hop = network, piece, hop
        self._evaluator = Evaluator(device)
        # not every device finds maxima of int64
        is_split = isinstance(self._evaluator.numbers, SplitFloat32)
        self._searcher = Evaluator("cpu") if is_split else self._evaluator

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        numbers, states = self._evaluator.numbers, {} if self._piece else None
        x = numbers.tensor(to_integers(audio, self._network.input_unit).transpose(0, 2, 1))
        codes = []
        for part in x.split(self._piece * self._hop or x.shape[1], dim=1):
            latents = self._evaluator.run(self._network.encoder, part, states)
            latents = latents.to(self._searcher.numbers.device).to(self._searcher.numbers.dtype)
            codes.append(np.stack([k.cpu().numpy() for k in self._searcher.quantize(self._network, latents)], axis=1))
        return np.concatenate(codes, axis=2)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        import torch

        states, waves = {} if self._piece else None, []
        for part in (
            torch.from_numpy(tokens).to(self._evaluator.numbers.device).split(self._piece or tokens.shape[2], dim=2)
        ):
            latents = self._evaluator.dequantize(self._network, list(part.unbind(dim=1)))
            waves.append(self._evaluator.run(self._network.decoder, latents, states).transpose(1, 2).cpu().numpy())
        return np.concatenate(waves, axis=2) * 2.0**-self._network.output_unit


class ReferenceCodec:
    """Integers in numpy alone, one recording after another."""

    def __init__(self, network: ExactNetwork) -> None:
        self._network, self._reference = network, ReferenceNetwork(network)

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        integers = to_integers(audio, self._network.input_unit)
        return np.stack([np.stack(self._reference.encode(wave)) for wave in integers])

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """See `CodecSteps`."""
        return np.stack([self._reference.decode(codes) for codes in tokens]) * 2.0**-self._network.output_unit


def to_integers(audio: np.ndarray, unit: int) -> np.ndarray:
    """Return samples as int64 of a unit, halves up."""
    return np.floor(audio.astype(np.float64) * 2.0**unit + 0.5).astype(np.int64)


def save_network(folder: Any, network: ExactNetwork) -> None:
    """Write an exact codec's integers, which are made in torch, for evaluators without it."""
    import safetensors.numpy

    config = {"architecture": "exact codec", "arguments": dict(network.config), "sha256": network.sha256}
    arrays = {name: np.ascontiguousarray(array) for name, array in network.arrays.items()}
    store.write_model(folder, safetensors.numpy.save(arrays), config)


def load_network(case: Case) -> ExactNetwork:
    """Return what `save_network` wrote; raise CorruptInput where it is not the one that the case names."""
    folder = case.folder / CODEC_FOLDER
    config = store.read_config(folder, "exact codec", "notebook 05")
    path = folder / store.PARAMETERS_NAME
    network = network_from(config["arguments"], read_arrays(path.read_bytes(), path))
    if network.sha256 != case.identities.get("exact codec"):
        raise CorruptInput(f"{folder} holds another exact codec than its case names; export it again.")
    return network


def codec_part(case: Case, cell: Cell, write_baseline: bool = False) -> dict[str, CodecResult]:
    """Return what a cell's codec does differently from the baseline's, by name in `CODECS`.

    Two questions: does its encoder make the baseline's tokens of the recordings, and does its decoder make the
    baseline's samples of the baseline's tokens? An emulated processor takes the first recording alone.
    """
    audio = np.load(case.folder / AUDIO_NAME, allow_pickle=False).astype(np.float32, copy=False)
    audio, results = audio[: 1 if cell.processor else None], {}
    for name, made in _makers(case, cell).items():
        if isinstance(made, str):
            results[name] = CodecResult("skipped", made)
            continue
        steps, hop = made()
        silence = PIECE_FRAMES if hop and cell.batch > 1 else 0  # of a network that looks ahead it would change frames
        path = case.baseline / f"{name}.npz"
        tokens = _in_batches(steps.encode, audio, cell.batch, silence * hop, silence)
        before, waveform = tokens, np.empty(0)
        if not write_baseline:
            with np.load(path, allow_pickle=False) as arrays:
                before, waveform = (arrays[key][: len(audio)] for key in ("tokens", "waveform"))
        decoded = _in_batches(steps.decode, before, cell.batch, silence, silence * hop)
        if write_baseline:
            path.parent.mkdir(exist_ok=True)
            np.savez(path, allow_pickle=False, tokens=tokens, waveform=decoded)
            waveform = decoded
        results[name] = _compared(before, tokens, waveform, decoded)
    return results


def _compared(before: np.ndarray, tokens: np.ndarray, waveform: np.ndarray, decoded: np.ndarray) -> CodecResult:
    unequal, waveform = before != tokens, waveform.astype(np.float64)
    error = decoded.astype(np.float64) - waveform
    power, noise = np.square(waveform).mean(), np.square(error).mean()
    return CodecResult(
        "ran", "", unequal.size, unequal.sum(axis=(0, 2)).tolist(), int(unequal.any(axis=1).sum()),
        error.size, int(np.count_nonzero(error)), float(np.abs(error).max()),
        10 * float(np.log10(power / noise)) if noise > 0 and power > 0 else None,
    )  # fmt: skip


def _in_batches(
    function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, batch: int, silence: int, made_of_it: int
) -> np.ndarray:
    """Apply a function to so many of ``[N, ...]`` side by side, with zeros after each; cut off what these become."""
    parts = []
    for first in range(0, len(values), batch):
        made = function(np.pad(values[first : first + batch], ((0, 0), (0, 0), (0, silence))))
        parts.append(made[..., : made.shape[-1] - made_of_it])
    return np.concatenate(parts)


def _makers(case: Case, cell: Cell) -> dict[str, Any]:
    """Return by name in `CODECS` why a cell has no such codec, or what makes it.

    That gives the steps, and the samples of a frame where the network does not look ahead, else 0.
    """
    if cell.backend not in ("torch", "onnx") or cell.compiled:
        made: dict[str, Any] = dict.fromkeys(CODECS, f"no {cell.backend} evaluator of this codec")
        if cell.compiled:
            made = dict.fromkeys(CODECS, "torch.compile is tried on language models alone")
        if cell.backend == "numpy":
            made["codec_exact"] = lambda: (ReferenceCodec(load_network(case)), 0)
        return made
    if torch_of(cell) is None:
        return dict.fromkeys(CODECS, NO_TORCH)
    if cell.processor:
        made = dict.fromkeys(CODECS, "the float codec's libraries are not on emulated processors")
        return made | {"codec_exact": lambda: (ExactCodec(load_network(case), 0, 0), 0)}
    return _with_torch(case, cell)


def _with_torch(case: Case, cell: Cell) -> dict[str, Any]:
    import torch

    from codecbook.codecs import load_codec
    from codecbook.coding.ecdc.lm import network_of

    codec: Any = load_codec(case.codec, device=cell.device)
    network, hop = network_of(codec), codec.hop_length if codec.seams == "state" else 0
    piece = PIECE_FRAMES if hop and cell.mode == "stepping" else 0

    def floats(dtype: Any) -> tuple[CodecSteps, int]:
        if cell.backend == "onnx":
            return OnnxCodec(network, cell), hop
        return FloatCodec(
            network.to(dtype), piece, hop, cell.precision == "autocast"
        ), hop  # exact, from float32 to float64

    made = {
        "codec_float32": lambda: floats(torch.float32),
        "codec_float64": lambda: floats(torch.float64),
        "codec_exact": lambda: (ExactCodec(load_network(case), piece, hop, cell.device), hop),
    }
    lacking = {}
    if cell.backend == "onnx":
        lacking = dict.fromkeys(("codec_float64", "codec_exact"), "only the float32 codec has an ONNX form")
    elif cell.device == "mps":
        lacking["codec_float64"] = "Apple GPUs have no float64"
    if codec.weights.sha256 != case.identities["codec"]:
        lacking |= dict.fromkeys(("codec_float32", "codec_float64"), "the float codec here has other weights")
    return made | lacking
