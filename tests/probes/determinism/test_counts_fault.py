import numpy as np

from codecbook.probes.determinism.counts_fault import masked_logits, send


def test_a_masked_code_gets_a_negative_count_and_wrong_codes_without_an_error() -> None:
    logits, codes = masked_logits(200, 1024, 0.5, seed=0)
    faulty, fixed = send(logits, codes, fixed=False), send(logits, codes, fixed=True)
    assert faulty.rows_falling == 200
    assert faulty.narrowest < 0
    assert faulty.wrong_symbols > 0
    assert faulty.error == ""
    assert (np.diff(faulty.cdf, axis=1) < 0).sum() <= faulty.falling_values
    assert (fixed.falling_values, fixed.rows_falling, fixed.wrong_symbols, fixed.error) == (0, 0, 0, "")
    assert fixed.narrowest == 1


def test_without_masked_codes_the_fault_sleeps() -> None:
    logits, codes = masked_logits(50, 64, 0.0, seed=1)
    assert np.isfinite(logits).all()
    assert send(logits, codes, fixed=False).wrong_symbols == 0
    np.testing.assert_array_equal(send(logits, codes, fixed=False).cdf, send(logits, codes, fixed=True).cdf)
