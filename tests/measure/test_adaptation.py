"""What a bias that learns within a segment saves: something where there is something to learn, and else nothing."""

import numpy as np
import pytest

from codecbook.coding import default_lm
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.data.corpus import Corpus
from codecbook.measure.rates import adaptation as measured
from codecbook.tokens import Tokens


@pytest.fixture(scope="module")
def model():
    return default_lm("fsq_50hz_mini").model


def test_codes_of_which_the_model_knows_nothing_are_learned(model) -> None:
    held_out = bundled_tokens("fsq_50hz").held_out
    clips = held_out.subset(held_out.clips[::9])
    found = measured.adaptation(clips, model, 2.0, {})
    assert found.tokens == 2 * clips.num_tokens
    assert found.mismatches == 0
    assert found.relabelled_percent.above(0)
    assert found.relabelled_percent.mean > found.saved_percent.mean
    assert set(found.of_units_percent) == set(clips.clips)
    one_voice = measured.adaptation(clips, model, 2.0, dict.fromkeys(clips.clips, ("speech", "one voice")))
    assert one_voice.saved_percent.count == 1
    assert one_voice.bits_per_token == found.bits_per_token


def test_nothing_is_saved_where_there_is_nothing_to_learn(model) -> None:
    rng = np.random.default_rng(0)
    (size,) = model.codebook_sizes
    drawn = {f"noise {n}": Tokens((rng.integers(0, size, 200),), (size,), (50.0,)) for n in range(4)}
    found = measured.adaptation(Corpus.from_tokens(drawn, "parallel"), model, 2.0, {})
    assert found.mismatches == 0
    assert found.saved_percent.mean < 0.5


def test_a_decoder_that_goes_wrong_is_counted(model, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = bundled_tokens("fsq_50hz").held_out
    clips = held_out.subset(held_out.clips[:1])
    right = measured.decode_many

    def wrong(*arguments, **options):
        (codes, interval_hash), *others = right(*arguments, **options)
        codes[3] ^= 1
        return [(codes, interval_hash), *others]

    monkeypatch.setattr(measured, "decode_many", wrong)
    assert measured.adaptation(clips, model, 2.0, {}).mismatches == 2
