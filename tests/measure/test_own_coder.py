"""The coder that CONTRIBUTING.md spells out, added just as it says: beside the others, and no longer than they are."""

import bz2
from collections.abc import Callable

import numpy as np
import pytest

import codecbook.coding
from codecbook.coding.counts import GRID_DIALECTS
from codecbook.lm.baselines import compressors
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer
from codecbook.measure.rates import coder_costs
from codecbook.paths import repository_dir

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_coder_and_the_compressor_of_the_text_are_compared(
    small_lm: RVQTransformer, small_exact: ExactLM, small_clips: Corpus, added: Callable, monkeypatch
) -> None:
    rans, line = added("A new coder", codecbook.coding)
    own = eval(f"{{{line}}}", {**vars(coder_costs), **vars(rans)})
    monkeypatch.setattr(coder_costs, "FLOAT_CODERS", {**coder_costs.FLOAT_CODERS, **own})
    line = '"bzip2 -9": bz2.compress,'
    assert f"`{line}`" in (repository_dir() / "CONTRIBUTING.md").read_text()
    compressor = eval(f"{{{line}}}", {"bz2": bz2})
    monkeypatch.setattr(compressors, "COMPRESSORS", {**compressors.COMPRESSORS, **compressor})
    monkeypatch.setattr(coder_costs, "COMPRESSORS", (*coder_costs.COMPRESSORS, *compressor))
    costs, intervals = coder_costs.coder_costs(small_lm, small_exact, small_clips, small_clips)
    assert list(costs)[:4] == ["raw", "zstd -19", "xz -9e", "bzip2 -9"]
    table = coder_costs.cost_table(costs, costs["raw"].bits_per_token).set_index("model").bits_per_token
    # of the same intervals as the format's own; the integer's own five bytes, of which a clip of 40 frames has few
    assert intervals["rANS"].bits_per_token == intervals["acv 4, qstep 1/128"].bits_per_token
    assert 0 < table["rANS"] - intervals["rANS"].bits_per_token < 8 * 5 / (40 * 3)
    cdf = GRID_DIALECTS["qstep128"].cdf(coder_costs.float_logits(small_lm, small_clips.clip(0)))
    symbols = small_clips.clip(0).T
    assert np.array_equal(rans.decode_rans(rans.encode_rans(symbols, cdf), cdf), symbols)
