"""docs/stream-format.md and docs/exact-lm.md are complete: a decoder made from them alone reads all streams."""

import sys
from pathlib import Path

import pytest

from codecbook.lm.exact import save_exact

sys.path.insert(0, str(Path(__file__).parent))  # helpers lie beside the tests

import plain_decoder
import stream_cases as cases


@pytest.mark.parametrize("kind", cases.KINDS)
def test_raw_streams_of_every_kind(kind):
    tokens = cases.KINDS[kind]
    header, codes, frames, scales = plain_decoder.decode(cases.encoded(tokens, segment_s=0.5))
    assert codes == [level.tolist() for level in tokens.codes]
    assert (tuple(frames), tuple(scales)) == (tokens.segment_frames, tokens.scales)
    assert header["codec"] == tokens.codec
    assert header["sizes"] == list(tokens.codebook_sizes)
    assert header["rates"] == list(tokens.frame_rates_hz)
    assert header["num_samples"] == (tokens.num_samples or 0)


@pytest.mark.parametrize(
    ("tokens", "model"),
    [
        (cases.parallel(30), cases.exact_model),
        (cases.tree(6, size=16), lambda: cases.exact_model(5, codebooks=7)),
        (cases.parallel(20, sizes=(16,)), cases.rotary_model),
        (cases.parallel(3, sizes=(65_536,)), lambda: cases.exact_model(6, codebooks=2, size=256)),
    ],
    ids=["frames", "tree", "rotary", "bytes"],
)
def test_streams_behind_a_language_model(tokens, model, tmp_path):
    save_exact(tmp_path / "lm", model())
    data = cases.encoded(tokens, model(), segment_s=0.4)
    _, codes, _, _ = plain_decoder.decode(data, plain_decoder.PlainLM(tmp_path / "lm"))
    assert codes == [level.tolist() for level in tokens.codes]


def test_it_checks_what_it_reads():
    data = bytearray(cases.encoded(cases.parallel(50)))
    data[300] ^= 1
    with pytest.raises(plain_decoder.Refused):
        plain_decoder.decode(bytes(data))
