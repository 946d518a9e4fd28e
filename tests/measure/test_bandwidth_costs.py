"""A model trained for moments still makes an exact coder that the streams decode with."""

import numpy as np
import pytest

from codecbook.coding.exact_segments import decode_frames, encode_frames
from codecbook.lm.data import Corpus
from codecbook.measure.bandwidth_costs import bandwidth_sizes, train_exact
from codecbook.paths import data_dir
from codecbook.tokens import Tokens

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_regular_source_is_learned_in_moments() -> None:
    frames = np.arange(400) % 8
    tokens = {
        f"clip {n}": Tokens(
            codes=(frames, (frames + n) % 8), codebook_sizes=(8, 8), frame_rates_hz=(50.0,) * 2
        )
        for n in range(4)
    }
    corpus = Corpus.from_tokens(tokens)
    training, held_out = corpus.subset(corpus.clips[:3]), corpus.subset(corpus.clips[3:])
    model = train_exact(training, held_out, steps=40)
    codes = held_out.clip(0)
    segment = encode_frames(model, codes)
    assert 8 * len(segment.payload) < 0.9 * 3 * codes.size
    np.testing.assert_array_equal(decode_frames(model, segment.payload, len(codes))[0], codes)


def test_bandwidths_of_the_bundled_tokens() -> None:
    if not (data_dir() / "tokens" / "index.json").is_file():
        pytest.skip("no bundled tokens")
    sizes = bandwidth_sizes("encodec_24khz", [1, 2], 3, ["kathleen/arctic_a0066_1592747040"], {})
    assert sizes[["codebooks", "nominal_kbps"]].to_numpy().tolist() == [[1, 0.75], [2, 1.5]]
    assert (sizes["payload_bits"].to_numpy() < 1.2 * sizes["raw_bits"].to_numpy()).all()
