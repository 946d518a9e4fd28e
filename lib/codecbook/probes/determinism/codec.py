"""The codec itself: tokens that flip when its encoder is run otherwise, and how far its decoder's waveforms move.

A language model that agrees everywhere makes the tokens that were sent come out. Which tokens are sent is another
matter: the encoder compares floats, so the same recording may become other tokens on another machine, or in another
batch. That breaks no stream; it matters where tokens are compared, counted or cached.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from codecbook.audio import convert
from codecbook.clips import load_clips
from codecbook.codecs import load_codec
from codecbook.coding.ecdc_models import network_of
from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.case import AUDIO_NAME as AUDIO_NAME
from codecbook.probes.determinism.compare import step_hashes

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def audio_batch(codec: str, count: int, duration_s: float) -> tuple[np.ndarray, str]:
    """Return the middle of bundled clips, float32 ``[N, C, S]`` at the codec's rate, and the codec's weights' SHA-256.

    Raises:
        UnsupportedInput: The codec is no EnCodec, or fewer clips are long enough.
    """
    model = load_codec(codec)
    network = network_of(model)
    samples = round(duration_s * network.sample_rate)
    found = []
    for clip in load_clips("")[0]:
        audio = convert(clip, network.sample_rate, network.channels).samples
        start = (audio.shape[1] - samples) // 2
        if start >= 0 and len(found) < count:
            found.append(audio[:, start : start + samples])
    if len(found) < count:
        raise UnsupportedInput(
            f"Only {len(found)} clips last {duration_s:g} s, {count} were asked for; ask for fewer."
        )
    return np.stack(found).astype(np.float32), model.weights.sha256


class CodecAnswers:
    """What a codec makes of recordings, in one type and batch size.

    Args:
        codec: Registry name; bundled weights.
        dtype: ``"float32"`` or ``"float64"``.
        batch: Recordings side by side.
    """

    def __init__(self, codec: str, dtype: str, batch: int) -> None:
        self._network: Any = network_of(load_codec(codec)).to(DTYPES[dtype])
        self._dtype, self._batch = DTYPES[dtype], batch

    @torch.inference_mode()
    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Return the tokens of all codebooks, int64 ``[N, T, K]``, of recordings ``[N, C, S]``."""
        parts = []
        for first in range(0, len(audio), self._batch):
            samples = torch.from_numpy(audio[first : first + self._batch]).to(self._dtype)
            latents = self._network.encoder(samples)
            parts.append(self._network.quantizer.encode(latents, self._network.frame_rate).permute(1, 2, 0))
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return the waveforms, float ``[N, C, S]``, of tokens ``[N, T, K]``."""
        parts = []
        for first in range(0, len(tokens), self._batch):
            codes = torch.from_numpy(tokens[first : first + self._batch]).permute(2, 0, 1)
            parts.append(self._network.decoder(self._network.quantizer.decode(codes)))
        return torch.cat(parts).numpy()


def codec_part(
    audio: np.ndarray, codec: str, batch: int, baseline: Path, write_baseline: bool
) -> dict[str, Any]:
    """Return what a cell's codec does differently from the baseline's float32, by type.

    Keys per type: ``tokens``, ``tokens_differing``, ``frames``, ``frames_differing``, ``codebooks_differing`` (tokens,
    by codebook), ``first_frame`` (-1 without any), ``largest`` and ``snr_db`` of the waveform that is decoded from the
    **baseline's** tokens (None where it is equal), ``hashes`` of the tokens of every frame.
    """
    path = baseline / "codec.npz"
    result = {}
    for dtype in DTYPES:
        answers = CodecAnswers(codec, dtype, batch)
        tokens = answers.encode(audio)
        if write_baseline and dtype == "float32":
            baseline.mkdir(exist_ok=True)
            np.savez(path, allow_pickle=False, tokens=tokens, waveform=answers.decode(tokens))
        with np.load(path, allow_pickle=False) as arrays:
            before, waveform = arrays["tokens"], arrays["waveform"]
        result[dtype] = _difference(before, tokens, waveform, answers.decode(before))
    return result


def _difference(
    before: np.ndarray, tokens: np.ndarray, waveform: np.ndarray, other: np.ndarray
) -> dict[str, Any]:
    unequal = before != tokens
    frames = unequal.any(axis=2)
    error = other.astype(np.float64) - waveform.astype(np.float64)
    power, noise = float(np.square(waveform.astype(np.float64)).mean()), float(np.square(error).mean())
    return {
        "tokens": unequal.size, "tokens_differing": int(unequal.sum()),
        "frames": frames.size, "frames_differing": int(frames.sum()),
        "codebooks_differing": unequal.sum(axis=(0, 1)).tolist(),
        "first_frame": int(np.argwhere(frames)[0][1]) if frames.any() else -1,
        "largest": float(np.abs(error).max()),
        "snr_db": 10 * float(np.log10(power / noise)) if noise > 0 and power > 0 else None,
        "hashes": step_hashes(tokens.astype(np.int32)),
    }  # fmt: skip
