"""NeuCodec (Julian et al. 2025): one FSQ codebook of 65,536, 50 frames/s, through ``transformers``.

An acoustic encoder and a speech model (w2v-BERT) look at the whole clip, at 16 kHz, and a Transformer decodes to
24 kHz. So every token depends on the whole clip, and long recordings must be cut. Here clips go in and out at
24 kHz, so that they can be compared; the encoder's input is resampled to 16 kHz.

The features for the speech model are Kaldi's log mel energies. The package's own feature extractor takes them from
torchaudio; here they come from ``transformers.audio_utils``, which follows Kaldi too.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import NeuCodecConfig, NeuCodecModel
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from codecbook.audio import Clip, convert
from codecbook.codecs.base import Encoded, Weights
from codecbook.codecs.blocks import BlockQueue
from codecbook.codecs.networks import NetworkCodec, keep_signal_alive, load_transformers
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import WeightsRequest
from codecbook.tokens.tokens import Tokens

REPOSITORY = "neuphonic/neucodec"
_MEL_BINS = 80
_MEL_FRAMES_PER_CODE = 2
_FBANK_WINDOW, _FBANK_HOP, _FFT_LENGTH = 400, 160, 512  # samples at 16 kHz


class NeuCodec(NetworkCodec):
    """NeuCodec, a ``transformers.NeuCodecModel``, behind the common interface.

    Raises:
        UnsupportedInput: The configuration's sampling rate or features are not those of the published model.
    """

    channels = 1

    def __init__(self, name: str, model: Any, weights: Weights, device: str = "cpu") -> None:
        config = model.config
        features = config.semantic_model_config.feature_projection_input_dim
        if config.input_sampling_rate != 16_000 or features != _MEL_BINS * _MEL_FRAMES_PER_CODE:
            raise UnsupportedInput(
                f"This NeuCodec takes {features} features at {config.input_sampling_rate} Hz; 160 at 16000 Hz are "
                "supported, as published."
            )
        super().__init__(name, model, weights, device)
        self.sample_rate_hz = int(config.output_sampling_rate)
        self.input_rate_hz = int(config.input_sampling_rate)
        self.hop_length = int(config.encoder_hop_length)
        self.codebook_sizes = (int(np.prod(config.quantization_levels)),)
        self.frame_rates_hz = (self.input_rate_hz / self.hop_length,)
        self.bandwidths_kbps = (self.bitrate_kbps(1),)

    @torch.inference_mode()
    def _encode(self, queue: BlockQueue, num_codebooks: int, chunk_s: float | None) -> Iterator[Encoded]:
        clip = Clip(queue.rest(), self.sample_rate_hz)
        wave = self._padded(convert(clip, sample_rate_hz=self.input_rate_hz).samples[0])
        encoded = self.module.encode(
            input_values=self._tensor(wave[None]), input_features=speech_features(wave).to(self.device)
        )
        yield Encoded([encoded.audio_codes[0, 0].long().cpu().numpy()])

    def _padded(self, wave: np.ndarray) -> np.ndarray:
        """Append a zero and fill up to whole frames, as the package does; two frames at least make one token."""
        length = max(wave.size + 1, 2 * self.hop_length)
        return np.pad(wave, (0, length + -length % self.hop_length - wave.size))

    @torch.inference_mode()
    def _decode(self, tokens: Tokens) -> Iterator[np.ndarray]:
        yield (self.module.decode(audio_codes=self._tensor(tokens.codes[0][None])).audio_values[0].cpu().numpy())


def speech_features(wave: np.ndarray) -> Tensor:
    """Return what w2v-BERT takes: normalised log mel energies, two frames of 10 ms side by side.

    Args:
        wave: float32 ``[S]`` at 16 kHz.

    Returns:
        float32 ``[1, T, 160]``.
    """
    filters = mel_filter_bank(
        num_frequency_bins=_FFT_LENGTH // 2 + 1,
        num_mel_filters=_MEL_BINS,
        min_frequency=20,
        max_frequency=8000,
        sampling_rate=16_000,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    mel = spectrogram(
        wave.astype(np.float64) * 2**15,  # Kaldi's scale is that of 16-bit integers
        window_function(_FBANK_WINDOW, "povey", periodic=False),
        frame_length=_FBANK_WINDOW,
        hop_length=_FBANK_HOP,
        fft_length=_FFT_LENGTH,
        power=2.0,
        center=False,
        preemphasis=0.97,
        remove_dc_offset=True,
        mel_filters=filters,
        mel_floor=float(np.finfo(np.float32).eps),
        log_mel="log",
    ).T  # [T, 80]
    mel = (mel - mel.mean(axis=0)) / np.sqrt(mel.var(axis=0, ddof=1) + 1e-7)
    whole = len(mel) // _MEL_FRAMES_PER_CODE * _MEL_FRAMES_PER_CODE
    stacked = mel[:whole].reshape(1, -1, _MEL_BINS * _MEL_FRAMES_PER_CODE)
    return torch.from_numpy(stacked.astype(np.float32))


def load_neucodec(name: str, request: WeightsRequest, device: str) -> NeuCodec:
    """Load NeuCodec with the weights that were asked for; see `codecbook.codecs.load_codec`."""
    return NeuCodec(name, *load_transformers(name, NeuCodecModel, REPOSITORY, request, _random_model), device)


def _random_model() -> Any:
    model = NeuCodecModel(NeuCodecConfig()).eval()
    draw_projections(model)
    return model


def draw_projections(model: Any) -> None:
    """Let a random model's latents vary as far as the quantiser's levels lie apart, whatever the model's size."""
    wave = torch.randn(1, 1, 50 * model.config.encoder_hop_length) * 0.1
    keep_signal_alive(model.acoustic_encoder, model.acoustic_encoder, wave)
    for layer in (model.fc_encoder, model.quantizer.project_in):
        torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
