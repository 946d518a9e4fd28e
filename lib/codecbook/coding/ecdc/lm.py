"""Tokens to bytes and back with a language model, as ``.ecdc`` does it: one frame at a time, no audio involved.

The model sees the codes of the frame before (zeros at first, then ``1 + code``) and gives all codebooks'
distributions for the next one, which become CDFs (`codecbook.coding.counts`) and intervals of an arithmetic coder.
Encoder and decoder must take the same steps: what a model gives for a whole sequence at once, or with another number
of threads, differs in last bits.

Behind a stream are two models: EnCodec in any of its wrappings, and the language model of its tokens.
"""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.codecs.base import Codec
from codecbook.coding.arithmetic import GridDecoder, GridEncoder, UpstreamDecoder, UpstreamEncoder
from codecbook.coding.counts import GridDialect, cdf_upstream_from_pdf
from codecbook.coding.ecdc.segments import ModelShape, shape_of
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.models import hub, weights


class Stepper(Protocol):
    """A language model that steps through a segment, frame by frame."""

    @property
    def dialect(self) -> GridDialect | None:
        """Whose CDF it gives; None is upstream's."""
        ...

    def start(self, num_codebooks: int) -> None:
        """Forget all steps."""
        ...

    def step(self, codes: np.ndarray | None = None) -> np.ndarray:
        """Return the CDF of the next frame, int64 ``[K, V]``, after codes int64 ``[K]`` (None at the first step)."""
        ...


class PackageStepper:
    """Step a language model the way package ``encodec`` does: the baseline for speed, and what the format needs.

    Every step goes through ``lm.transformer`` with the states of the steps before, which are the layers' inputs: keys
    and values of the whole context are projected anew each time. Anything faster rounds differently and makes other
    streams. For ``acv=4`` oneDNN, which rounds differently from torch's own kernels, is off, as in the pull request.
    Logits come from ``lm.forward_logits`` where the model has it (the pull request's does), else from the parts of the
    package's ``LMModel``, else as logarithms of the probabilities that calling it returns.

    Args:
        lm: The package's ``LMModel``, or a module called alike: ``(indices [1, K, 1], states, offset)`` to
            ``(probabilities [1, V, K, 1], states, offset)``. It is copied where device, type or mode differ.
        dialect: Whose CDF the streams use, and in whose ``lm_dtype`` the model runs; None is upstream's, in the model's
            own type.
        device: Torch device for the model, and for upstream's CDFs. A grid's CDFs and the coder stay on the CPU.

    Raises UnsupportedInput: the device is not there, or lacks the type.
    """

    def __init__(self, lm: nn.Module, dialect: GridDialect | None = None, device: str = "cpu") -> None:
        self.dialect = dialect
        self.device = weights.checked_device(device)
        self.lm = _placed(lm, device, None if dialect is None else dialect.lm_dtype)
        self._num_codebooks = 0
        self._states: Any = None
        self._offset: Any = 0

    def start(self, num_codebooks: int) -> None:
        """Forget all steps; the next one is the first of a segment."""
        most = getattr(self.lm, "n_q", num_codebooks)
        if not 1 <= num_codebooks <= most:
            raise UnsupportedInput(f"{num_codebooks} codebooks for a language model of {most}; take the codec's own.")
        self._num_codebooks = num_codebooks
        self._states, self._offset = None, 0

    @torch.inference_mode()
    def step(self, codes: np.ndarray | None = None) -> np.ndarray:
        """Return the CDF of the next frame, int64 ``[K, V]``, after codes int64 ``[K]`` (None at the first step).

        Values that are not finite raise CorruptInput by upstream's rule; a grid's column becomes uniform.
        """
        indices = torch.zeros(1, self._num_codebooks, 1, dtype=torch.long, device=self.device)
        if codes is not None:
            indices += 1 + torch.from_numpy(codes).to(self.device).view(1, -1, 1)
        with contextlib.nullcontext() if self.dialect is None else _without_mkldnn():
            values, are_logits = self._outputs(indices)
        if values.dim() != 4 or values[:, 0].shape != (1, self._num_codebooks, 1):
            raise UnsupportedInput(f"The model returns {list(values.shape)}, not [1, V, {self._num_codebooks}, 1].")
        if self.dialect is not None:
            logits = values if are_logits else values.log()
            return self.dialect.cdf(logits[..., 0])[0]
        pdf = torch.softmax(values, dim=1) if are_logits else values
        return cdf_upstream_from_pdf(pdf[..., 0])[0]

    def _outputs(self, indices: Tensor) -> tuple[Tensor, bool]:
        """Run the model one step; return ``[1, V, K, 1]``, and whether these are logits, or else probabilities."""
        lm: Any = self.lm
        if callable(getattr(lm, "forward_logits", None)):
            logits, self._states, self._offset = lm.forward_logits(indices, self._states, self._offset)
            return logits, True
        if all(hasattr(lm, part) for part in ("emb", "linears", "transformer")):
            count = range(indices.shape[1])
            inputs = sum(lm.emb[k](indices[:, k]) for k in count)
            hidden, self._states, self._offset = lm.transformer(inputs, self._states, self._offset)
            return torch.stack([lm.linears[k](hidden) for k in count], dim=1).permute(0, 3, 1, 2), True
        pdf, self._states, self._offset = lm(indices, self._states, self._offset)
        return pdf, False


def encode_steps(codes: np.ndarray, stepper: Stepper, segment: int = 0) -> bytes:
    """Encode the tokens of one segment, int64 ``[K, T]``; errors call it by its number."""
    stepper.start(len(codes))
    encoder = UpstreamEncoder() if stepper.dialect is None else GridEncoder()
    last = None
    for t in range(codes.shape[1]):
        cdf = stepper.step(last)
        last = np.ascontiguousarray(codes[:, t])
        with _naming(segment, t):
            encoder.push_frames(last[:, None], cdf[None])
    return encoder.finish()


def decode_steps(
    data: bytes, stepper: Stepper, num_codebooks: int, num_frames: int, segment: int = 0, verify: bool = True
) -> tuple[np.ndarray, int]:
    """Decode the tokens of one segment; return codes, int64 ``[K, T]``, and how many bytes they took.

    Bytes that follow are left alone: upstream's segments follow each other without any mark. Damage, or another
    machine's rounding, gives wrong tokens rather than an error. Most of it shows at the end: the decoded tokens are
    encoded along the way, and must give the bytes that were read. That adds no bit to the format and leaves about one
    failure in 2^24 unseen. `verify` False skips it, to look at the wrong tokens. Raises CorruptInput: the bytes run
    out, point at no symbol, or are not those of the decoded tokens.
    """
    stepper.start(num_codebooks)
    decoder = UpstreamDecoder(data) if stepper.dialect is None else GridDecoder(data)
    encoder = UpstreamEncoder() if stepper.dialect is None else GridEncoder()
    frames: list[np.ndarray] = []  # grows with what the bytes hold, whatever a header claims
    for t in range(num_frames):
        cdf = stepper.step(frames[-1] if frames else None)
        with _naming(segment, t):
            frames.append(decoder.pull_frames(cdf[None])[0])
        if verify:
            encoder.push_frames(frames[-1][:, None], cdf[None])
    consumed = decoder.bytes_consumed
    if verify and encoder.finish() != data[:consumed]:
        raise CorruptInput(
            f"Segment {segment}: its {consumed} bytes are not those that the decoded tokens have; they are damaged, or "
            "the language model or its rounding (machine, threads, type) is not the encoder's."
        )
    return np.stack(frames, axis=1) if frames else np.empty((num_codebooks, 0), dtype=np.int64), consumed


@contextlib.contextmanager
def _naming(segment: int, frame: int) -> Iterator[None]:
    """Say in an error which segment and frame it is about."""
    try:
        yield
    except CodecbookError as error:
        raise type(error)(f"Segment {segment}, frame {frame}: {error}") from error


def _placed(lm: nn.Module, device: str, dtype: str | None) -> nn.Module:
    """Return the model, or a copy of it where it is not in evaluation mode, or its device or type differs."""
    place, wanted = torch.device(device), None if dtype is None else getattr(torch, dtype)
    fits = all(
        tensor.device == place and (wanted is None or not tensor.is_floating_point() or tensor.dtype == wanted)
        for tensor in (*lm.parameters(), *lm.buffers())
    )
    if fits and not lm.training:
        return lm
    try:
        return copy.deepcopy(lm).to(device=place, dtype=wanted).eval()
    except TypeError as error:
        raise UnsupportedInput(f"The language model cannot run as {dtype} on {device} ({error}).") from error


@contextlib.contextmanager
def _without_mkldnn() -> Iterator[None]:
    """Turn torch's switch for oneDNN, which is one for the whole process, off and back again."""
    backend: Any = torch.backends.mkldnn
    before, backend.enabled = backend.enabled, False
    try:
        yield
    finally:
        backend.enabled = before


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
    with weights.seeded(seed):
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
        seed = weights.parse_weights("lm", source).seed
    elif source != "default":
        path = Path(source)
        file = path / checkpoint if path.is_dir() else path
        if not file.is_file():
            raise weights.missing(name, str(path), f"there is no file {file}", "load_upstream_lm(model, source=FILE)")
        state = weights.read_state(file)
    elif checkpoint:
        remedy = f"load_upstream_lm(model, source=...) with {checkpoint}"
        file = hub.fetch_checkpoint(name, f"{_ROOT_URL}{checkpoint}", remedy)
        state = weights.read_state(file)
    else:
        raise UnsupportedInput(f"Upstream has no language model for {shape.name!r}; give a file, or 'random:0'.")
    lm = upstream_lm(shape.num_codebooks, shape.codebook_size, shape.frame_rate_hz, seed)
    if state is not None:
        weights.load_state(lm, state, file)
    return lm


def placed_lm(lm: LMSource, dialect: GridDialect | None, shape: ModelShape, device: str = "cpu") -> PackageStepper:
    """Load a language model that is given by name or file, and place it for streams of a model of this shape."""
    if isinstance(lm, str | Path):
        lm = load_upstream_lm(shape, lm)
    if not isinstance(lm, nn.Module):
        raise UnsupportedInput(f"A language model must be a torch module; received {type(lm).__name__}.")
    size = getattr(lm, "card", shape.codebook_size)
    if size != shape.codebook_size:
        raise UnsupportedInput(f"The model has {size} codes, codebooks {shape.codebook_size}; use the codec's own.")
    return PackageStepper(lm, dialect, device)
