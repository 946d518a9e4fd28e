import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from codecbook import paths
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.tokens.text import TextTokens, load_gpt2_bpe, train_bpe

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
TRANSCRIPTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog sat there"] * 3


def text_of(bpe, ids):
    """Return the text of ids, by the decoder of the package `tokenizers`."""
    return decoders.ByteLevel().decode([bpe._tokenizer.id_to_token(int(i)) for i in ids])


@pytest.fixture(scope="module")
def small():
    return train_bpe(TRANSCRIPTS, vocabulary_size=280)


@pytest.fixture(scope="module")
def gpt2_folder():
    extra = paths.extra_dir()
    folder = extra / "data" / "gpt2_bpe" if extra else None
    if folder is None or not folder.is_dir():
        pytest.skip("GPT-2's vocabulary needs CODECBOOK_EXTRA with data/gpt2_bpe")
    return folder


@PROPERTY
@given(st.text())
def test_any_text_comes_back(small, text):
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(UnsupportedInput, match="UTF-8"):
            small.encode(text)
        return
    ids = small.encode(text)
    assert ids.dtype == np.int64
    assert text_of(small, ids) == text
    assert ids.size <= len(text.encode())
    assert (ids < small.vocabulary_size - 1).all(), "the last id ends a text"


@pytest.mark.parametrize(
    "text", ["", " ", "  two  spaces\n\n\ttab ", "<|endoftext|>", "\x00\x7f", "é e\u0301 ﬁ", "👩‍👩‍👧 日本語"]
)
def test_hard_texts_come_back(small, text):
    assert text_of(small, small.encode(text)) == text


def test_training_merges_what_is_frequent_and_repeats(small):
    assert len(small.encode("the cat sat")) < len("the cat sat") / 2
    again = train_bpe(iter(TRANSCRIPTS), vocabulary_size=280)
    assert again.vocabulary_size == small.vocabulary_size <= 280
    np.testing.assert_array_equal(again.encode("a dog on the mat"), small.encode("a dog on the mat"))


def test_smallest_vocabulary_is_bytes():
    bpe = train_bpe(TRANSCRIPTS, vocabulary_size=257)
    assert bpe.vocabulary_size == 257
    assert len(bpe.encode("thé")) == 4


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_text_needs_a_duration(duration_s):
    with pytest.raises(UnsupportedInput, match="duration_s"):
        TextTokens(np.array([1]), 10, duration_s)


def test_unusable_training_is_refused():
    with pytest.raises(UnsupportedInput, match="257"):
        train_bpe(TRANSCRIPTS, vocabulary_size=256)
    with pytest.raises(UnsupportedInput, match="empty"):
        train_bpe(["", ""])


def test_gpt2_ids(gpt2_folder):
    bpe = load_gpt2_bpe(gpt2_folder)
    assert bpe.vocabulary_size == 50_257
    # known ids of GPT-2's tokenizer
    assert bpe.encode("Hello world").tolist() == [15496, 995]
    for text in ("And so, my fellow Americans", "<|endoftext|>", "日本語 👍\r\n"):
        assert text_of(bpe, bpe.encode(text)) == text


def test_damaged_gpt2_files_are_refused(gpt2_folder, tmp_path):
    with pytest.raises(MissingInput, match=r"encoder\.json"):
        load_gpt2_bpe(tmp_path)
    shutil.copy(gpt2_folder / "vocab.bpe", tmp_path / "vocab.bpe")
    for content in ({"a": 0}, {"<|endoftext|>": 50_256}):
        (tmp_path / "encoder.json").write_text(json.dumps(content))
        with pytest.raises(CorruptInput, match="No vocabulary could be read"):
            load_gpt2_bpe(tmp_path)
