"""Percentiles that are kept from the greatest values alone, and where they are taken."""

import numpy as np
import pytest
import torch

from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.calibrate import Peaks, calibration_rows, measure
from codecbook.tokens import tokens_from_frames


@pytest.mark.parametrize("count", [1, 50, 9_999, 10_000, 35_000])
def test_percentiles_equal_those_of_all_values(count: int) -> None:
    values = np.random.default_rng(count).exponential(size=(count, 3)).astype(np.float32)
    peaks = Peaks()
    for part in np.array_split(values, min(count, 7)):
        peaks.add(torch.from_numpy(part), expected=count + 100)
    cut = int(count * 1e-4)
    np.testing.assert_array_equal(peaks.percentile(), np.sort(values, axis=0)[::-1][cut].astype(np.float64))
    assert peaks.greatest == values.max()


@pytest.mark.parametrize("kind", ["in_frame", "rotary"])
def test_measure_sees_what_a_norm_puts_out(kind: str, make_float_model, draw_codes) -> None:
    model = make_float_model(kind)
    clips = [draw_codes(model, 20, seed=s) for s in range(2)]
    channels = measure(model, clips)
    seen: list[torch.Tensor] = []
    handle = model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output.reshape(-1, 32)))
    with torch.inference_mode():
        for clip in clips:
            model(torch.from_numpy(clip)[None])
    handle.remove()
    outputs = torch.cat(seen).abs()
    # token_bits adds up in another order than forward, hence the last bits
    np.testing.assert_allclose(channels["norm"].percentile(), outputs.amax(dim=0), rtol=1e-4)
    halved = measure(model, clips, {"norm": np.full(32, 2.0)})
    np.testing.assert_allclose(halved["norm"].percentile(), [outputs.max() / 2], rtol=1e-4)
    assert channels["layers.1.query"].percentile().shape == (4,)
    assert channels["layers.0.value"].percentile().shape == (32,)
    assert not model.norm._forward_hooks, "hooks are removed"


def _clips(lengths: list[int]) -> Corpus:
    return Corpus.from_tokens(
        {f"c{i}": tokens_from_frames(np.full((n, 2), i), 64, 75.0) for i, n in enumerate(lengths)}
    )


def test_calibration_rows_come_from_all_over_the_corpus() -> None:
    rows = calibration_rows(_clips([100] * 40), num_frames=200)
    assert [len(part) for part in rows] == [13] * 16  # 200 frames, rounded up
    assert [int(part[0, 0]) for part in rows][:3] == [0, 2, 5]
    assert len(calibration_rows(_clips([3, 4]), num_frames=200)) == 2
