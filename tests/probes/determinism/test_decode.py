import numpy as np
import pytest

from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.coders import CODERS, Coder
from codecbook.probes.determinism.compare import intervals
from codecbook.probes.determinism.decode import decode_segments, encode_segments, ideal_bits
from codecbook.probes.determinism.steps import Steps, trace

every_coder = pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS)


def prepared(case: Case, coder: Coder) -> tuple[Steps, np.ndarray]:
    steps = case.steps(coder.numbers, BASELINE)
    logits = trace(steps, case.codes, 1, "stepping")
    return steps, coder.cdf(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape)


@every_coder
def test_the_same_configuration_decodes_what_it_encoded(case: Case, coder: Coder) -> None:
    steps, cdf = prepared(case, coder)
    streams = encode_segments(coder, cdf, case.codes)
    N, T, K = case.codes.shape
    for part, expected in zip([decode_segments(coder, steps, [data], T, K)[0] for data in streams], case.codes,
                              strict=True):  # fmt: skip
        np.testing.assert_array_equal(part.codes, expected)
        assert not part.error
        assert part.reencodes
    bits = ideal_bits(coder, cdf, case.codes)
    assert bits <= 8 * sum(map(len, streams)) <= bits + 40 * N


@every_coder
def test_intervals_lie_in_the_total(case: Case, coder: Coder) -> None:
    _, cdf = prepared(case, coder)
    ends = intervals(cdf, case.codes)
    assert (ends[..., 0] < ends[..., 1]).all()
    assert cdf.max() <= (1 << coder.total_bits) + 1024  # upstream's may end a little above


@every_coder
def test_damaged_bytes_give_wrong_codes_or_an_error(case: Case, coder: Coder) -> None:
    steps, cdf = prepared(case, coder)
    data = bytes([encode_segments(coder, cdf, case.codes)[0][0] ^ 0x55]) + b"\0" * 2
    (part,) = decode_segments(coder, steps, [data], *case.codes.shape[1:])
    assert (part.codes != case.codes[0]).any()
    assert part.error.startswith("frame ") or not part.reencodes


def test_an_exact_batch_decodes_as_single_segments_do(case: Case) -> None:
    coder = CODERS["exact"]
    steps, cdf = prepared(case, coder)
    streams = encode_segments(coder, cdf, case.codes)
    parts = decode_segments(coder, steps, streams, *case.codes.shape[1:])
    np.testing.assert_array_equal(np.stack([part.codes for part in parts]), case.codes)
