"""Run a language model of EnCodec's tokens one frame at a time, and turn what it says into CDFs."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.codecs.base import checked_device
from codecbook.coding.cdf import as_array
from codecbook.coding.counts import GridDialect, cdf_upstream_from_pdf
from codecbook.errors import UnsupportedInput

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class PackageStepper:
    """Step a language model the way package ``encodec`` does: the baseline for speed, and what the format needs.

    Every step goes through ``lm.transformer`` with the states of the steps before, which are the layers' inputs: keys
    and values of the whole context are projected anew each time. Anything faster rounds otherwise and makes other
    streams.

    Logits come from ``lm.forward_logits`` where the model has it (pull request 95's does), else from the parts of the
    package's ``LMModel`` by the operations of its ``forward``, else as logarithms of the probabilities that
    calling it returns.

    Args:
        lm: The package's ``LMModel``, or a module that is called alike: ``(indices [1, K, 1], states, offset)``,
            returning ``(probabilities [1, V, K, 1], states, offset)``. It is not changed; where device, type or mode
            differ, a copy is used.
        dialect: Whose CDF the streams use; None is upstream's. The model runs in its ``lm_dtype``; for upstream, in
            its own type.
        device: Torch device for the model. CDFs and the coder stay on the CPU.
        mkldnn: Whether torch may use oneDNN on a CPU, which rounds otherwise than its own kernels; None leaves it as
            it is for upstream, and turns it off for ``acv=4``, as the pull request does for the whole process.

    Raises:
        UnsupportedInput: The device is not there, or lacks the type.
    """

    def __init__(
        self,
        lm: nn.Module,
        dialect: GridDialect | None = None,
        device: str = "cpu",
        mkldnn: bool | None = None,
    ) -> None:
        self.dialect = dialect
        self.device = checked_device(device)
        self.lm = _placed(lm, device, None if dialect is None else dialect.lm_dtype)
        self._mkldnn = False if mkldnn is None and dialect is not None else mkldnn
        self._num_codebooks = 0
        self._states: Any = None
        self._offset: Any = 0

    @property
    def min_range(self) -> int:
        """Least width of a code's interval, of 2^24."""
        return 2 if self.dialect is None else self.dialect.min_range

    def start(self, num_codebooks: int) -> None:
        """Forget all steps; the next one is the first of a segment.

        Raises:
            UnsupportedInput: The model has fewer codebooks.
        """
        most = getattr(self.lm, "n_q", num_codebooks)
        if not 1 <= num_codebooks <= most:
            raise UnsupportedInput(
                f"The stream has {num_codebooks} codebooks, the language model has {most}; it belongs to another "
                "codec."
            )
        self._num_codebooks = num_codebooks
        self._states, self._offset = None, 0

    @torch.inference_mode()
    def step(self, codes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the model says of the next frame.

        Args:
            codes: int64 ``[K]`` of the frame before; None at the first step.

        Returns:
            ``(logits [V, K], cdf int64 [K, V])``; see `CodedStep`.

        Raises:
            CorruptInput: The model gives values that are not finite (upstream's CDF only; a grid's column becomes
                uniform).
            UnsupportedInput: The model's output has another shape or type.
        """
        indices = torch.zeros(1, self._num_codebooks, 1, dtype=torch.long, device=self.device)
        if codes is not None:
            indices += 1 + torch.from_numpy(codes).to(self.device).view(1, -1, 1)
        with _mkldnn_flag(self._mkldnn):
            logits, pdf = self._outputs(indices)
        if logits.dim() != 4 or (logits.shape[0], logits.shape[2], logits.shape[3]) != (
            1,
            len(indices[0]),
            1,
        ):
            raise UnsupportedInput(
                f"The language model returned {list(logits.shape)}; expected [1, V, {self._num_codebooks}, 1]."
            )
        values = as_array(logits[0, :, :, 0])
        if self.dialect is not None:
            return values, self.dialect.cdf(values[None])[0]
        probabilities = torch.softmax(logits, dim=1) if pdf is None else pdf
        return values, cdf_upstream_from_pdf(probabilities[0, :, :, 0][None])[0]

    def _outputs(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the model one step; return logits ``[1, V, K, 1]``, and probabilities where these are what it gives."""
        lm: Any = self.lm
        if callable(getattr(lm, "forward_logits", None)):
            logits, self._states, self._offset = lm.forward_logits(indices, self._states, self._offset)
            return logits, None
        if all(hasattr(lm, part) for part in ("emb", "linears", "transformer")):
            count = range(indices.shape[1])
            inputs = sum(lm.emb[k](indices[:, k]) for k in count)
            hidden, self._states, self._offset = lm.transformer(inputs, self._states, self._offset)
            logits = torch.stack([lm.linears[k](hidden) for k in count], dim=1).permute(0, 3, 1, 2)
            return logits, None
        pdf, self._states, self._offset = lm(indices, self._states, self._offset)
        return pdf.log(), pdf


def as_stepper(lm: nn.Module | PackageStepper, dialect: GridDialect | None = None) -> PackageStepper:
    """Return a language model ready to step.

    Raises:
        UnsupportedInput: It is placed for another dialect, or is no module.
    """
    if isinstance(lm, PackageStepper):
        if dialect is not None and dialect != lm.dialect:
            raise _other_dialect(lm, dialect)
        return lm
    if not isinstance(lm, nn.Module):
        raise UnsupportedInput(f"A language model must be a torch module; received {type(lm).__name__}.")
    return PackageStepper(lm, dialect)


def stepper_for(
    lm: nn.Module | PackageStepper,
    dialect: GridDialect | None,
    num_codes: int,
    device: str = "cpu",
    mkldnn: bool | None = None,
) -> PackageStepper:
    """Place a language model for a stream, or check that one that is placed already fits.

    Args:
        lm: See `encode_tokens`.
        dialect: Of the stream; None is upstream's.
        num_codes: V of the codec.
        device: Where to place it.
        mkldnn: See `PackageStepper`.

    Raises:
        UnsupportedInput: It is placed for another dialect, has another V, or is no module.
    """
    if isinstance(lm, PackageStepper):
        if lm.dialect != dialect:
            raise _other_dialect(lm, dialect)
    elif isinstance(lm, nn.Module):
        lm = PackageStepper(lm, dialect, device, mkldnn)
    else:
        raise UnsupportedInput(f"A language model must be a torch module; received {type(lm).__name__}.")
    size = getattr(lm.lm, "card", num_codes)
    if size != num_codes:
        raise UnsupportedInput(
            f"The language model has {size} codes, the codec's codebooks have {num_codes}; it belongs to another codec."
        )
    return lm


def _other_dialect(stepper: PackageStepper, dialect: GridDialect | None) -> UnsupportedInput:
    return UnsupportedInput(
        f"The language model is placed for {stepper.dialect or 'upstream'}, the stream asks for "
        f"{dialect or 'upstream'}; place it anew with PackageStepper(lm, dialect)."
    )


def _placed(lm: nn.Module, device: str, dtype: str | None) -> nn.Module:
    """Return the model, or a copy of it where it is not in evaluation mode, or its device or type differs."""
    if dtype is not None and dtype not in _DTYPES:
        raise UnsupportedInput(f"lm_dtype={dtype!r}; choose one of {', '.join(_DTYPES)}.")
    wanted = None if dtype is None else _DTYPES[dtype]
    place = torch.device(device)
    fits = all(
        tensor.device == place
        and (wanted is None or not tensor.is_floating_point() or tensor.dtype == wanted)
        for tensor in (*lm.parameters(), *lm.buffers())
    )
    if fits and not lm.training:
        return lm
    try:
        return copy.deepcopy(lm).to(device=place, dtype=wanted).eval()
    except TypeError as error:
        raise UnsupportedInput(
            f"The language model cannot run as {dtype} on {device} ({error}); keep it on the CPU."
        ) from error


@contextlib.contextmanager
def _mkldnn_flag(enabled: bool | None) -> Iterator[None]:
    """Set torch's switch for oneDNN, which is one for the whole process, and set it back."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = before if enabled is None else enabled
    try:
        yield
    finally:
        backend.enabled = before
