"""Every way to store a matrix of weights, in one table.

A matrix is float32 ``[R, C]``: a tensor by its first axis and all others. Its bytes hold all that decoding takes but
the shape: scales, codebooks and tables too. Decoding gives the same bits on every machine: it looks up, adds and
multiplies entry by entry, in an order that is written down here, and leaves nothing to a matrix library.

Encoding may differ between machines in its last bits, as sums in BLAS, k-means and singular vectors do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.probes.weights.schemes import lossless, predicted, published, scalars, uniform, vectors

Shape = tuple[int, int]


@dataclass(frozen=True)
class Scheme:
    """A way to store matrices."""

    name: str
    title: str
    encoder: Callable[..., bytes]
    decoder: Callable[[bytes, Shape], np.ndarray]
    lossless: bool = False
    options: dict[str, Any] = field(default_factory=dict)  # of `encode`, that it is called with unless told otherwise
    scaled: bool = True  # whether the peak is taken out first

    def encode(
        self,
        matrix: np.ndarray,
        *,
        source_dtype: str = "F32",
        gram: np.ndarray | None = None,
        seed: int = 0,
        **options: Any,
    ) -> bytes:
        """Return the bytes of a matrix float32 ``[R, C]``.

        Args:
            matrix: Weights.
            source_dtype: Type that they are stored in where they come from, ``"F16"``, ``"BF16"`` or ``"F32"``.
            gram: Second moment of the inputs that meet the columns, float64 ``[C, C]``, where it is known.
            seed: Of k-means.
            options: Instead of the scheme's own.

        Raises:
            CorruptInput: Weights are infinite or not a number, and the scheme is not lossless.
            UnsupportedInput: No matrix, none of its entries, or a value that the scheme cannot hold.
        """
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        if matrix.ndim != 2 or not matrix.size:
            raise UnsupportedInput(f"Weights of shape {list(matrix.shape)} are no matrix; reshape them to [R, C].")
        if not (self.lossless or np.isfinite(matrix).all()):
            raise CorruptInput(f"Weights are not finite, and {self.name} would hide it; store them without loss.")
        head, exponent = b"", 0
        if self.scaled:
            exponent = int(np.frexp(np.abs(matrix).max())[1])
            head, matrix = exponent.to_bytes(2, "little", signed=True), np.ldexp(matrix, -exponent)
        options = {**self.options, **options, "source_dtype": source_dtype, "gram": gram, "seed": seed}
        return head + self.encoder(matrix, **options)

    def decode(self, data: bytes, shape: Shape) -> np.ndarray:
        """Return float32 ``[R, C]``, the same bits on every machine.

        Raises CorruptInput: bytes that this scheme does not write for this shape.
        """
        try:
            matrix = self.decoder(data[2:] if self.scaled else data, shape)
            if self.scaled:
                matrix = np.ldexp(matrix, int.from_bytes(data[:2], "little", signed=True))
        except CorruptInput:
            raise
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise CorruptInput(f"These bytes are no {self.name} of shape {list(shape)}: {error}.") from error
        if matrix.shape != tuple(shape) or matrix.dtype != np.float32:
            raise CorruptInput(f"These bytes are no {self.name} of shape {list(shape)}; fetch the file again.")
        return matrix


def _scalar(name: str, title: str, levels: np.ndarray, group: int, kind: str = "levels") -> Scheme:
    table = {"levels": levels, "group": group}
    encoder = {"levels": scalars.encode_levels, "gptq": scalars.encode_gptq, "rotated": scalars.encode_rotated}[kind]
    decoder = scalars.decode_rotated if kind == "rotated" else scalars.decode_levels
    return Scheme(name, title, partial(encoder, **table), partial(decoder, **table))


def _integers() -> list[Scheme]:
    groups = {"row": 0, "g64": 64, "g32": 32}
    return [
        _scalar(f"int{bits}_{name}", f"int{bits}, a scale per {group or 'row'}", scalars.integer_levels(bits), group)
        for bits in (8, 6, 5, 4)
        for name, group in groups.items()
    ]


def _exact(name: str, title: str, encoder: Callable[..., bytes], decoder: Callable[..., np.ndarray]) -> Scheme:
    return Scheme(name, title, encoder, decoder, lossless=True, scaled=False)


def _products(length: int) -> Scheme:
    options = {"length": length, "codes": 256}
    title = f"k-means, {length} entries a code"
    return Scheme(f"pq_d{length}", title, vectors.encode_products, vectors.decode_products, options=options)


def _ladder(*counts: int) -> Scheme:
    name, title = "_".join(map(str, ("rvq", *counts))), f"residual palettes of {', '.join(map(str, counts))} rows"
    return Scheme(name, title, published.encode_ladder, published.decode_ladder, options={"ladder": counts})


def _palette(name: str, title: str, folded: bool, leaf: bool) -> Scheme:
    form = {"folded": folded, "leaf": leaf}
    return Scheme(name, title, partial(published.encode_palette, **form), partial(published.decode_palette, **form))


def _spiral(anchors: int) -> Scheme:
    title, options = f"spiral, {anchors} anchors a curve", {"count": anchors}
    return Scheme(f"spiral_k{anchors}", title, published.encode_spiral, published.decode_spiral, options=options)


_ALL = [
    _exact("raw", "as they are", lossless.encode_raw, lossless.decode_raw),
    _exact("zstd_planes", "byte planes, zstd", lossless.encode_planes, lossless.decode_planes),
    _exact("exponents", "coded exponents", lossless.encode_exponents, lossless.decode_exponents),
    _exact("predicted", "predicted intervals, coded", predicted.encode_predicted, predicted.decode_predicted),
    Scheme(
        "uniform",
        "uniform steps with feedback, coded",
        uniform.encode_uniform,
        uniform.decode_uniform,
        options={"step": 0.1},
        scaled=False,
    ),
    *(
        Scheme(name.lower(), title, lossless.encode_raw, lossless.decode_raw, options={"to_dtype": name}, scaled=False)
        for name, title in {"F16": "float16", "BF16": "bfloat16"}.items()
    ),
    *_integers(),
    _scalar("nf4_g64", "NF4, a scale per 64", scalars.NF4_LEVELS, 64),
    Scheme(
        "hqq4_g64",
        "HQQ, 4 bits, a zero point per 64",
        partial(scalars.encode_hqq, bits=4, group=64),
        partial(scalars.decode_hqq, group=64),
    ),
    _scalar("hadamard4_g64", "int4 of a Hadamard transform", scalars.integer_levels(4), 64, "rotated"),
    _scalar("gptq4_g64", "GPTQ, 4 bits", scalars.integer_levels(4), 64, "gptq"),
    _scalar("gptq3_g64", "GPTQ, 3 bits", scalars.integer_levels(3), 64, "gptq"),
    _products(2),
    _products(4),
    *(
        Scheme(
            f"svd_{name}", f"SVD, {name} the size", vectors.encode_rank, vectors.decode_rank, options={"share": share}
        )
        for name, share in {"half": 0.5, "quarter": 0.25}.items()
    ),
    _ladder(256, 512, 1024),
    _ladder(256, 512, 1024, 4096),
    Scheme("hclam", "tree of 256 x 256", published.encode_tree, published.decode_ladder, options={"branches": 256}),
    Scheme("base17", "17 means a row", published.encode_base17, published.decode_base17),
    _palette("hhtl_d", "palette of 17 means, Slots D and V", True, False),
    _palette("hhtl_d_slot_l", "the same with a leaf, Slot L", True, True),
    _palette("palette", "palette of 256 rows", False, False),
    _palette("palette_slot_l", "the same with a leaf, Slot L", False, True),
    *map(_spiral, (4, 8, 16)),
]

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}
"""By name."""
