"""Lyra V2, Google's SoundStream for speech (Zeghidour et al. 2021), 16 kHz mono, through ``ai-edge-litert``.

Three TensorFlow Lite files: encoder and decoder, which keep a state from frame to frame of 320 samples, and the
residual quantiser. Files with float32 and with int8 weights exist and give different tokens.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codecbook import paths
from codecbook.codecs.base import Codec, Encoded, Mend, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.models.weights import WeightsRequest, missing
from codecbook.tokens.tokens import Tokens

SOURCE = "https://github.com/google/lyra (lyra/model_coeffs)"
BY_HAND = f"fetch the .tflite files of {SOURCE}, and give their folder as weights"
_FILES = {"encoder": "soundstream_encoder.tflite", "quantizer": "quantizer.tflite", "decoder": "lyragan.tflite"}
_FRAME_SAMPLES = 320
_STAGES = 46
_EXTRA_FOLDERS = ("data/lyra/v1_float32", "data/lyra/v2_int8")


class LyraCodec(Codec):
    """Lyra V2 behind the common interface, made of the content of its files by role (as in `_FILES`)."""

    sample_rate_hz = 16_000
    channels = 1
    codebook_sizes = (16,) * _STAGES
    frame_rates_hz = (50.0,) * _STAGES
    bandwidths_kbps = (3.2, 6.0, 9.2)
    seams = "state"
    chunk_s = 20.0

    def __init__(self, name: str, models: dict[str, bytes], weights: Weights) -> None:
        if importlib.util.find_spec("ai_edge_litert") is None:
            raise UnsupportedInput("Lyra needs the package ai-edge-litert; pip install 'codecbook[lyra]' brings it.")
        self.name = name
        self.weights = weights
        self._models = models
        self._quantizer = self._interpreter("quantizer")
        if set(self._quantizer.get_signature_list()) != {"encode", "decode"}:
            raise CorruptInput(f"{_FILES['quantizer']} lacks the signatures encode and decode; fetch {SOURCE} again.")
        for role in ("encoder", "decoder"):
            self._interpreter(role)

    def _interpreter(self, role: str) -> Any:
        """Return a fresh one for each clip: the state cannot be reset in place."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_content=self._models[role], num_threads=1)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise CorruptInput(f"{_FILES[role]} is no usable model ({error}); fetch {SOURCE} again.") from error
        return interpreter

    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float) -> Iterator[Encoded]:
        encoder = self._interpreter("encoder")
        quantize = self._quantizer.get_signature_runner("encode")
        for samples in queue.pieces(round(chunk_s * self.frame_rates_hz[0]) * _FRAME_SAMPLES):
            wave = np.pad(samples[0], (0, -samples.shape[1] % _FRAME_SAMPLES)).reshape(-1, 1, _FRAME_SAMPLES)
            codes = np.empty((num_codebooks, len(wave)), dtype=np.int64)
            for t, frame in enumerate(wave):
                result = quantize(input_frames=_step(encoder, frame), num_quantizers=np.int32(num_codebooks))
                codes[:, t] = result["output_0"][:num_codebooks, 0, 0]
            yield Encoded(list(codes))

    def latents(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 ``[D, T]``; see `Codec.latents`."""
        return np.stack([frame[0, 0] for frame in self._dequantize(codes)], axis=1)

    def _decode(self, tokens: Tokens, mend: Mend | None = None) -> Iterator[np.ndarray]:
        decoder = self._interpreter("decoder")
        for t, frame in enumerate(self._dequantize(tokens.codes)):
            yield _step(decoder, frame if mend is None else mend(frame[0].T, t).T[None])

    def _dequantize(self, codes: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield each frame, float32 ``[1, 1, D]``."""
        indices = np.full((len(codes[0]), _STAGES, 1, 1), -1, dtype=np.int32)  # those that are not used
        indices[:, : len(codes), 0, 0] = np.stack(codes, axis=1)
        dequantize = self._quantizer.get_signature_runner("decode")
        for stages in indices:
            yield dequantize(encoding_indices=stages)["output_0"]


def _step(interpreter: Any, frame: np.ndarray) -> np.ndarray:
    """Run an interpreter, which remembers earlier frames, on the next one."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def published_folder() -> Path | None:
    """Return the folder of the authors' files below ``CODECBOOK_EXTRA``, the float32 ones first; None without any."""
    extra = paths.extra_dir()
    return next((extra / name for name in _EXTRA_FOLDERS if (extra / name).is_dir()), None) if extra else None


def load(name: str, request: WeightsRequest, device: str) -> LyraCodec:
    """Load Lyra V2; see `codecbook.codecs.load_codec`.

    ``"pretrained"`` takes `published_folder`: there is no hub to fetch them from.
    """
    if device != "cpu":
        raise UnsupportedInput(f"Lyra runs on the CPU alone, not on {device!r}; leave the device out.")
    remedy = f"a folder with {', '.join(_FILES.values())}"
    if request.kind != "pretrained":
        raise missing(name, SOURCE, f"there are no {request.kind} ones, only the authors'", remedy)
    folder = request.path or published_folder()
    if folder is None:
        raise missing(name, SOURCE, "they are in no hub, and not below CODECBOOK_EXTRA", remedy)
    absent = [file for file in _FILES.values() if not (folder / file).is_file()]
    if absent:
        raise missing(name, str(folder), f"{absent[0]} is not there", remedy)
    models = {role: (folder / file).read_bytes() for role, file in _FILES.items()}
    digest = hashlib.sha256(b"".join(models.values())).hexdigest()
    source = str(folder) if request.path else f"google/lyra {folder.name}"
    return LyraCodec(name, models, Weights("pretrained", source, digest))
