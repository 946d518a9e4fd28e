"""Tokens of text: byte-level BPE, of GPT-2's vocabulary or trained on given transcripts.

    bpe = load_gpt2_bpe("gpt2_bpe")  # or train_bpe(transcripts, vocabulary_size=1024)
    ids = bpe.encode("And so, my fellow Americans")

Byte-level BPE (Sennrich et al. 2016; bytes as in Radford et al. 2019, section 2.2) has a token for every byte, so any
text is encoded without an "unknown" and comes back exactly. Text has no frames: its tokens per second are measured,
tokens over duration, and no `codecbook.tokens.Tokens` are made of it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput

_GPT2_VOCABULARY_SIZE = 50_257
_GPT2_END = "<|endoftext|>"
_BYTES = frozenset(pre_tokenizers.ByteLevel.alphabet())  # the 256 characters that stand for bytes


@dataclass(frozen=True, eq=False)
class TextTokens:
    """Tokens of a clip's transcript."""

    ids: np.ndarray  # int64 [N], 0 <= id < vocabulary_size
    vocabulary_size: int  # V
    duration_s: float  # of the speech

    def __post_init__(self) -> None:
        if not (np.isfinite(self.duration_s) and self.duration_s > 0):
            raise UnsupportedInput(f"duration_s={self.duration_s}; give the length of the speech in seconds, above 0.")


class TextBpe:
    """A byte-level BPE tokenizer.

    Attributes:
        name: Where the vocabulary is from.
        vocabulary_size: ``V``, with one id, the last, that ends a text: no text is encoded with it.
    """

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self._tokenizer = tokenizer
        self.name = name
        self.vocabulary_size = tokenizer.get_vocab_size() + 1

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text, int64 ``[N]``; text without UTF-8 form (lone surrogates) is refused."""
        return np.array(self._tokenizer.encode(_utf8(text), add_special_tokens=False).ids, dtype=np.int64)


def load_gpt2_bpe(folder: str | Path) -> TextBpe:
    """Read GPT-2's vocabulary: ``encoder.json`` and ``vocab.bpe`` in one folder.

    Raises:
        MissingInput: A file is not there.
        CorruptInput: One is damaged, or the vocabulary is another one.
    """
    encoder, merges = (Path(folder) / name for name in ("encoder.json", "vocab.bpe"))
    for path in (encoder, merges):
        if not path.is_file():
            raise MissingInput(f"There is no {path}; give a folder with encoder.json and vocab.bpe of GPT-2.")
    try:
        vocabulary = json.loads(encoder.read_text(encoding="utf-8"))
        if vocabulary.pop(_GPT2_END, None) != _GPT2_VOCABULARY_SIZE - 1:
            raise ValueError(f"{_GPT2_END} is not token {_GPT2_VOCABULARY_SIZE - 1}")
        missing = _BYTES - vocabulary.keys()
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("the ids are not 0 to V - 1, each once")
        lines = merges.read_text(encoding="utf-8").splitlines()
        pairs: list[Any] = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        return TextBpe(_byte_level(models.BPE(vocabulary, pairs)), "GPT-2")
    # the package raises plain Exception for merges that do not fit the vocabulary
    except Exception as error:
        raise CorruptInput(f"No vocabulary could be read in {folder} ({error}); copy GPT-2's files again.") from error


def train_bpe(texts: Iterable[str], vocabulary_size: int = 1024) -> TextBpe:
    """Train a vocabulary on the texts of a training set alone; equal texts give an equal vocabulary.

    It has ``V`` tokens at most, at least 257: the bytes and the end of text. Few texts may give fewer, as only pairs
    that occur twice are merged. Raises UnsupportedInput: too small a vocabulary, no text, or text without UTF-8 form.
    """
    if vocabulary_size < len(_BYTES) + 1:
        raise UnsupportedInput(f"vocabulary_size={vocabulary_size} has no room for all bytes; choose 257 or more.")
    checked = [_utf8(text) for text in texts]
    if not any(checked):
        raise UnsupportedInput(f"The {len(checked)} texts are all empty; give transcripts to train on.")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 1, min_frequency=2, show_progress=False, initial_alphabet=sorted(_BYTES)
    )
    tokenizer = _byte_level(models.BPE())
    tokenizer.train_from_iterator(checked, trainer)
    return TextBpe(tokenizer, f"BPE trained on {len(checked)} transcripts")


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    # no prefix space: it would come back as part of the text
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedInput(f"The text has no UTF-8 form ({error}); repair it.") from error
    return text
