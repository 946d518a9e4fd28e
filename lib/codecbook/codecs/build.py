"""Build small codecs, in evaluation mode, from published parts: EnCodec (mono and stereo), SNAC, and an FSQ codec.

Whatever reads models of the packages ``encodec``, ``snac`` and ``vector-quantize-pytorch`` reads ours, whose parameters
are random until `codecbook.codecs.training` trains them.
"""

import functools
import importlib
import inspect
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import torch
from torch import Tensor, nn

from codecbook.codecs.encodec_package import deprecated_weight_norm, encodec
from codecbook.errors import CodecbookError, UnsupportedInput, require_one_of
from codecbook.models.store import check_kinds
from codecbook.models.weights import seeded, unallocated

# imported where they are built: vector_quantize_pytorch brings 75 MB along, and a second of waiting
if TYPE_CHECKING:
    import snac
    from vector_quantize_pytorch import FSQ

EncodecModel = encodec.model.EncodecModel
# the decoder's: the encoder shortens the signal eightfold at its first stage, where upstream halves it. Most arithmetic
# of a SEANet is spent at the full rate, so that this order trains twice as fast at the same width
_STRIDES = (2, 4, 5, 8)
_MAX_FSQ_CODES = 1 << 20  # the package lists them


def offered_bandwidths_kbps(num_codebooks: int, codebook_size: int, frame_rate_hz: float) -> list[float]:
    """Return the bitrates of 2, 4, 8 ... codebooks and of all of them, ascending.

    Upstream takes the floor of bitrate over bitrate per codebook; where rounding would lose a codebook, the offer is
    the next float that does not.

    Example:
        >>> offered_bandwidths_kbps(16, 1024, 75)
        [1.5, 3.0, 6.0, 12.0]
    """
    each = math.log2(codebook_size) * frame_rate_hz / 1000
    offers = []
    for count in sorted({2**exponent for exponent in range(1, num_codebooks.bit_length())} | {num_codebooks}):
        offer = each * count
        while math.floor(offer / each) < count:
            offer = math.nextafter(offer, math.inf)
        offers.append(offer)
    return offers


def _check_codebooks(num_codebooks: int, codebook_size: int) -> None:
    if num_codebooks < 1 or codebook_size < 2 or codebook_size & (codebook_size - 1):
        raise UnsupportedInput(f"{num_codebooks} codebooks of {codebook_size}: give 1 or more, of a power of two.")


def _seanet(
    channels: int, hidden_dim: int, num_filters: int, strides: Sequence[int], num_lstm_layers: int, norm: str
) -> tuple[Any, Any]:
    """Return an encoder and a decoder with random parameters, causal where they are mono."""
    arguments = {
        "channels": channels, "dimension": hidden_dim, "n_filters": num_filters, "ratios": list(strides), "norm": norm,
        "causal": channels == 1, "lstm": num_lstm_layers,
    }  # fmt: skip
    with deprecated_weight_norm():
        return encodec.modules.seanet.SEANetEncoder(**arguments), encodec.modules.seanet.SEANetDecoder(**arguments)


def build(
    num_codebooks: int = 8,
    codebook_size: int = 1024,
    hidden_dim: int = 64,
    sample_rate_hz: int = 24_000,
    bandwidth_kbps: float = 6.0,
    num_filters: int = 16,
    strides: Sequence[int] = _STRIDES,
    num_lstm_layers: int = 0,
    norm: str = "weight_norm",
    name: str = "encodec_24khz_mini",
    channels: int = 1,
) -> EncodecModel:
    """Build an EnCodec with random parameters: mono and causal, or stereo like upstream's at 48 kHz.

    The stereo one is not causal, and takes normalised segments of 1 s with 1 % overlap.

    Args:
        num_codebooks: Residual codebooks, ``K``.
        codebook_size: Entries of each, ``V``, a power of two.
        hidden_dim: Dimension of the latents and of the codewords.
        sample_rate_hz: With the default strides (320 samples a frame) 24 kHz gives 75 frames/s, 48 kHz 150.
        bandwidth_kbps: Bitrate to set; 1.5, 3, 6 and 12 kbps are 2, 4, 8 and 16 codebooks of 1024 at 24 kHz.
        num_filters: Channels of the first convolution; they double at each stride.
        strides: The decoder's upsampling factors in order.
        num_lstm_layers: LSTM layers next to the bottleneck (upstream: 2). Without, the receptive field is finite.
        norm: ``"weight_norm"``, or ``"time_group_norm"``, which upstream's stereo model has.
        name: Of the model, written into ``.ecdc`` headers.
        channels: 1 or 2.

    Raises UnsupportedInput for codebooks, strides or a bandwidth that do not fit together.
    """
    encoder, decoder = _seanet(channels, hidden_dim, num_filters, strides, num_lstm_layers, norm)
    _check_codebooks(num_codebooks, codebook_size)
    hop_length = math.prod(strides)
    if hop_length < 1 or sample_rate_hz < 1 or sample_rate_hz % hop_length:
        raise UnsupportedInput(f"The hop {hop_length} of {tuple(strides)} must divide {sample_rate_hz}; take others.")
    quantizer = encodec.quantization.vq.ResidualVectorQuantizer(
        hidden_dim, n_q=num_codebooks, bins=codebook_size, kmeans_init=False
    )
    bandwidths = offered_bandwidths_kbps(num_codebooks, codebook_size, sample_rate_hz // hop_length)
    segments: dict[str, Any] = {} if channels == 1 else {"normalize": True, "segment": 1.0, "overlap": 0.01}
    model = EncodecModel(encoder, decoder, quantizer, bandwidths, sample_rate_hz, channels, name=name, **segments)
    set_bandwidth(model, bandwidth_kbps)
    return model.eval()


build_stereo = functools.partial(
    build, sample_rate_hz=48_000, bandwidth_kbps=12.0, name="encodec_48khz_mini", channels=2
)


def set_bandwidth(model: EncodecModel, bandwidth_kbps: float) -> None:
    """Choose how many codebooks an EnCodec uses; refuse a bitrate that it does not offer."""
    for offered in model.target_bandwidths:
        if math.isclose(offered, bandwidth_kbps, rel_tol=1e-6):
            model.set_target_bandwidth(offered)
            return
    raise UnsupportedInput(
        f"This model has no bandwidth of {bandwidth_kbps} kbps; choose one of "
        f"{', '.join(f'{offered:g}' for offered in model.target_bandwidths)}, or build it with other codebooks."
    )


def build_snac(
    codebook_size: int = 4096,
    codebook_dim: int = 16,
    vq_strides: Sequence[int] = (4, 2, 1),
    encoder_dim: int = 8,
    decoder_dim: int = 128,
    encoder_strides: Sequence[int] = (8, 8, 4, 2),
    sample_rate_hz: int = 24_000,
    depthwise: bool = False,
) -> "snac.SNAC":
    """Build a small SNAC, without noise blocks (their output differs at each call) and local attention.

    As in the published 24 kHz model, the defaults are three levels of 4096 codes and 512 samples a frame.

    Args:
        codebook_size: Entries of each level.
        codebook_dim: Dimension in which codewords are compared.
        vq_strides: Frames for which one code of each level stands, coarse to fine, the last 1.
        encoder_dim: Channels of the encoder's first convolution; they double at each stride.
        decoder_dim: Channels of the decoder's first convolution; they halve at each stride.
        encoder_strides: Downsampling factors; the decoder goes through them backwards.
        sample_rate_hz: Sampling rate in and out.
        depthwise: Whether residual units filter each channel alone, as in the published models; on a CPU full
            convolutions with as many channels take hardly longer.
    """
    _check_codebooks(len(vq_strides), codebook_size)
    if list(vq_strides) != sorted(vq_strides, reverse=True) or any(vq_strides[0] % s for s in vq_strides):
        raise UnsupportedInput(f"vq_strides must descend and divide the first; {tuple(vq_strides)} do not.")
    import snac

    model = snac.SNAC(
        sampling_rate=sample_rate_hz, encoder_dim=encoder_dim, encoder_rates=list(encoder_strides),
        decoder_dim=decoder_dim, decoder_rates=list(reversed(encoder_strides)),
        attn_window_size=cast(Any, None),  # none at all, which the package's annotation does not foresee
        codebook_size=codebook_size, codebook_dim=codebook_dim, vq_strides=list(vq_strides), noise=False,
        depthwise=depthwise,
    )  # fmt: skip
    return model.eval()


class FsqCodec(nn.Module):
    """A mono SEANet around one finite scalar quantiser (Mentzer et al. 2023): one token a frame."""

    def __init__(self, encoder: Any, quantizer: "FSQ", decoder: Any, sample_rate_hz: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.sample_rate_hz = sample_rate_hz
        self.hop_length = int(encoder.hop_length)
        self.codebook_size = int(cast(Tensor, quantizer._levels).prod())

    def encode(self, waveform: Tensor) -> Tensor:
        """Turn float32 ``[B, 1, S]`` into codes, int64 ``[B, T]`` with ``T = ceil(S / hop_length)``."""
        return self.quantizer(self.encoder(waveform).transpose(1, 2))[1].long()

    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes ``[B, T]`` into float32 ``[B, 1, T * hop_length]``."""
        return self.decoder(self.quantizer.indices_to_codes(codes).transpose(1, 2))


def build_fsq(
    levels: Sequence[int] = (4, 4, 4, 4, 4, 4, 4, 4),
    hidden_dim: int = 64,
    sample_rate_hz: int = 24_000,
    num_filters: int = 16,
    strides: Sequence[int] = (2, 5, 6, 8),
    num_lstm_layers: int = 0,
) -> FsqCodec:
    """Build a causal mono codec with one codebook: a finite scalar quantiser over 480 samples, 50 frames/s.

    Arguments are those of `build`, and ``levels``: values that each scalar can take; eight of 4 make a vocabulary of
    65,536 (16 bits, 0.8 kbps). A linear layer takes the latents to ``len(levels)`` scalars and back. Raises
    UnsupportedInput: a level below 3, which the quantiser cannot centre.
    """
    if not levels or min(levels) < 3 or math.prod(levels) > _MAX_FSQ_CODES:
        raise UnsupportedInput(f"FSQ levels are 3 or more, of {_MAX_FSQ_CODES} codes, not {str(tuple(levels))[:60]}.")
    encoder, decoder = _seanet(1, hidden_dim, num_filters, strides, num_lstm_layers, "weight_norm")
    # einx, below it, marks its operations for torch.compile, and loads all of the compiler for it, a second's work
    with mock.patch("torch.compiler.allow_in_graph", lambda operation: operation):
        from vector_quantize_pytorch import FSQ

    with torch.device("cpu"):  # it computes with its levels, which shapes alone do not allow
        quantizer = FSQ(list(levels), dim=hidden_dim)
    return FsqCodec(encoder, quantizer, decoder, sample_rate_hz).eval()


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "encodec": build,
    "encodec_stereo": build_stereo,
    "snac": build_snac,
    "fsq": build_fsq,
}


def build_architecture(architecture: str, arguments: dict) -> nn.Module:
    """Build a model from a name of `ARCHITECTURES` and keyword arguments, as model files state them.

    Raises UnsupportedInput: unknown name or arguments.
    """
    require_one_of("architecture", architecture, ARCHITECTURES)
    signature = inspect.signature(ARCHITECTURES[architecture])
    check_kinds(arguments, {n: p.default for n, p in signature.parameters.items()}, architecture)
    try:
        return ARCHITECTURES[architecture](**arguments)
    except CodecbookError:
        raise
    except Exception as error:  # numbers that make no network fail wherever the packages stumble over them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedInput(f"{architecture} with {arguments}: {reason}; see codecbook.codecs.build.") from error


def architecture_shapes(architecture: str, arguments: dict) -> dict[str, list[int]]:
    """Return the shape of each parameter of a model without allocating any (but those of an FSQ's quantiser)."""
    return {name: list(shape) for name, shape in _shapes(architecture, json.dumps(arguments)).items()}


@functools.lru_cache(maxsize=16)  # building takes longer than reading the weights of a small codec
def _shapes(architecture: str, arguments_json: str) -> dict[str, tuple[int, ...]]:
    packages = {"snac": "snac", "fsq": "vector_quantize_pytorch"}
    if architecture in packages:
        importlib.import_module(packages[architecture])  # before: tensors of modules have to be real
    with unallocated():
        module = build_architecture(architecture, json.loads(arguments_json))
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def random_seeded(architecture: str, arguments: dict, seed: int) -> nn.Module:
    """Build a model whose random parameters depend on the seed alone, and leave torch's generator as it was."""
    with seeded(seed):
        return build_architecture(architecture, arguments)
