"""Use each coder once, as the last step of an installation: what is compiled at its first use is there from then on."""

import tempfile
from pathlib import Path

import numpy as np
from usage import ROOT

from codecbook.coding import api, arithmetic, counts, range_coder
from codecbook.coding.exact.counts import cdf_exact
from codecbook.errors import CodecbookError
from codecbook.lm.baselines.mixing import mixing_model
from codecbook.lm.data.corpus import Corpus
from codecbook.probes.weights import __main__ as weights
from codecbook.tokens import Tokens


def main() -> None:
    """Code a recording, tokens and weights; CodecbookError: they are not what they were."""
    stream = api.compress(ROOT / "data/clips/speech_01_slt.flac", exact=True)
    if not api.sounds_as_sent(stream):
        raise CodecbookError("A stream that was made here does not decode to what it was made of.")
    codes = np.random.default_rng(0).integers(0, 16, (2, 40))
    logits = np.random.default_rng(1).normal(size=(40, 16, 2)).astype(np.float32)
    for encode, decode, cdf in (
        (arithmetic.encode_upstream, arithmetic.decode_upstream, counts.cdf_upstream(logits)),
        (arithmetic.encode_grid, arithmetic.decode_grid, counts.cdf_grid(logits)),
        (range_coder.encode_range, range_coder.decode_range, cdf_exact(np.rint(256 * logits).astype(np.int32))),
    ):
        if not np.array_equal(decode(encode(codes, cdf), cdf), codes):
            raise CodecbookError(f"{decode.__name__} does not return what {encode.__name__} was given.")
    mixing_model(Corpus.from_tokens({"clip": Tokens(tuple(codes), (16, 16), (50.0, 50.0))}))
    with tempfile.TemporaryDirectory() as folder:
        if weights.main(["compress", "fsq_50hz", "--out", str(Path(folder) / "fsq.cbw")]):
            raise CodecbookError("The weights of a bundled codec cannot be compressed; its message stands above.")


if __name__ == "__main__":
    main()
