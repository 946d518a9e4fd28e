"""`export_onnx`: a language model as three ONNX graphs, float or exact."""

from dataclasses import dataclass

from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.certificate import certificate
from codecbook.lm.exact.export import config_of
from codecbook.lm.exact.model import ExactConfig, ExactLM
from codecbook.lm.gpt import TinyGPT
from codecbook.lm.onnx.exact import ExactArithmetic
from codecbook.lm.onnx.floats import FloatArithmetic
from codecbook.lm.onnx.transformer import head_graph, heads_graph, read_graph
from codecbook.lm.rvq_transformer import RVQTransformer
from codecbook.lm.token_lm import TokenLM


@dataclass(frozen=True)
class OnnxLM:
    """A language model as ONNX files, each complete in itself.

    Reading a clip: `read` takes the BOS frame (every code ``V``) and an empty past, and says what `head` reads for the
    first frame; then it takes frame after frame, or many at once. Any batch, and with a bias per distance any length;
    with rotary positions a sequence ends after ``W`` frames, BOS included.

    Attributes:
        config: Shape of the model.
        is_exact: The logits are int64 in 2^-8 bit, by ``docs/exact-lm.md``; else float32 in nats.
        read: ``codes, past -> hidden, present``; see `codecbook.lm.onnx.transformer.read_graph`.
        head: ``hidden, before -> logits`` of one codebook; see `codecbook.lm.onnx.transformer.head_graph`.
        heads: ``hidden, codes -> logits`` of all codebooks; see `codecbook.lm.onnx.transformer.heads_graph`.
    """

    config: ExactConfig
    is_exact: bool
    read: bytes
    head: bytes
    heads: bytes


def export_onnx(model: TokenLM | ExactLM) -> OnnxLM:
    """Convert a model to ONNX.

    An exact model gives the same logits under every ONNX runtime on CPUs that computes float32 products in float32
    and float64 by IEEE 754, whatever its optimiser does. The files of an exact model name its identity
    (`ExactLM.sha256`) in their metadata as ``codecbook.exact``.

    Args:
        model: An `RVQTransformer` or a `TinyGPT` of float32, or an `ExactLM`; it is not changed. Dropout is left out.

    Raises:
        UnsupportedInput: Another kind of model or of numbers, or an exact model without a certificate.
    """
    if isinstance(model, ExactLM):
        certificate(model)
        numbers, metadata = ExactArithmetic(model), {"codecbook.exact": model.sha256}
    elif not isinstance(model, RVQTransformer | TinyGPT):
        raise UnsupportedInput(
            f"A {type(model).__name__} has no ONNX form; export an RVQTransformer, a TinyGPT or an ExactLM."
        )
    else:
        numbers, metadata = FloatArithmetic(model, config_of(model)), {}
    return OnnxLM(
        numbers.config,
        isinstance(model, ExactLM),
        read=read_graph(numbers, metadata),
        head=head_graph(numbers, metadata),
        heads=heads_graph(numbers, metadata),
    )
