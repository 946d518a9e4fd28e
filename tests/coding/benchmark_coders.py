"""Print how fast counts and coders run here: 8 codebooks of 1024 codes at 75 frames/s. Not a test.

python tests/coding/benchmark_coders.py
"""

import io

import numpy as np
import torch

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.coding import arithmetic, counts, range_coder
from codecbook.measure.speed import measure_rtf

T, V, K = 75, 1024, 8


def push_all(encoder, symbols: np.ndarray, cdf: np.ndarray) -> bytes:
    for t in range(T):
        for k in range(K):
            encoder.push(int(symbols[k, t]), cdf[t, k])
    return encoder.finish()


def package_encode(symbols: np.ndarray, pdf: torch.Tensor) -> bytes:
    from encodec.quantization.ac import ArithmeticCoder, build_stable_quantized_cdf

    file = io.BytesIO()
    coder = ArithmeticCoder(file)
    for t in range(T):
        for k in range(K):
            row = build_stable_quantized_cdf(pdf[t, :, k], coder.total_range_bits, check=False)
            coder.push(int(symbols[k, t]), row)
    coder.flush()
    return file.getvalue()


def main() -> None:
    """Print a real-time factor per line."""
    torch.set_num_threads(1)
    logits = np.random.default_rng(0).normal(0, 2, size=(T, V, K)).astype(np.float32)
    units = np.round(logits / np.log(2) * 256).astype(np.int32)
    symbols = np.random.default_rng(1).integers(0, V, size=(K, T))
    pdf = torch.softmax(torch.from_numpy(logits), dim=1)
    upstream, grid, exact = counts.cdf_upstream(logits), counts.cdf_grid(logits), counts.cdf_exact(units)
    upstream_data = arithmetic.encode_upstream(symbols, upstream)
    grid_data = arithmetic.encode_grid(symbols, grid)
    range_data = range_coder.encode_range(symbols, exact)
    cases = {
        "package encodec: counts and coder": lambda: package_encode(symbols, pdf),
        "cdf_upstream": lambda: counts.cdf_upstream(logits),
        "cdf_grid": lambda: counts.cdf_grid(logits),
        "cdf_exact": lambda: counts.cdf_exact(units),
        "encode_upstream": lambda: arithmetic.encode_upstream(symbols, upstream),
        "decode_upstream": lambda: arithmetic.decode_upstream(upstream_data, upstream),
        "encode_grid": lambda: arithmetic.encode_grid(symbols, grid),
        "decode_grid": lambda: arithmetic.decode_grid(grid_data, grid),
        "encode_range": lambda: range_coder.encode_range(symbols, exact),
        "decode_range": lambda: range_coder.decode_range(range_data, exact),
        "RangeEncoder.push": lambda: push_all(range_coder.RangeEncoder(), symbols, exact),
        "UpstreamEncoder.push": lambda: push_all(arithmetic.UpstreamEncoder(), symbols, upstream),
    }
    for name, run in cases.items():
        print(f"{name:35s} {measure_rtf(run, duration_s=T / 75)}")


if __name__ == "__main__":
    main()
