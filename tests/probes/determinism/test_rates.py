from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from codecbook.errors import UnsupportedInput
from codecbook.probes.determinism.case import Case, make_case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.rates import float_bits, rate_table
from codecbook.probes.determinism.worker import run_cell


def test_the_ideal_is_the_cross_entropy(case: Case) -> None:
    logits = np.load(case.baseline / "logits_float64.npy")
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).flatten(0, 2), torch.from_numpy(case.codes).flatten(), reduction="sum"
    )
    np.testing.assert_allclose(float_bits(logits, case.codes), float(expected) / np.log(2), rtol=1e-12)


def test_a_grid_of_any_step_is_priced(case: Case) -> None:
    table = rate_table(case, (1 / 128, 1e4)).set_index("coder")
    assert table.bits_per_token["grid 0.0078125"] == table.bits_per_token["grid128"]
    assert table.overhead_percent["float logits, ideal"] == 0
    assert abs(table.overhead_percent["grid128"]) < 0.5
    np.testing.assert_allclose(table.bits_per_token["grid 10000"], np.log2(24), rtol=1e-4)  # nothing is left
    assert table.step_nats["float64"] == 1 / 64
    assert np.isnan(table.step_nats["exact"])


def test_all_rates_are_of_the_same_tokens(tmp_path: Path, codes: np.ndarray, model_folder: Path) -> None:
    few = make_case(tmp_path / "few", codes=codes, model_folder=model_folder, float_segments=1)
    run_cell(few, BASELINE, tmp_path / "few.json", write_baseline=True)
    alone = make_case(tmp_path / "alone", codes=codes[:1], model_folder=model_folder)
    run_cell(alone, BASELINE, tmp_path / "alone.json", write_baseline=True)
    pd.testing.assert_frame_equal(rate_table(few), rate_table(alone))


def test_answers_are_needed(fresh: Case) -> None:
    with pytest.raises(UnsupportedInput, match="no answers"):
        rate_table(fresh)
