"""Evaluators are compared on what they really put out."""

import hashlib

import numpy as np
import pytest
import torch

from codecbook.errors import UnsupportedInput
from codecbook.lm.data import Corpus
from codecbook.lm.exact import ExactLM, ExactTorch, reference_logits
from codecbook.lm.models import RVQTransformer
from codecbook.measure import evaluators
from codecbook.measure.evaluators import (
    compare_evaluators,
    compare_float_passes,
    compare_long,
    torch_threads,
)


def test_all_evaluators_agree_with_the_reference(small_exact: ExactLM, small_clips: Corpus) -> None:
    clips = [small_clips.clip(i)[:10] for i in range(3)]
    checks = compare_evaluators(small_exact, clips)
    expected = np.stack([reference_logits(small_exact, clip) for clip in clips]).astype("<i4").tobytes()
    assert {check.sha256 for check in checks} == {hashlib.sha256(expected).hexdigest()}
    assert [check.differing for check in checks] == [0] * len(checks)
    assert {check.logits for check in checks} == {3 * 10 * 3 * 64}
    assert {check.threads for check in checks} == {1, 2}


def test_a_wrong_evaluator_is_found_out(
    small_exact: ExactLM, small_clips: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(ExactTorch):
        def logits(self, codes: torch.Tensor, chunk_frames: int = 256) -> torch.Tensor:
            logits = super().logits(codes, chunk_frames).clone()
            logits[0, 0, 0, 0] += 1
            return logits

    monkeypatch.setattr(evaluators, "ExactTorch", Wrong)
    kernel, by_torch = compare_long(small_exact, [small_clips.clip(0), small_clips.clip(1)])
    assert (kernel.differing, by_torch.differing) == (0, 2)
    assert kernel.sha256 != by_torch.sha256
    wrong = {
        check.evaluator: check.differing for check in compare_evaluators(small_exact, [small_clips.clip(0)])
    }
    assert wrong["torch, clip by clip"] == 1
    assert wrong["numba, one frame at a time"] == 0


def test_long_comparison_covers_all_clips(small_exact: ExactLM, small_clips: Corpus) -> None:
    checks = compare_long(small_exact, [small_clips.clip(i) for i in range(3)])
    assert checks[0].sha256 == checks[1].sha256
    assert checks[0].logits == small_clips.num_tokens * 64


def test_equal_float_passes_do_not_differ(small_lm: RVQTransformer, small_clips: Corpus) -> None:
    clips = [small_clips.clip(i)[:20] for i in range(3)]
    checks = compare_float_passes(small_lm, clips)
    assert [check.logits for check in checks] == [3 * 20 * 3 * 64] * 3
    assert {check.cdf_rows for check in checks} == {3 * 20 * 3}
    doubled = compare_float_passes(small_lm.double(), clips)
    small_lm.float()
    # in float64 rounding is far below what float32 shows, and most CDFs agree
    assert all(check.differing_cdf_percent < 1 for check in doubled)


def test_clips_of_several_lengths_are_no_batch(
    small_exact: ExactLM, small_lm: RVQTransformer, small_clips: Corpus
) -> None:
    clips = [small_clips.clip(0), small_clips.clip(1)]
    with pytest.raises(UnsupportedInput, match="one length"):
        compare_evaluators(small_exact, clips)
    with pytest.raises(UnsupportedInput, match="one length"):
        compare_float_passes(small_lm, clips)


def test_threads_are_set_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(2):
        raise KeyError
    assert torch.get_num_threads() == before
