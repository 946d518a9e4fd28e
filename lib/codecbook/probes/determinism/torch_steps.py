"""What torch evaluates: language models, behind the interface of `Steps`, and the codec itself.

A language model that agrees everywhere makes the tokens that were sent come out. Which tokens are sent is another
matter: the encoder compares floats, so the same recording may become other tokens on another machine, or in another
batch. That breaks no stream; it matters where tokens are compared, counted or cached.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from codecbook.codecs import load_codec
from codecbook.coding.ecdc.lm import network_of
from codecbook.lm.exact.torch_model import ExactTorch
from codecbook.lm.token_lm import TokenLM
from codecbook.probes.determinism.compare import CodecResult

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TorchSteps:
    """A `TokenLM` or an `ExactTorch`, which are called alike; `Cell` says what the settings mean."""

    def __init__(self, model: TokenLM | ExactTorch, autocast: bool = False, compiled: bool = False) -> None:
        self._model: Any = model
        self._autocast = autocast
        whole: Any = model.logits if isinstance(model, ExactTorch) else model
        self._full: Any = torch.compile(whole) if compiled else whole

    @torch.inference_mode()
    def start(self, batch: int) -> None:
        """See `Steps`."""
        with self._precision():
            self._hidden, self._state = self._model.begin(batch)

    @torch.inference_mode()
    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        with self._precision():
            logits = self._model.head(self._hidden[:, 0], self._on_device(before))
        return _as_array(logits)

    @torch.inference_mode()
    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        with self._precision():
            self._hidden, self._state = self._model.read(self._on_device(frame[:, None]), self._state)

    @torch.inference_mode()
    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        with self._precision():
            return _as_array(self._full(self._on_device(codes)))

    def _on_device(self, codes: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(codes)).to(self._model.device)

    def _precision(self) -> torch.autocast:
        return torch.autocast(torch.device(self._model.device).type, torch.bfloat16, enabled=self._autocast)


def _as_array(logits: torch.Tensor) -> np.ndarray:
    return (logits.float() if logits.dtype == torch.bfloat16 else logits).cpu().numpy()


class PackageSteps:
    """The package's ``LMModel``: a frame's codebooks at once, the codes of the frame before as ``1 + code``."""

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self._states: Any = None
        self._offset: Any = 0

    def start(self, batch: int) -> None:
        """See `Steps`."""
        self._states, self._offset = None, 0
        self._frame = self._read(torch.zeros(batch, self._model.n_q, 1, dtype=torch.int64)).cpu()

    def logits(self, before: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        return self._frame[:, 0, before.shape[1]].numpy()

    def push(self, frame: np.ndarray) -> None:
        """See `Steps`."""
        self._frame = self._read(1 + torch.from_numpy(np.ascontiguousarray(frame))[:, :, None]).cpu()

    def full(self, codes: np.ndarray) -> np.ndarray:
        """See `Steps`."""
        self._states, self._offset = None, 0
        indices = 1 + torch.from_numpy(codes).permute(0, 2, 1)
        first = torch.zeros(len(codes), self._model.n_q, 1, dtype=torch.int64)
        return self._read(torch.cat((first, indices[:, :, :-1]), dim=2)).cpu().numpy()

    @torch.inference_mode()
    def _read(self, indices: torch.Tensor) -> torch.Tensor:
        """Return logits ``[B, T, K, V]`` for indices ``[B, K, T]``, by the operations of the package's ``forward``."""
        lm = self._model
        indices = indices.to(next(lm.parameters()).device)
        inputs = sum(lm.emb[k](indices[:, k]) for k in range(indices.shape[1]))
        hidden, self._states, self._offset = lm.transformer(inputs, self._states, self._offset)
        return torch.stack([linear(hidden) for linear in lm.linears], dim=2)


class CodecAnswers:
    """What a codec with bundled weights makes of recordings, in one type and so many side by side."""

    def __init__(self, codec: str, dtype: str, batch: int, device: str = "cpu") -> None:
        self._network: Any = network_of(load_codec(codec, device=device)).to(DTYPES[dtype])
        self._dtype, self._batch, self._device = DTYPES[dtype], batch, device

    @torch.inference_mode()
    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Return the tokens of all codebooks, int64 ``[N, T, K]``, of recordings ``[N, C, S]``."""
        parts = []
        for samples in torch.from_numpy(audio).to(self._device, self._dtype).split(self._batch):
            latents = self._network.encoder(samples)
            parts.append(self._network.quantizer.encode(latents, self._network.frame_rate).permute(1, 2, 0))
        return torch.cat(parts).cpu().numpy()

    @torch.inference_mode()
    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return the waveforms, float ``[N, C, S]``, of tokens ``[N, T, K]``."""
        parts = []
        for codes in torch.from_numpy(tokens).to(self._device).split(self._batch):
            parts.append(self._network.decoder(self._network.quantizer.decode(codes.permute(2, 0, 1))))
        return torch.cat(parts).cpu().numpy()


def codec_part(
    audio: np.ndarray, codec: str, batch: int, baseline: Path, write_baseline: bool, device: str = "cpu"
) -> dict[str, CodecResult]:
    """Return what a cell's codec does differently from the baseline's float32, by type that its device has.

    Two questions: does its encoder make the baseline's tokens of the recordings, and does its decoder make the
    baseline's samples of the baseline's tokens?
    """
    path = baseline / "codec.npz"
    result = {}
    for dtype in DTYPES:
        if dtype == "float64" and device == "mps":
            continue  # Apple GPUs have no float64
        answers = CodecAnswers(codec, dtype, batch, device)
        tokens = answers.encode(audio)
        if write_baseline and dtype == "float32":
            baseline.mkdir(exist_ok=True)
            np.savez(path, allow_pickle=False, tokens=tokens, waveform=answers.decode(tokens))
        with np.load(path, allow_pickle=False) as arrays:
            before, waveform = arrays["tokens"], arrays["waveform"]
        unequal, waveform = before != tokens, waveform.astype(np.float64)
        error = answers.decode(before).astype(np.float64) - waveform
        power, noise = np.square(waveform).mean(), np.square(error).mean()
        result[dtype] = CodecResult(
            tokens=unequal.size,
            tokens_differing=int(unequal.sum()),
            frames_differing=int(unequal.any(axis=2).sum()),
            codebooks_differing=unequal.sum(axis=(0, 1)).tolist(),
            largest=float(np.abs(error).max()),
            snr_db=10 * float(np.log10(power / noise)) if noise > 0 and power > 0 else None,
        )
    return result
