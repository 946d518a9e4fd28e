"""Make coding.npz: counts and coded bytes that must never change.

Upstream's part comes from the package ``encodec`` 0.1.1 itself. The rest comes from codecbook, whose ``acv=4`` rules
agree bit for bit with the files under ``CODECBOOK_EXTRA/golden`` (tests/coding compares them) and whose exact rules
agree with the plain-Python versions in tests/coding. Run it only to add cases:

    python tests/golden/coding/make_golden.py
"""

import io
from pathlib import Path

import numpy as np
import torch

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.coding.arithmetic import encode_grid
from codecbook.coding.counts import GRID_DIALECTS, cdf_exact
from codecbook.coding.range_coder import encode_range

T, V, K = 12, 32, 3


def make_logits() -> np.ndarray:
    """Return float32 [T, V, K]: zeros, then an underflowing column, a constant one, ties on the grid, then noise."""
    rng = np.random.default_rng(20240607)
    logits = rng.normal(0, 3, size=(T, V, K))
    logits[0] = 0
    logits[1, :, 0], logits[1, 5, 0] = -200, 50
    logits[2, :, 1] = 0.75
    logits[3] = rng.integers(-300, 300, size=(V, K)) / 256
    return logits.astype(np.float32)


def upstream(pdf: np.ndarray, symbols: np.ndarray) -> tuple[np.ndarray, bytes]:
    """Return the package's CDF [T, K, V] and its coder's bytes."""
    from encodec.quantization.ac import ArithmeticCoder, build_stable_quantized_cdf

    cdf = np.empty((T, K, V), dtype=np.int32)
    file = io.BytesIO()
    coder = ArithmeticCoder(file)
    for t in range(T):
        for k in range(K):
            row = build_stable_quantized_cdf(torch.from_numpy(pdf[t, :, k]), 24, check=False)
            cdf[t, k] = row.numpy()
            coder.push(int(symbols[k, t]), row)
    coder.flush()
    return cdf, file.getvalue()


def main() -> None:
    """Write coding.npz beside this file."""
    logits = make_logits()
    units = np.round(logits.astype(np.float64) / np.log(2) * 256).astype(np.int32)
    symbols = np.random.default_rng(7).integers(0, V, size=(K, T))
    symbols[0, 1], symbols[1, 4], symbols[2, 4] = 5, 0, V - 1
    pdf = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    upstream_cdf, upstream_bytes = upstream(pdf, symbols)
    arrays = {
        "logits": logits,
        "units": units,
        "symbols": symbols,
        "pdf": pdf,
        "upstream_cdf": upstream_cdf,
        "upstream_bytes": np.frombuffer(upstream_bytes, dtype=np.uint8),
    }
    for name, dialect in GRID_DIALECTS.items():
        cdf = dialect.cdf(logits)
        arrays[f"{name}_cdf"] = cdf.astype(np.int32)
        arrays[f"{name}_bytes"] = np.frombuffer(encode_grid(symbols, cdf), dtype=np.uint8)
    for total_bits in (20, 24):
        cdf = cdf_exact(units, total_bits)
        arrays[f"exact{total_bits}_cdf"] = cdf.astype(np.int32)
        data = encode_range(symbols, cdf, total_bits)
        arrays[f"exact{total_bits}_bytes"] = np.frombuffer(data, dtype=np.uint8)
    np.savez_compressed(Path(__file__).with_name("coding.npz"), **arrays)


if __name__ == "__main__":
    main()
