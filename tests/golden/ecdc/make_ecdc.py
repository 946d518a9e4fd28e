"""Make the .ecdc files of this folder, and hold what tests of ``.ecdc`` share: small models, and calls of the package.

Raw and upstream streams are written by the package ``encodec`` 0.1.1 itself; those of ``acv`` 4 by codecbook, whose
rules agree byte for byte with the files under ``CODECBOOK_EXTRA/golden`` (tests/coding compares them). Codes follow a
formula and the language model is a table of exact binary fractions, so that no machine rounds them otherwise. Run it
only to add cases:

    python tests/golden/ecdc/make_ecdc.py
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codecbook.codecs.build import build, build_stereo
from codecbook.codecs.encodec_package import encodec
from codecbook.coding.ecdc import write_ecdc

# the package shadows its module by a function of the same name
COMPRESS: Any = importlib.import_module("encodec.compress")
HERE = Path(__file__).parent
V, K = 16, 4
NUM_SAMPLES = {"mono": 6000, "stereo": 60000}
# name: shape of the clip, acv, dialect
CASES: dict[str, tuple[str, int, str | None]] = {
    f"{shape}_{kind}": (shape, acv, dialect)
    for shape in NUM_SAMPLES
    for kind, acv, dialect in [
        ("raw", 0, None),
        ("lm", 1, None),
        ("raw_qstep128", 0, "qstep128"),
        ("lm_qstep128", 4, "qstep128"),
        ("lm_qstep64", 4, "qstep64"),
    ]
}


class TableLm(torch.nn.Module):
    """A language model of exact numbers: the codes before choose a row of weights 1..2^k that sum to 2^k."""

    def __init__(self) -> None:
        super().__init__()
        self.card, self.n_q = V, K
        weights = np.full((V + 1, K, V), 1.0)
        row, k = np.ogrid[: V + 1, :K]
        weights[row, k, (3 * row + 5 * k) % V] += 256 - V
        weights[row, k, (5 * row + k) % V] += 256
        self.register_buffer("weights", torch.from_numpy(weights / 512).float())

    def _tables(self, indices: torch.Tensor) -> torch.Tensor:
        table: Any = self.weights
        rows = [table[indices[0, k, 0], k] for k in range(indices.shape[1])]
        return torch.stack(rows, dim=1)[None, :, :, None]  # [1, V, K, 1]

    def forward(self, indices: torch.Tensor, states: Any = None, offset: int = 0) -> tuple:
        return self._tables(indices), states, offset + 1


class TableLogitsLm(TableLm):
    """The same with logits: multiples of 1/64, on every dialect's grid."""

    def forward_logits(self, indices: torch.Tensor, states: Any = None, offset: int = 0) -> tuple:
        return (self._tables(indices) * 512 / 64).floor(), states, offset + 1


def small_model(shape: str) -> Any:
    """Return an EnCodec with 4 codebooks of 16 and random weights, under upstream's name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if shape == "mono":
            return build(K, V, hidden_dim=8, bandwidth_kbps=1.2, num_filters=2, name="encodec_24khz")
        return build_stereo(K, V, hidden_dim=8, bandwidth_kbps=2.4, num_filters=2, name="encodec_48khz")


def small_lm(model: Any, seed: int = 0, scale: float = 3.0) -> Any:
    """Return the package's LMModel, one layer of 16 dimensions, with random weights that make it choosy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = encodec.model.LMModel(K, V, dim=16, num_layers=1, num_heads=2, past_context=20)
        for linear in lm.linears:
            linear.weight.data *= scale
    return lm.eval()


def golden_segments(shape: str) -> list[tuple[np.ndarray, float | None]]:
    """Return codes [K, T] and the scale of each segment of the golden clips, by formula."""
    samples = NUM_SAMPLES[shape]
    counts = [-(-samples // 320)] if shape == "mono" else [150, -(-(samples - 47520) // 320)]
    segments = []
    for index, count in enumerate(counts):
        k, t = np.ogrid[:K, :count]
        codes = (t * t + 3 * t * (k + index) + 5 * k) % V
        codes = np.where((t + k) % 3 == 0, (7 * t + 11 * k) % V, codes)
        segments.append((codes, None if shape == "mono" else 0.125 * (index + 1)))
    return segments


def golden_model(shape: str) -> Any:
    """Return a model whose encoder gives `golden_segments` for any clip."""
    model = small_model(shape)

    def encode(wav: torch.Tensor) -> list[tuple]:
        return [
            (torch.from_numpy(codes)[None], None if scale is None else torch.tensor([[scale]]))
            for codes, scale in golden_segments(shape)
        ]

    model.encode = encode
    return model


@contextlib.contextmanager
def _package_knows(model: Any, lm: Any) -> Iterator[None]:
    before = dict(COMPRESS.MODELS)
    COMPRESS.MODELS[model.name] = lambda: model
    model.get_lm_model = lambda: lm
    try:
        yield
    finally:
        COMPRESS.MODELS.clear()
        COMPRESS.MODELS.update(before)
        del model.get_lm_model


def package_write(model: Any, wav: torch.Tensor, lm: Any = None) -> bytes:
    """Return the package's stream of a clip float32 [C, S]."""
    file = io.BytesIO()
    with _package_knows(model, lm):
        COMPRESS.compress_to_file(model, wav, file, use_lm=lm is not None)
    return file.getvalue()


def package_read(model: Any, data: bytes, lm: Any = None) -> np.ndarray:
    """Return the samples float32 [C, S] that the package decodes."""
    with _package_knows(model, lm):
        return COMPRESS.decompress(data)[0].numpy()


def make(name: str) -> bytes:
    """Return one of the files."""
    shape, acv, dialect = CASES[name]
    model = golden_model(shape)
    wav = torch.zeros(model.channels, NUM_SAMPLES[shape])
    if dialect is None:
        return package_write(model, wav, TableLm() if acv else None)
    return write_ecdc(model, wav, TableLogitsLm() if acv else None, acv, dialect)


if __name__ == "__main__":
    for case in CASES:
        (HERE / f"{case}.ecdc").write_bytes(make(case))
